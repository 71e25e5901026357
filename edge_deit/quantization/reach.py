"""How far errors of each layer's weights reach into the output, along its inputs and its outputs.

For logits y and an error E (O, C) of a layer's weights, the noise is the sum over photos of ||dy/dW E||^2.
With a random vector u of unit variance and M = d(u y)/dW (O, C) it is the mean of <M, E>^2, so the second
moments of M say all about it. They are kept as two factors: M^T M (C, C) for the columns of W and M M^T
(O, O) for its rows, summed over photos and vectors; the noise of E is then about tr(rows E columns E^T).

Each photo is seen as it is, and in cut-outs of it that may be mirrored: more of what the layers read at no
further photos.

Source: YAQA, arXiv 2505.22988, the sketch with gradients of whole weights.

Shapes: O output channels, C input channels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from edge_deit.model.form import DeployDeiT, quantizable_layers

__all__ = ["Reach", "cut_out", "passes", "reach_of"]

_CUT_OUTS: Final = 2  # of each photo, beside itself
_VECTORS: Final = 2  # for each look at a photo
_LEAST_SIDE: Final = 0.65  # of a cut-out, in sides of the photo


@dataclass(frozen=True)
class Reach:
    """Second moments of one layer's weight gradients: of its rows (O, O) and its columns (C, C)."""

    rows: Tensor
    columns: Tensor


def passes(photos: int) -> int:
    """How often `reach_of` calls `on_photo` for so many photos."""
    return photos * (1 + _CUT_OUTS)


def reach_of(
    form: DeployDeiT,
    photos: Sequence[Tensor],
    *,
    seed: int = 0,
    on_photo: Callable[[], None] = lambda: None,
) -> dict[str, Reach]:
    """Every quantizable layer's, on photos (1, 3, H, W); `form` is not changed."""
    model = copy.deepcopy(form)
    weights = {n: model.get_submodule(n).get_parameter("weight") for n in quantizable_layers(model)}
    for weight in weights.values():
        weight.requires_grad_()
    found = {name: _empty(weight.flatten(1)) for name, weight in weights.items()}
    generator = torch.Generator().manual_seed(seed)
    for photo in _looks(photos, generator):
        output = model(photo)
        for left in range(_VECTORS - 1, -1, -1):
            vector = torch.randn(output.shape, generator=generator)
            gradients = torch.autograd.grad(
                (output * vector).sum(), list(weights.values()), retain_graph=left > 0
            )
            for one, gradient in zip(found.values(), gradients, strict=True):
                flat = gradient.flatten(1)
                one.rows.addmm_(flat, flat.T)
                one.columns.addmm_(flat.T, flat)
        on_photo()
    return found


def cut_out(photo: Tensor, generator: torch.Generator) -> Tensor:
    """A random square of a photo (1, 3, H, W), as large as the photo again, mirrored half of the time."""
    height, width = photo.shape[2:]
    share = _LEAST_SIDE + (1 - _LEAST_SIDE) * float(torch.rand((), generator=generator))
    size = max(1, int(height * share)), max(1, int(width * share))
    top, left = (
        int(torch.randint(0, whole - part + 1, (), generator=generator))
        for whole, part in zip((height, width), size, strict=True)
    )
    part = photo[..., top : top + size[0], left : left + size[1]]
    whole = F.interpolate(part, (height, width), mode="bilinear", antialias=True)
    return whole.flip(-1) if float(torch.rand((), generator=generator)) < 0.5 else whole


def _looks(photos: Iterable[Tensor], generator: torch.Generator) -> Iterator[Tensor]:
    for photo in photos:
        yield photo
        for _ in range(_CUT_OUTS):
            yield cut_out(photo, generator)


def _empty(weight: Tensor) -> Reach:
    rows, columns = weight.shape
    return Reach(torch.zeros(rows, rows), torch.zeros(columns, columns))
