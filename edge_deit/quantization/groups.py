"""Weights in few bits with a scale for each group of input channels.

Integers go from -2^(bits-1) to 2^(bits-1) - 1. A group's scale is the one of a grid around its greatest
weight that leaves the least square error, each input channel as heavy as it is for the output. Weights are
then rounded one after the other, column by column and in a column row by row. The error of each goes into
the weights still to come, along both sides as far as errors reach (`quantization.reach`): what an error
does to the logits is then made up for by other inputs of the same output, and by other outputs.
Scales have the eight digits of bfloat16, in which XNNPACK holds them.

Source: GPTQ, arXiv 2210.17323, algorithm 1, along the columns; along both sides: YAQA, arXiv 2505.22988.

Shapes: L layers, O output channels, C input channels, G groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from edge_deit.quantization.packed import GroupedWeight
from edge_deit.quantization.reach import Reach

__all__ = [
    "GROUP",
    "group_of",
    "in_whole_groups",
    "pack_in_groups",
    "rounded_steps",
    "short_scale",
]

GROUP: Final = 32
"""Input channels that share a scale: the smallest group that XNNPACK takes."""

_SHARES: Final = (0.55, 1.05, 24)  # of the greatest weight: least, greatest, how many are tried
_LEAST_SCALE: Final = 2.0**-17
_BLOCK: Final = 32  # rows or columns whose errors are carried on together
_DAMPING: Final = (1.0, 0.2)  # added to the diagonals of rows and columns, in shares of their means


def group_of(channels: int, bits: int) -> int:
    """Input channels that share a scale: 8-bit weights have one a row, and so has an odd number of them."""
    return GROUP if bits < 8 and channels % GROUP == 0 else channels


def in_whole_groups(layer: nn.Module) -> bool:
    """Whether runtimes take a layer's weights in 4 bits: a Linear whose inputs fill whole groups."""
    return isinstance(layer, nn.Linear) and layer.in_features % GROUP == 0


def rounded_steps(steps: Tensor, bits: int) -> Tensor:
    """The nearest integers that there are, of the same type and shape; 8 bits leave -128 out."""
    greatest = 2 ** (bits - 1) - 1
    return steps.round().clamp(-greatest - (bits < 8), greatest)


def short_scale(scale: Tensor) -> Tensor:
    """Scales with the digits of bfloat16, of the same type and shape; none that half precision rounds."""
    return scale.clamp_min(_LEAST_SCALE).bfloat16().to(scale.dtype)


def pack_in_groups(
    weights: Mapping[str, Tensor], bits: Mapping[str, int], reach: Mapping[str, Reach]
) -> dict[str, GroupedWeight]:
    """Weights (O, C, ...) by name, in as many bits as each has there.

    Layers without `reach`, and those of 8 bits, are rounded to the nearest.
    """
    flat = {name: weight.detach().flatten(1).double() for name, weight in weights.items()}
    found: dict[str, GroupedWeight] = {}
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, weight in flat.items():
        if name in reach and bits[name] < 8:
            alike.setdefault((*weight.shape, bits[name]), []).append(name)
        else:
            found[name] = _nearest(weight, bits[name])
    for names in alike.values():
        found |= _carried([(name, flat[name], reach[name]) for name in names], bits[names[0]])
    return {name: found[name] for name in weights}


def _nearest(weight: Tensor, bits: int) -> GroupedWeight:
    group = group_of(weight.shape[1], bits)
    scales = _scales(weight, weight.new_ones(weight.shape[1]), group, bits)
    integers = rounded_steps(weight / scales.repeat_interleave(group, 1), bits)
    return GroupedWeight(bits, integers.to(torch.int8), scales.float())


def _scales(weight: Tensor, power: Tensor, group: int, bits: int) -> Tensor:
    """(O, G): the scale of least error, weighed by `power` (C,), of each group."""
    parts = weight.reshape(len(weight), -1, group)  # (O, G, C / G)
    heavy = power.reshape(1, -1, group)
    whole = parts.abs().amax(-1).clamp_min(1e-9) / (2 ** (bits - 1) - 1)
    best, chosen = torch.full_like(whole, torch.inf), short_scale(whole)
    least, greatest, count = _SHARES
    for share in torch.linspace(least, greatest, count).tolist():
        scale = short_scale(whole * share)
        steps = rounded_steps(parts / scale[..., None], bits)
        error = ((steps * scale[..., None] - parts).square() * heavy).sum(-1)
        chosen = torch.where(error < best, scale, chosen)
        best = torch.minimum(error, best)
    return chosen


