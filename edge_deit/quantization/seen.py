"""Photos through a form, forward and backward: every layer's input and output, and what errors there do.

Every value is weighed by what an error there does to the model's output. For logits y and a tensor x,
||J e||^2, J = dy/dx, is the noise that an error e of x causes. With a random vector u of unit variance,
g = J^T u has E[g g^T] = J^T J, so for errors that are independent of each other the noise is
sum over elements of E[g^2] e^2: one backward pass a photo gives the weights g^2 of all tensors at once.

Source: the squared gradient as importance, arXiv 2102.05426 (BRECQ), here of the output itself instead of a
loss.

Shapes: N rows (tokens or patches), C channels, K outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import torch
from torch import Tensor, nn

from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.form import DeployDeiT
from edge_deit.model.hooks import watching
from edge_deit.quantization.cores import ALONE, Cores

__all__ = ["SeenLayer", "look_at", "rows"]

_MOST_PHOTOS: Final = 2
_STREAM_VALUES: Final = 2 * 198 * 192  # of all photos that go through a form together


@dataclass(frozen=True)
class SeenLayer:
    """A layer's input and output on one photo as rows (N, C), and the importance g^2 of their values.

    Layers that read one tensor have the same object as `input`. A convolution reads the photo, whose
    importance nobody asks for: None. `cut_importance` is that of GELU's output, where the layer's output is
    GELU's input.
    """

    layer: nn.Module
    input: Tensor
    output: Tensor
    input_importance: Tensor | None
    output_importance: Tensor
    cut_importance: Tensor | None = None


def rows(layer: nn.Module, x: Tensor, *, output: bool = False) -> Tensor:
    """A layer's input or output as rows (N, C); a convolution's input as flattened patches."""
    if not isinstance(layer, nn.Conv2d):
        return x.reshape(-1, x.shape[-1])
    if output:
        return x.flatten(2)[0].T
    size, stride = layer.kernel_size, layer.stride
    patches = nn.functional.unfold(x, (size[0], size[1]), stride=(stride[0], stride[1]))
    return patches[0].T


def look_at(
    form: DeployDeiT,
    photos: Iterable[Tensor],
    layers: Iterable[str],
    seed: int = 0,
    cores: Cores = ALONE,
) -> Iterator[tuple[Tensor, dict[str, SeenLayer]]]:
    """For each photo (1, 3, H, W): the output, and the named layers in the order of the graph.

    One random vector a photo is drawn, seeded, so that equal photos give equal results. Gradients of the
    weights are not computed, nor is anything in `form` changed. On several `cores` the next photos are
    computed while those before are looked at.

    Raises:
        EdgeDeitError: the output is not finite.
    """
    wanted = {name: form.get_submodule(name) for name in layers}
    for group in cores.ahead(_groups(form, photos, wanted, seed)):
        yield from group


def _groups(
    form: DeployDeiT, photos: Iterable[Tensor], wanted: dict[str, nn.Module], seed: int
) -> Iterator[list[tuple[Tensor, dict[str, SeenLayer]]]]:
    """What `look_at` yields, for all photos at once that go through the form together."""
    watched = wanted | {n: m for n, m in form.named_modules() if isinstance(m, nn.GELU)}
    generator = torch.Generator().manual_seed(seed)
    waiting = iter(photos)
    while group := list(islice(waiting, _together(form))):
        held: dict[str, tuple[Tensor, Tensor]] = {}

        def keep(name: str, module: nn.Module, x: Tensor, y: Tensor, held: Any = held) -> None:
            held[name] = x, y

        with watching(watched, keep), torch.enable_grad():
            output = form(torch.cat(group).requires_grad_())
        if not output.isfinite().all():
            raise EdgeDeitError(
                "the model's output is not finite on a calibration photo; check the weights"
            )
        probe = torch.cat([torch.randn(one[None].shape, generator=generator) for one in output])
        importance = _importance((output * probe).sum(), wanted, held)
        yield [
            (one[None], _seen_of(place, len(group), wanted, held, importance))
            for place, one in enumerate(output.detach())
        ]


def _together(form: DeployDeiT) -> int:
    """How many photos go through a form at once: small products of matrices waste a processor's time."""
    config = form.config
    values = config.num_tokens * config.embed_dim  # of a photo's stream
    return max(1, min(_MOST_PHOTOS, _STREAM_VALUES // values))


def _importance(
    scalar: Tensor, wanted: dict[str, nn.Module], held: dict[str, tuple[Tensor, Tensor]]
) -> dict[int, Tensor]:
    """Squared gradients by the identity of the tensor; the photo has none."""
    tensors: dict[int, Tensor] = {}
    for name, (x, y) in held.items():
        tensors[id(y)] = y
        if name in wanted and not isinstance(wanted[name], nn.Conv2d):
            tensors[id(x)] = x
    gradients = list(torch.autograd.grad(scalar, list(tensors.values())))
    gradients.reverse()
    return {key: gradients.pop().square() for key in tensors}  # each makes room for the next


def _seen_of(
    place: int,
    photos: int,
    wanted: dict[str, nn.Module],
    held: dict[str, tuple[Tensor, Tensor]],
    importance: dict[int, Tensor],
) -> dict[str, SeenLayer]:
    """All layers on one photo of those that went through together."""
    inputs: dict[int, Tensor] = {}  # rows of those tensors that were read before

    def mine(x: Tensor) -> Tensor:
        return x.detach().reshape(photos, -1, *x.shape[1:])[place]

    def layer_of(name: str) -> SeenLayer:
        layer, (x, y) = wanted[name], held[name]
        gelu = held.get(f"{name.removesuffix('fc1')}act") if name.endswith("fc1") else None
        of_input = importance.get(id(x))
        cut = None if gelu is None else importance[id(gelu[1])]
        if id(x) not in inputs:
            inputs[id(x)] = rows(layer, mine(x))
        return SeenLayer(
            layer,
            inputs[id(x)],
            rows(layer, mine(y), output=True),
            None if of_input is None else rows(layer, mine(of_input)),
            rows(layer, mine(importance[id(y)]), output=True),
            None if cut is None else rows(layer, mine(cut), output=True),
        )

    return {name: layer_of(name) for name in wanted}
