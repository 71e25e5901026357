"""Rounding of weights to int8 that makes up for its own errors.

Weights are symmetric, -127 to 127, one scale an output channel. Columns are rounded one after the other,
and the error of each is carried into those still to come, in proportion to how the inputs go together:
this minimises the output's error on the calibration photos instead of each weight's own. A backend that
rounds again by the usual rule, greatest magnitude / 127, finds the same integers, because the greatest
weight of each row is kept at 127 steps.

Some kernels add two neighbouring products in 16 bits: those of x86 without VNNI do. Where weights are
rounded for them, a row's step is so large that no two neighbours, each times the greatest uint8, leave that
range: 255 (a + b) lies within -32768 and 32767 where a + b lies within -128 and 128.

How much is carried is limited by a damping: the share of the mean of the moments' diagonal that is added to
it. Moments of few photos show directions without errors that other photos have (`quantization.observe`
says how much is needed).

Source: GPTQ, arXiv 2210.17323, algorithm 1.

Shapes: O output channels, C input channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

__all__ = [
    "GREATEST",
    "LEAST_DAMPING",
    "carried_factor",
    "carry_errors",
    "fits_pairs",
    "int8_scale",
    "pair_scale",
    "round_both",
    "round_in_pairs",
    "round_weights",
]

GREATEST: Final = 127
_GREATEST_PAIR: Final = 128
LEAST_DAMPING: Final = 0.01
_BLOCK: Final = 64  # columns whose errors are carried on together


def int8_scale(weight: Tensor) -> Tensor:
    """Step of each output channel (O,): greatest magnitude / 127."""
    return weight.flatten(1).abs().amax(1).clamp_min(1e-12) / GREATEST


def pair_scale(weight: Tensor) -> Tensor:
    """Step of each output channel (O,) that leaves room for the sum of neighbouring weights of (O, C)."""
    even, odd = weight[:, ::2], weight[:, 1::2]
    even = even[:, : odd.shape[1]]  # the last of an odd number has no neighbour
    up = (even.clamp_min(0) + odd.clamp_min(0)).amax(1)
    down = (even.clamp_max(0) + odd.clamp_max(0)).amin(1)
    return torch.maximum(int8_scale(weight), torch.maximum(up, -down) / _GREATEST_PAIR)


def round_in_pairs(
    weight: Tensor, moments: Tensor | None, damping: float = LEAST_DAMPING
) -> Tensor:
    """Integers (O, C), int8, in steps of `pair_scale`; columns 2i and 2i + 1 are neighbours."""
    if moments is None:  # inputs are taken to be independent and alike
        moments = torch.eye(weight.shape[1])
    steps = _steps(weight, pair_scale(weight))
    return _carried(steps, moments, damping, pairs_from=0).to(torch.int8)


def fits_pairs(integers: Tensor) -> bool:
    """Whether no sum of two neighbours of (O, C) leaves the room that there is."""
    count = integers.shape[1] // 2 * 2
    sums = integers[:, :count:2].int() + integers[:, 1:count:2]
    return bool((sums.abs() <= _GREATEST_PAIR).all())


def round_weights(weight: Tensor, moments: Tensor | None, damping: float = LEAST_DAMPING) -> Tensor:
    """The weights (O, C, ...) as multiples of `int8_scale`, float32.

    `moments` (C, C) are the inputs' second moments; without them each weight is rounded to the nearest.
    """
    scale = int8_scale(weight.double())
    steps = _steps(weight, scale)
    if moments is None:
        integers = steps.round().clamp(-GREATEST, GREATEST)
    else:
        integers = _carried(steps, moments, damping)
    return (integers * scale[:, None]).float().reshape(weight.shape)


def round_both(
    weight: Tensor, moments: Tensor, damping: float = LEAST_DAMPING
) -> tuple[Tensor, Tensor]:
    """What `round_weights` and `round_in_pairs` return for (O, C), in little more time than one of them."""
    scale = int8_scale(weight.double())
    steps = [_steps(weight, scale), _steps(weight, pair_scale(weight))]
    integers = _carried(torch.cat(steps), moments, damping, pairs_from=len(weight))  # (2 O, C)
    plain, paired = integers[: len(weight)], integers[len(weight) :]
    return (plain * scale[:, None]).float(), paired.to(torch.int8)


def _steps(weight: Tensor, scale: Tensor) -> Tensor:
    """The weights (O, C) in units of each output channel's step (O,), float64."""
    return weight.flatten(1).double() / scale[:, None].double()


