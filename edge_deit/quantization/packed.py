"""Weights of a layer in few bits, as a file stores them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["GroupedWeight", "PackedWeight", "TableWeight"]


@dataclass(frozen=True)
class GroupedWeight:
    """Integers with a scale for each group of neighbouring input channels: weight = integer * scale.

    `integers` (O, C) int8, from -2^(bits-1) to 2^(bits-1) - 1; `scales` (O, G) float32, each for
    C / G channels.
    """

    bits: int
    integers: Tensor
    scales: Tensor

    @property
    def group(self) -> int:
        """Input channels that share a scale."""
        return self.integers.shape[1] // self.scales.shape[1]

    def weight(self) -> Tensor:
        """(O, C) float32."""
        return self.integers.float() * self.scales.repeat_interleave(self.group, 1)


@dataclass(frozen=True)
class TableWeight:
    """Indices into tables: `indices` (O, C) uint8 below 2^bits, `tables` (T, 2^bits) float32.

    Each table is for O / T neighbouring output channels.
    """

    bits: int
    indices: Tensor
    tables: Tensor

    def weight(self) -> Tensor:
        """(O, C) float32."""
        each = self.indices.shape[0] // self.tables.shape[0]
        rows = self.tables.repeat_interleave(each, 0)
        return rows.gather(1, self.indices.long())


PackedWeight = GroupedWeight | TableWeight
