"""The log as files: metrics.csv, and TensorBoard's events where that is installed."""

from __future__ import annotations

import csv
import importlib.util
import io
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_deit.common.files import write_text
from edge_deit.training.log import Log, Row

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["METRICS", "Events", "write_metrics"]

METRICS: Final = "metrics.csv"

_DIGITS: Final = {
    "epoch": "g",
    "step": "d",
    "learning_rate": ".6g",
    "train_loss": ".6f",
    "val_loss": ".6f",
    "val_top1": ".6f",
    "images_per_second": ".1f",
}
"""Column -> its format; a figure that is not there is an empty cell."""

_TAGS: Final = {
    "learning_rate": "learning_rate",
    "train_loss": "loss/train",
    "val_loss": "loss/validation",
    "val_top1": "top1/validation",
    "images_per_second": "images_per_second",
}
"""Figure of a row -> what TensorBoard calls it."""


def write_metrics(path: Path, log: Log) -> None:
    """Write all rows anew, whole or not at all: a run that goes on has each epoch once."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_DIGITS)
    for row in log.rows:
        cells = ((getattr(row, name), digits) for name, digits in _DIGITS.items())
        writer.writerow("" if value is None else format(value, digits) for value, digits in cells)
    write_text(path, stream.getvalue())


class Events:
    """TensorBoard's event files in a folder; where tensorboard is not installed, nothing.

    The first rows that are given take the place of what earlier runs wrote there, so that TensorBoard shows
    each epoch once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def add(self, log: Log) -> None:
        """The last row; the first time all rows."""
        if importlib.util.find_spec("tensorboard") is None:
            return
        rows = log.rows[-1:]
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=1)
            rows = log.rows
        for row in rows:
            for name, tag in _TAGS.items():
                if (value := getattr(row, name)) is not None:
                    self._writer.add_scalar(tag, value, row.step)
        self._writer.flush()

    def close(self) -> None:
        """No more rows come."""
        if self._writer is not None:
            self._writer.close()


assert set(_DIGITS) == {one.name for one in fields(Row)}
