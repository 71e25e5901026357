"""Lookup tables for weights: where their entries lie, and which entry each weight takes.

Source of the assignment: GPTQ, arXiv 2210.17323, algorithm 1, with 'nearest entry of the table' in
place of 'nearest integer'.

Shapes: O output channels, C input channels, K entries of the table, n = O C weights.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from edge_deit.quantization.rounding import carried_factor, carry_errors

__all__ = ["carried_indices", "spread_table"]

_ROUNDS: Final = 40


def spread_table(values: Tensor, weights: Tensor, entries: int) -> Tensor:
    """A table (K,), ascending, that is near the values (n,), each counted as often as `weights` says.

    Lloyd's algorithm. The first entries lie as dense as the cube root of the values' own density, which is
    best for many of them. No more different values than entries are all kept.
    """
    values, order = values.double().sort(stable=True)
    weights = weights.double()[order]
    different = torch.cat([values[:1], values[1:][values.diff() > 0]])
    if len(different) <= entries:
        return torch.cat([different, different[-1:].expand(entries - len(different))])
    table = _first_entries(values, weights, entries)
    mass = torch.cat([values.new_zeros(1), weights.cumsum(0)])  # (n + 1,)
    moment = torch.cat([values.new_zeros(1), (weights * values).cumsum(0)])
    for _ in range(_ROUNDS):
        ends = torch.searchsorted(values, _borders(table))  # (K - 1,)
        edges = torch.cat([ends.new_zeros(1), ends, ends.new_full((1,), len(values))])
        masses, moments = mass[edges].diff(), moment[edges].diff()
        table = torch.where(masses > 0, moments / masses.clamp_min(1e-300), table)
        table = table.sort().values
    return table


def _first_entries(values: Tensor, weights: Tensor, entries: int) -> Tensor:
    """Entries (K,) at equal steps of the integral of (density * weight)^(1/3)."""
    gaps = values.diff().pow(2 / 3) * (weights[1:] + weights[:-1]).pow(1 / 3)
    way = torch.cat([values.new_zeros(1), gaps.cumsum(0)])
    steps = (torch.arange(entries, dtype=values.dtype) + 0.5) / entries
    places = torch.searchsorted(way, way[-1] * steps)
    return values[places.clamp_max(len(values) - 1)]


def _borders(table: Tensor) -> Tensor:
    """Midpoints (K - 1,) between neighbouring entries."""
    return (table[1:] + table[:-1]) / 2


def carried_indices(weight: Tensor, table: Tensor, moments: Tensor) -> Tensor:
    """Indices (O, C) uint8 for weights (O, C) into a table (K,), ascending, errors carried on.

    `moments` (C, C) are the inputs' second moments.
    """
    order = moments.diagonal().argsort(descending=True, stable=True)
    factor = carried_factor(moments[order][:, order])
    pending = weight.double().T[order].contiguous()  # (C, O)
    table = table.double()
    borders = _borders(table)
    found = torch.empty(pending.shape, dtype=torch.uint8)

    def choose(column: int, value: Tensor) -> Tensor:
        index = torch.searchsorted(borders, value)  # (O,)
        found[column] = index.to(torch.uint8)
        return table[index]

    carry_errors(pending, factor, choose)
    back = torch.empty_like(found)
    back[order] = found
    return back.T.contiguous()
