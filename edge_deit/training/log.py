"""What a training has found so far: a row an epoch, the best epoch, and the sums of the epoch in work.

It is a part of the state, so that a run which goes on has each row once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from edge_deit.training.measure import Measured

__all__ = ["Best", "Log", "Row"]


@dataclass(frozen=True)
class Row:
    """One epoch; the last may be a part of one, and `epoch` then a fraction.

    `learning_rate` is that of its last step, `train_loss` the mean over its photos as they were augmented,
    and `images_per_second` counts training alone. Without validation photos their figures are None.
    """

    epoch: float
    step: int
    learning_rate: float
    train_loss: float
    val_loss: float | None
    val_top1: float | None
    images_per_second: float


@dataclass(frozen=True)
class Best:
    """The row of the best epoch, and what was taken for what: (K, K) int32, rows are true classes."""

    row: int
    confusion: Tensor


@dataclass
class Log:
    """Rows, the best of them by top-1 (the first of equals), and the epoch that is not at its end."""

    rows: list[Row] = field(default_factory=list)
    best: Best | None = None
    loss_sum: float = 0.0
    photos: int = 0
    seconds: float = 0.0

    @property
    def last_step(self) -> int:
        """The step that the last row ends with, 0 before the first."""
        return self.rows[-1].step if self.rows else 0

    @property
    def stale(self) -> int:
        """Epochs since the best one."""
        return len(self.rows) - 1 - self.best.row if self.best else 0

    @property
    def best_row(self) -> Row | None:
        """The row of the best epoch, None without validation photos."""
        return self.rows[self.best.row] if self.best else None

    def hear(self, loss: float, photos: int, seconds: float) -> None:
        """One step more: its mean loss, its photos, how long it took."""
        self.loss_sum += loss * photos
        self.photos += photos
        self.seconds += seconds

    def is_better(self, measured: Measured | None) -> bool:
        """Whether an epoch with these figures is the best so far."""
        if measured is None:
            return False
        row = self.best_row
        return row is None or row.val_top1 is None or measured.top1 > row.val_top1

    def close(
        self, epoch: float, step: int, learning_rate: float, measured: Measured | None
    ) -> None:
        """The epoch ends: a row more, and sums begin anew."""
        better = self.is_better(measured)
        pace = self.photos / self.seconds if self.seconds > 0 else 0.0
        loss = self.loss_sum / max(1, self.photos)
        val_loss = None if measured is None else measured.loss
        val_top1 = None if measured is None else measured.top1
        self.rows.append(Row(epoch, step, learning_rate, loss, val_loss, val_top1, pace))
        if better and measured is not None:
            self.best = Best(len(self.rows) - 1, measured.confusion)
        self.loss_sum, self.photos, self.seconds = 0.0, 0, 0.0

    def to_state(self) -> dict[str, Any]:
        """Plain data and a tensor, for the state file."""
        return {
            "rows": [list(astuple(row)) for row in self.rows],
            "best": None if self.best is None else [self.best.row, self.best.confusion],
            "sums": [self.loss_sum, self.photos, self.seconds],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """The reverse of `to_state`.

        Raises:
            KeyError, TypeError, ValueError: it is not what `to_state` gives.
        """
        self.rows = [Row(*row) for row in state["rows"]]
        for row in self.rows:
            for one in fields(row):
                optional = one.name.startswith("val_") and getattr(row, one.name) is None
                if not optional and type(getattr(row, one.name)) not in (int, float):
                    raise TypeError(f"{one.name} of a row is {getattr(row, one.name)!r}")
        self.best = None
        if state["best"] is not None:
            place, confusion = state["best"]
            if place not in range(len(self.rows)) or not torch.is_tensor(confusion):
                raise ValueError("its best epoch is none of its rows")
            self.best = Best(place, confusion)
        loss_sum, photos, seconds = state["sums"]
        self.loss_sum, self.photos, self.seconds = float(loss_sum), int(photos), float(seconds)