def _carried(
    steps: Tensor, moments: Tensor, damping: float, *, pairs_from: int | None = None
) -> Tensor:
    """Integers (O, C) for weights in units of their step; columns of great power come first.

    Rows from `pairs_from` on are rounded in pairs.
    """
    order = moments.diagonal().argsort(descending=True)
    factor = carried_factor(moments[order[:, None], order].double(), damping)  # (C, C)
    plain = len(steps) if pairs_from is None else pairs_from
    neighbours = _neighbours(order) if plain < len(steps) else None
    pending = steps.T[order]  # (C, O): a column of the weights is a row here
    own = pending[:, :plain]
    greatest = own.abs() >= GREATEST * (1 - 1e-9)  # stay at 127: the scale is found again
    kept = (GREATEST * own.sign()).to(torch.int8)
    integers = torch.zeros_like(pending)

    def choose(column: int, value: Tensor) -> Tensor:
        rounded = integers[column]
        torch.round(value, out=rounded).clamp_(-GREATEST, GREATEST)
        if plain:
            torch.where(greatest[column], kept[column], rounded[:plain], out=rounded[:plain])
        if neighbours is not None and (other := neighbours[column]) is not None:
            beside, paired = integers[other, plain:], rounded[plain:]
            room_up = _GREATEST_PAIR - beside.clamp_min(0)
            room_down = -_GREATEST_PAIR - beside.clamp_max(0)
            torch.clamp(paired, room_down, room_up, out=paired)
        return rounded

    carry_errors(pending, factor, choose)
    back = torch.empty_like(integers)
    back[order] = integers
    return back.T.contiguous()


def carry_errors(pending: Tensor, factor: Tensor, choose: Callable[[int, Tensor], Tensor]) -> None:
    """Settle the columns of a weight one after the other; they are the rows of `pending` (C, O), changed.

    `choose` is given a column's place and its values (O,), and says what stands for them. The difference
    goes into the columns still to come, by `carried_factor` (C, C) of their moments.
    """
    diagonal = factor.diagonal().tolist()
    for start in range(0, len(pending), _BLOCK):
        stop = min(start + _BLOCK, len(pending))
        errors = pending.new_empty(stop - start, pending.shape[1])
        for column in range(start, stop):
            value, error = pending[column], errors[column - start]
            torch.sub(value, choose(column, value), out=error).div_(diagonal[column])
            pending[column + 1 : stop].addr_(factor[column, column + 1 : stop], error, alpha=-1)
        pending[stop:].addmm_(factor[start:stop, stop:].T, errors, alpha=-1)


def _neighbours(order: Tensor) -> list[int | None]:
    """For each place in the order, that of the neighbouring column; None where there is none."""
    place = {column: index for index, column in enumerate(order.tolist())}
    return [place.get(column ^ 1) for column in order.tolist()]


def carried_factor(moments: Tensor, damping: float = LEAST_DAMPING) -> Tensor:
    """The upper triangular U (C, C) with U^T U = (moments + damping)^-1.

    From the other end: V V^T = moments with V upper triangular, a Cholesky factor of the reversed matrix;
    then U = V^-1, and the inverse itself is never made. Matrices are few at a time, as they may be large.
    """
    reverse = moments.flip(0, 1)
    reverse.diagonal().add_(damping * moments.diagonal().mean().clamp_min(1e-12))
    reverse = torch.linalg.cholesky(reverse)
    identity = torch.eye(len(moments), dtype=moments.dtype)
    factor: Tensor = torch.linalg.solve_triangular(reverse, identity, upper=False)
    return factor.flip(0, 1)
