"""The mean error that rounding leaves in each output channel, taken from the layer's bias.

A layer is linear, so its mean output follows from its mean input, the rounded as the exact one, and neither
has to be computed.

Source: arXiv 1906.04721, section 4.2.

Shapes: N rows, C input channels, O output channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from edge_deit.model.form import DeployDeiT
from edge_deit.model.hooks import watching
from edge_deit.quantization.fakequant import round_activation
from edge_deit.quantization.observe import rows
from edge_deit.quantization.pairs import PairedLayer
from edge_deit.quantization.scheme import LayerRanges, Range

__all__ = ["correct_biases"]


def correct_biases(
    exact: DeployDeiT,
    rounded: DeployDeiT,
    ranges: Mapping[str, LayerRanges],
    photos: Iterable[Tensor],
    on_photo: Callable[[], None] = lambda: None,
    *,
    paired: Mapping[str, PairedLayer] | None = None,
) -> None:
    """Correct the biases of `rounded` and `paired`, in place; `exact` has nothing rounded."""
    layers = {name: exact.get_submodule(name) for name in ranges}
    sums: dict[str, tuple[Tensor, Tensor]] = {}  # of the exact and the rounded input, (C,) each
    done: dict[tuple[int, Range], tuple[Tensor, Tensor]] = {}  # several layers may read one tensor
    held: list[Tensor] = []  # as long as a tensor lives, no other has its identity

    def look(name: str, layer: nn.Module, x: Tensor, y: Tensor) -> None:
        key = id(x), ranges[name].input
        if key not in done:
            held.append(x)
            both = rows(layer, x), rows(layer, round_activation(x, key[1]))
            done[key] = both[0].mean(0).double(), both[1].mean(0).double()
        old = sums.get(name, (0.0, 0.0))
        sums[name] = old[0] + done[key][0], old[1] + done[key][1]

    count = 0
    with watching(layers, look), torch.inference_mode():
        for photo in photos:
            exact(photo)
            done.clear()
            held.clear()
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


def _weight(form: DeployDeiT, name: str) -> Tensor:
    return form.get_submodule(name).get_parameter("weight").detach().flatten(1).double()  # (O, C)
