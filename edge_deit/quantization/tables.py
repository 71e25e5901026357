"""Lookup tables for weights: where their entries lie, and which entry each weight takes.

Source of the assignment: GPTQ, arXiv 2210.17323, algorithm 1, with 'nearest entry of the row's table' in
place of 'nearest integer'.

Shapes: O output channels, C input channels, T tables, K entries of each, n = O C / T weights of a table.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from edge_deit.quantization.rounding import carried_factor

__all__ = ["carried_indices", "nearest_indices", "spread_tables"]

_ROUNDS: Final = 40
_BLOCK: Final = 64  # columns whose errors are carried on together


def spread_tables(values: Tensor, weights: Tensor, entries: int) -> Tensor:
    """Tables (T, K), ascending, that are near the values (T, n), each counted as often as `weights` says.

    Lloyd's algorithm. The first entries lie as dense as the cube root of the values' own density, which is
    best for many of them.
    """
    values, order = values.double().sort(dim=1, stable=True)
    weights = weights.double().gather(1, order)
    tables = _first_entries(values, weights, entries)
    zero = values.new_zeros(len(values), 1)
    mass = torch.cat([zero, weights.cumsum(1)], 1)  # (T, n + 1)
    moment = torch.cat([zero, (weights * values).cumsum(1)], 1)
    for _ in range(_ROUNDS):
        ends = torch.searchsorted(values, _borders(tables))  # (T, K - 1)
        first, last = torch.zeros_like(ends[:, :1]), torch.full_like(ends[:, :1], values.shape[1])
        edges = torch.cat([first, ends, last], 1)
        masses, moments = mass.gather(1, edges).diff(dim=1), moment.gather(1, edges).diff(dim=1)
        tables = torch.where(masses > 0, moments / masses.clamp_min(1e-300), tables)
        tables = tables.sort(1).values
    return tables


def _first_entries(values: Tensor, weights: Tensor, entries: int) -> Tensor:
    """Entries (T, K) at equal steps of the integral of (density * weight)^(1/3)."""
    gaps = values.diff(dim=1).pow(2 / 3) * (weights[:, 1:] + weights[:, :-1]).pow(1 / 3)
    way = torch.cat([values.new_zeros(len(values), 1), gaps.cumsum(1)], 1)
    steps = (torch.arange(entries, dtype=values.dtype) + 0.5) / entries
    places = torch.searchsorted(way, (way[:, -1:] * steps).contiguous())
    return values.gather(1, places.clamp_max(values.shape[1] - 1))


def _borders(tables: Tensor) -> Tensor:
    """Midpoints (T, K - 1) between neighbouring entries."""
    return ((tables[:, 1:] + tables[:, :-1]) / 2).contiguous()


def nearest_indices(weight: Tensor, tables: Tensor) -> Tensor:
    """Indices (O, C) uint8 of the entry of each row's table (O, K) that is nearest to weights (O, C)."""
    return torch.searchsorted(_borders(tables.double()), weight.double()).to(torch.uint8)


def carried_indices(weight: Tensor, tables: Tensor, moments: Tensor) -> Tensor:
    """Indices (O, C) uint8 for weights (O, C) into each row's table (O, K), errors carried on.

    `moments` (C, C) are the inputs' second moments.
    """
    order = moments.diagonal().argsort(descending=True, stable=True)
    factor = carried_factor(moments[order][:, order])
    pending = weight.double().T[order].contiguous()  # (C, O)
    borders, tables = _borders(tables.double()), tables.double()
    found = torch.empty(pending.shape, dtype=torch.uint8)
    for start in range(0, len(pending), _BLOCK):
        stop = min(start + _BLOCK, len(pending))
        errors = pending.new_empty(stop - start, pending.shape[1])
        for column in range(start, stop):
            value = pending[column]
            index = torch.searchsorted(borders, value[:, None])  # (O, 1)
            error = (value - tables.gather(1, index)[:, 0]).div_(factor[column, column])
            found[column] = index[:, 0].to(torch.uint8)
            errors[column - start] = error
            pending[column + 1 : stop].addr_(factor[column, column + 1 : stop], error, alpha=-1)
        pending[stop:].addmm_(factor[start:stop, stop:].T, errors, alpha=-1)
    back = torch.empty_like(found)
    back[order] = found
    return back.T.contiguous()
