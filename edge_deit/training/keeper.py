"""What stands in the output folder after each epoch: weights, the log's files, and a line for the user."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edge_deit.common.progress import Progress
from edge_deit.common.progress_lines import in_pace
from edge_deit.data.listing import Photo
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.training.device import Compute
from edge_deit.training.kinds import FloatWeights, Judged, Kind, Learning
from edge_deit.training.log import Log, Row
from edge_deit.training.measure import Measured, measure
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

    They are validated as the file holds them: weights rounded to float16 and computed in float32, or what
    another `kind` makes of what is trained.
    """

    def __init__(
        self,
        output: Path,
        spec: PreprocessSpec,
        labels: tuple[str, ...],
        validation: list[Photo],
        *,
        kind: Kind | None = None,
        epochs: float,
        compute: Compute,
        workers: int,
        progress: Progress,
    ) -> None:
        self.output, self.spec, self.labels, self.validation = output, spec, labels, validation
        self.epochs, self.compute, self.workers = epochs, compute, workers
        self.progress = progress
        self.kind: Kind = kind or FloatWeights(spec, labels)
        self.events = Events(output / "tensorboard")
        self._broken_said = False

    def words(self) -> str:
        """Where training computes, and what is special about it."""
        return " ".join(filter(None, (self.compute.words(), self.kind.words)))

    def measure(self, model: Learning) -> Measured | None:
        """Validate the weights; None without validation photos."""
        if not self.validation:
            return None
        return self.of(self.kind.stored(model), self.validation, "validation")

    def of(self, model: Judged, photos: list[Photo], what: str) -> Measured:
        """Measure what a file computes on photos; those that cannot be read are said."""
        with self.progress.task(what, len(photos), unit="photos") as advance:
            found = measure(
                self.compute.place(model),
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

    def keep(self, model: Learning, *, best: bool) -> None:
        """Write the weights as the last ones, and as the result where they are the best so far."""
        if self.validation:
            self.write(model, LAST)
        if best:
            self.write(model, RESULT)

    def write(self, model: Learning, name: str) -> Path:
        """Write weights into the output folder, whole or not at all.

        With a new result goes what was said of the former one.
        """
        path = self.output / name
        if name == RESULT:
            for about in (ACCURACY, PAGE):
                (self.output / about).unlink(missing_ok=True)
        self.kind.write(path, model)
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