def _carried(layers: Sequence[tuple[str, Tensor, Reach]], bits: int) -> dict[str, GroupedWeight]:
    """Layers of one shape together: what is done for each weight in turn is done for all at once."""
    group = group_of(layers[0][1].shape[1], bits)
    sides = [_Side(torch.stack([r.rows for *_, r in layers]), _DAMPING[0])]
    sides.append(_Side(torch.stack([r.columns for *_, r in layers]), _DAMPING[1]))
    scales = [_scales(w, r.columns.diagonal().double(), group, bits) for _, w, r in layers]
    rows, columns = sides
    weight = rows.sorted(columns.sorted(torch.stack([w for _, w, _ in layers]), 2), 1)
    wide = torch.stack(scales).repeat_interleave(group, 2)
    steps = rows.sorted(columns.sorted(wide, 2), 1)
    integers = _round(weight.transpose(1, 2), steps.transpose(1, 2), rows, columns, bits)
    whole = rows.back(columns.back(integers.transpose(1, 2), 2), 1).to(torch.int8)
    return {
        name: GroupedWeight(bits, whole[place].contiguous(), scales[place].float())
        for place, (name, *_) in enumerate(layers)
    }


class _Side:
    """One side's moments (L, N, N), damped: their order, and the factor that carries errors on."""

    def __init__(self, moments: Tensor, damping: float) -> None:
        moments = moments.double()
        diagonal = moments.diagonal(dim1=1, dim2=2)
        identity = torch.eye(moments.shape[1], dtype=moments.dtype).expand_as(moments)
        mean = diagonal.mean(1).clamp_min(1e-12)
        damped = moments + (damping * mean)[:, None, None] * identity
        self._order = diagonal.argsort(dim=1, descending=True, stable=True)  # (L, N)
        damped = self.sorted(self.sorted(damped, 2), 1)
        reverse = torch.linalg.cholesky(damped.flip(1, 2)).flip(1, 2)
        factor = torch.linalg.solve_triangular(reverse, identity, upper=True)
        self.factor = factor / factor.diagonal(dim1=1, dim2=2)[..., None]  # (L, N, N), ones inside

    def sorted(self, values: Tensor, dim: int) -> Tensor:
        """Values (L, ...) with those of great power first along a dimension."""
        return values.gather(dim, self._places(self._order, values, dim))

    def back(self, values: Tensor, dim: int) -> Tensor:
        """The inverse of `sorted`."""
        return values.gather(dim, self._places(self._order.argsort(dim=1), values, dim))

    @staticmethod
    def _places(order: Tensor, values: Tensor, dim: int) -> Tensor:
        return order.unsqueeze(3 - dim).expand_as(values)


def _round(weight: Tensor, steps: Tensor, rows: _Side, columns: _Side, bits: int) -> Tensor:
    """Integers (L, C, O) for weights (L, C, O), sorted, whose scales are `steps`."""
    pending, integers = weight.contiguous().clone(), torch.empty_like(weight)
    along = rows.factor.permute(1, 2, 0).contiguous()  # (O, O, L)
    count = weight.shape[1]
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        errors = pending.new_empty(len(pending), stop - start, pending.shape[2])
        for column in range(start, stop):
            step = steps[:, column]
            found = _round_column(pending[:, column].T, step.T, along, bits).T  # (L, O)
            integers[:, column] = found
            error = pending[:, column] - found * step
            errors[:, column - start] = error
            later = columns.factor[:, column, column + 1 : stop]  # (L, columns to come)
            pending[:, column + 1 : stop] -= later[:, :, None] * error[:, None]
        pending[:, stop:] -= columns.factor[:, start:stop, stop:].transpose(1, 2) @ errors
    return integers


def _round_column(column: Tensor, steps: Tensor, along: Tensor, bits: int) -> Tensor:
    """Integers (O, L) of one column (O, L) of each layer, errors carried on along `along` (O, O, L)."""
    pending, found = column.contiguous().clone(), torch.empty_like(column)
    steps = steps.contiguous()
    for start in range(0, len(pending), _BLOCK):
        stop = min(start + _BLOCK, len(pending))
        errors = pending.new_empty(stop - start, pending.shape[1])
        for row in range(start, stop):
            found[row] = rounded_steps(pending[row] / steps[row], bits)
            error = pending[row] - found[row] * steps[row]
            errors[row - start] = error
            pending[row + 1 : stop] -= along[row, row + 1 : stop] * error
        later = along[start:stop, stop:]  # (rows, rows to come, L)
        pending[stop:] -= (later * errors[:, None]).sum(0)
    return found
