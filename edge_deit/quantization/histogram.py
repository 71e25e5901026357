"""A weighed histogram of a tensor's values, whose span grows with what is shown to it.

Shapes: B bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

__all__ = ["BINS", "Histogram"]

BINS: Final = 8192
"""At least half of them lie between the least and the greatest value, once there are some."""
_SMALLEST_SPAN: Final = 1e-12


def _empty() -> Tensor:
    return torch.zeros(BINS, dtype=torch.float64)


@dataclass
class Histogram:
    """Importance (B,) and count (B,) of a tensor's values. Zero lies inside the span.

    Bin i holds what lies between `first + i` and `first + i + 1` times `step`. `cut_importance` weighs
    errors of values that a range cuts off. It is the importance itself, but for GELU's input: there it is
    that of GELU's output, because where GELU is flat the slope says nothing about a large error.
    """

    before_gelu: bool = False
    step: float = 0.0
    first: int = 0
    least: float = 0.0
    greatest: float = 0.0
    importance: Tensor = field(default_factory=_empty)
    cut_importance: Tensor = field(default_factory=_empty)
    count: Tensor = field(default_factory=_empty)

    @property
    def centres(self) -> Tensor:
        """Middle of each bin (B,)."""
        return self.step * (torch.arange(BINS, dtype=torch.float64) + (self.first + 0.5))

    def add(
        self,
        values: Tensor,
        importance: Tensor,
        cut_importance: Tensor | None = None,
        ends: tuple[float, float] | None = None,
    ) -> None:
        """Count values, all of the same shape; without `cut_importance` it is the importance.

        `ends` are the least and the greatest value, for those who know them.
        """
        self._reach(*(ends or (float(end) for end in values.aminmax())))
        # 16-bit places and float weights: a third of the time that the defaults take
        place = torch.sub(values.flatten(), self.first * self.step).mul_(1 / self.step)
        place = place.to(torch.int16).clamp_(0, BINS - 1)
        found = torch.bincount(place, importance.flatten(), BINS)
        self.importance += found
        if cut_importance is not None:
            found = torch.bincount(place, cut_importance.flatten(), BINS)
        self.cut_importance += found
        self.count += torch.bincount(place, minlength=BINS)

    def _reach(self, least: float, greatest: float) -> None:
        """Widen the span; bins become two, four ... times as wide where there would be too many."""
        self.least, self.greatest = min(self.least, least), max(self.greatest, greatest)
        span = max(self.greatest - self.least, _SMALLEST_SPAN)
        if not self.step:
            self.step = 2 * span / BINS
        step = self.step
        while span >= step * (BINS - 2):
            step *= 2
        low, high = math.floor(self.least / step), math.floor(self.greatest / step)
        if step == self.step and self.first <= low and high < self.first + BINS:
            return
        first = low - (BINS - 1 - (high - low)) // 2
        place = (self.centres / step).floor().long().sub_(first).clamp_(0, BINS - 1)
        for name in ("importance", "cut_importance", "count"):
            setattr(self, name, _empty().index_add_(0, place, getattr(self, name)))
        self.step, self.first = step, first
