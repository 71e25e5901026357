"""Rounding of weights to int8 that makes up for its own errors.

Weights are symmetric, -127 to 127, one scale an output channel. Columns are rounded one after the other,
and the error of each is carried into those still to come, in proportion to how the inputs go together:
this minimises the output's error on the calibration photos instead of each weight's own. A backend that
rounds again by the usual rule, greatest magnitude / 127, finds the same integers, because the greatest
weight of each row is kept at 127 steps: so all files of one model hold the same integers.

Sources: GPTQ, arXiv 2210.17323, algorithm 1; bias correction, arXiv 1906.04721, section 4.2.

Shapes: O output channels, C input channels.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

__all__ = ["GREATEST", "int8_scale", "round_weights"]

GREATEST: Final = 127
_DAMPING: Final = 0.01  # share of the mean of the moments' diagonal that is added to it
_BLOCK: Final = 64  # columns whose errors are carried on together


def int8_scale(weight: Tensor) -> Tensor:
    """Step of each output channel (O,): greatest magnitude / 127."""
    return weight.flatten(1).abs().amax(1).clamp_min(1e-12) / GREATEST


def round_weights(weight: Tensor, moments: Tensor | None) -> Tensor:
    """The weights (O, C, ...) as multiples of `int8_scale`, float32.

    `moments` (C, C) are the inputs' second moments; without them each weight is rounded to the nearest.
    """
    flat = weight.flatten(1).double()
    scale = int8_scale(flat)
    if moments is None:
        integers = (flat / scale[:, None]).round().clamp(-GREATEST, GREATEST)
    else:
        integers = _carried(flat / scale[:, None], moments.double())
    return (integers * scale[:, None]).float().reshape(weight.shape)


def _carried(steps: Tensor, moments: Tensor) -> Tensor:
    """Integers (O, C) for weights in units of their step; columns of great power come first."""
    order = moments.diagonal().argsort(descending=True)
    moments = moments[order][:, order]
    damping = _DAMPING * moments.diagonal().mean().clamp_min(1e-12)
    moments = moments + damping * torch.eye(len(moments), dtype=moments.dtype)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments))
    factor = torch.linalg.cholesky(inverse, upper=True)  # (C, C)
    pending = steps[:, order].clone()
    greatest = pending.abs() >= GREATEST * (
        1 - 1e-9
    )  # stays at 127, so that the scale is found again
    integers = torch.empty_like(pending)
    for start in range(0, pending.shape[1], _BLOCK):
        stop = min(start + _BLOCK, pending.shape[1])
        errors = torch.empty(len(pending), stop - start, dtype=pending.dtype)
        for column in range(start, stop):
            value = pending[:, column]
            rounded = value.round().clamp(-GREATEST, GREATEST)
            kept = greatest[:, column]
            rounded[kept] = GREATEST * steps[kept, order[column]].sign()
            integers[:, column] = rounded
            error = (value - rounded) / factor[column, column]
            errors[:, column - start] = error
            pending[:, column + 1 : stop] -= error[:, None] * factor[column, column + 1 : stop]
        pending[:, stop:] -= errors @ factor[start:stop, stop:]
    back = torch.empty_like(integers)
    back[:, order] = integers
    return back
