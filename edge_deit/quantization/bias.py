"""The mean error that rounding leaves in each output channel, taken from the layer's bias.

A layer is linear, so its mean output follows from its mean input, the rounded as the exact one, and neither
has to be computed.

Source: arXiv 1906.04721, section 4.2.

Shapes: N rows, C input channels, O output channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edge_deit.model.form import DeployDeiT
from edge_deit.model.hooks import watching
from edge_deit.quantization.cores import ALONE, Cores
from edge_deit.quantization.fakequant import round_activation
from edge_deit.quantization.pairs import PairedLayer
from edge_deit.quantization.scheme import LayerRanges, Range
from edge_deit.quantization.seen import rows

__all__ = ["correct_biases"]


def correct_biases(
    exact: DeployDeiT,
    rounded: DeployDeiT,
    ranges: Mapping[str, LayerRanges],
    photos: Iterable[Tensor],
    on_photo: Callable[[], None] = lambda: None,
    *,
    paired: Mapping[str, PairedLayer] | None = None,
    cores: Cores = ALONE,
) -> None:
    """Correct the biases of `rounded` and `paired`, in place; `exact` has nothing rounded."""
    layers = {name: exact.get_submodule(name) for name in ranges}
    sums: dict[str, tuple[Tensor, Tensor]] = {}  # of the exact and the rounded input, (C,) each
    count = 0
    for inputs in cores.ahead(_inputs(exact, layers, photos)):
        readers: dict[tuple[int, Range], list[str]] = {}  # several layers may read one tensor
        for name, x in inputs.items():
            readers.setdefault((id(x), ranges[name].input), []).append(name)

        def means(names: list[str], inputs: dict[str, Tensor] = inputs) -> tuple[Tensor, Tensor]:
            layer, x = layers[names[0]], inputs[names[0]]
            grid = round_activation(x, ranges[names[0]].input)
            return rows(layer, x).mean(0).double(), rows(layer, grid).mean(0).double()

        found = cores.map(means, readers.values())
        for names, (plain, grid) in zip(readers.values(), found, strict=True):
            for name in names:
                old = sums.get(name, (0.0, 0.0))
                sums[name] = old[0] + plain, old[1] + grid
        count += 1
        on_photo()
    with torch.no_grad():
        for name, (plain, grid) in sums.items():
            wanted = _weight(exact, name) @ plain  # (O,)
            error = _weight(rounded, name) @ grid - wanted
            rounded.get_submodule(name).get_parameter("bias").sub_((error / count).float())
            if paired and name in paired:
                weight = paired[name].weight(exact.get_submodule(name).get_parameter("weight"))
                error = weight.double() @ grid - wanted
                paired[name].bias.sub_((error / count).float())


def _inputs(
    exact: DeployDeiT, layers: Mapping[str, nn.Module], photos: Iterable[Tensor]
) -> Iterator[dict[str, Tensor]]:
    """What each layer reads on each photo."""
    for photo in photos:
        held: dict[str, Tensor] = {}

        def keep(name: str, layer: nn.Module, x: Tensor, y: Tensor, held: Any = held) -> None:
            held[name] = x

        with watching(layers, keep), torch.no_grad():
            exact(photo)
        yield held


def _weight(form: DeployDeiT, name: str) -> Tensor:
    return form.get_submodule(name).get_parameter("weight").detach().flatten(1).double()  # (O, C)
