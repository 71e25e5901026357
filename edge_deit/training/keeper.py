"""What stands in the output folder after each epoch: weights, the log's files, and a line for the user."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.progress import Progress
from edge_deit.common.progress_lines import in_pace
from edge_deit.data.listing import Photo
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.deit import DeiT
from edge_deit.training.device import Compute
from edge_deit.training.log import Log, Row
from edge_deit.training.measure import Measured, as_stored, measure
from edge_deit.training.page import PAGE
from edge_deit.training.records import METRICS, Events, write_metrics

__all__ = ["ACCURACY", "LAST", "RESULT", "STATE", "Keeper"]

RESULT: Final = "model.safetensors"
"""The weights of the best epoch; without validation photos those of the last step."""

LAST: Final = "last.safetensors"
"""The weights of the last epoch, where the best one is chosen."""

STATE: Final = "state.pt"

ACCURACY: Final = "accuracy.json"
"""What was measured of the result."""


class Keeper:
    """Validates epochs and keeps their weights, the best one's as the result.

    Weights are validated as the file holds them, rounded to float16, and computed in float32.
    """

    def __init__(
        self,
        output: Path,
        spec: PreprocessSpec,
        labels: tuple[str, ...],
        validation: list[Photo],
        *,
        epochs: float,
        compute: Compute,
        workers: int,
        progress: Progress,
    ) -> None:
        self.output, self.spec, self.labels, self.validation = output, spec, labels, validation
        self.epochs, self.compute, self.workers = epochs, compute, workers
        self.progress = progress
        self.events = Events(output / "tensorboard")
        self._broken_said = False

    def measure(self, model: DeiT) -> Measured | None:
        """Validate the weights; None without validation photos."""
        return self.of(model, self.validation, "validation") if self.validation else None

    def of(self, model: DeiT, photos: list[Photo], what: str) -> Measured:
        """Measure the weights on photos; those that cannot be read are said."""
        with self.progress.task(what, len(photos), unit="photos") as advance:
            found = measure(
                as_stored(model),
                photos,
                self.spec,
                compute=self.compute,
                workers=self.workers,
                on_photos=advance,
            )
        if found.broken and not (what == "validation" and self._broken_said):
            self._broken_said = self._broken_said or what == "validation"
            self.progress.note(
                f"left out of {what}: {len(found.broken)} of {len(photos)} photos; {found.broken[0]}"
            )
        return found

    def keep(self, model: DeiT, *, best: bool) -> None:
        """Write the weights as the last ones, and as the result where they are the best so far."""
        if self.validation:
            self.write(model, LAST)
        if best:
            self.write(model, RESULT)

    def write(self, model: DeiT, name: str) -> Path:
        """Write weights into the output folder, whole or not at all.

        With a new result goes what was said of the former one.
        """
        path = self.output / name
        if name == RESULT:
            for about in (ACCURACY, PAGE):
                (self.output / about).unlink(missing_ok=True)
        save_checkpoint(path, model, self.spec, self.labels, half=True)
        return path

    def tell(self, log: Log) -> None:
        """metrics.csv, TensorBoard's events, and a line."""
        write_metrics(self.output / METRICS, log)
        row = log.rows[-1]
        self.events.add(log)
        self.progress.note(_line(row, self.epochs, best=log.best_row is row))


def _line(row: Row, epochs: float, *, best: bool) -> str:
    """An epoch in a line."""
    parts = [f"loss {row.train_loss:.4f}"]
    if row.val_top1 is not None:
        first = " (best so far)" if best else ""
        parts += [
            f"validation loss {row.val_loss:.4f}",
            f"top-1 {100 * row.val_top1:.2f} %{first}",
        ]
    parts.append(in_pace(row.images_per_second, "photos"))
    return f"epoch {row.epoch:g} of {max(epochs, row.epoch):g}: {', '.join(parts)}"
