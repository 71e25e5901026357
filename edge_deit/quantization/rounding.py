"""Rounding of weights to int8 that makes up for its own errors.

Weights are symmetric, -127 to 127, one scale an output channel. Columns are rounded one after the other,
and the error of each is carried into those still to come, in proportion to how the inputs go together:
this minimises the output's error on the calibration photos instead of each weight's own. A backend that
rounds again by the usual rule, greatest magnitude / 127, finds the same integers, because the greatest
weight of each row is kept at 127 steps: so all files of one model hold the same integers.

Source: GPTQ, arXiv 2210.17323, algorithm 1.

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
    factor = _inverse_factor(moments[order][:, order])  # (C, C)
    pending = steps[:, order].T.contiguous()  # (C, O): a column of the weights is a row here
    greatest = pending.abs() >= GREATEST * (1 - 1e-9)  # stay at 127: the scale is found again
    kept = GREATEST * pending.sign()
    integers = torch.empty_like(pending)
    for start in range(0, len(pending), _BLOCK):
        stop = min(start + _BLOCK, len(pending))
        errors = pending.new_empty(stop - start, pending.shape[1])
        for column in range(start, stop):
            value = pending[column]
            rounded = value.round().clamp_(-GREATEST, GREATEST)
            rounded = torch.where(greatest[column], kept[column], rounded)
            integers[column] = rounded
            error = torch.sub(value, rounded).div_(factor[column, column])
            errors[column - start] = error
            pending[column + 1 : stop].addr_(factor[column, column + 1 : stop], error, alpha=-1)
        pending[stop:].addmm_(factor[start:stop, stop:].T, errors, alpha=-1)
    back = torch.empty_like(integers)
    back[order] = integers
    return back.T.contiguous()


def _inverse_factor(moments: Tensor) -> Tensor:
    """The upper triangular U (C, C) with U^T U = (moments + damping)^-1.

    From the other end: V V^T = moments with V upper triangular, a Cholesky factor of the reversed matrix;
    then U = V^-1, and the inverse itself is never made.
    """
    damping = _DAMPING * moments.diagonal().mean().clamp_min(1e-12)
    damped = moments + damping * torch.eye(len(moments), dtype=moments.dtype)
    reverse = torch.linalg.cholesky(damped.flip(0, 1)).flip(0, 1)
    identity = torch.eye(len(moments), dtype=moments.dtype)
    factor: Tensor = torch.linalg.solve_triangular(reverse, identity, upper=True)
    return factor
