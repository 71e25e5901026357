"""What a training leaves at its end: the weights, accuracy.json, training.html."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import write_text
from edge_deit.data.listing import Photo
from edge_deit.report.html import no_html
from edge_deit.training.keeper import ACCURACY, LAST, RESULT, Keeper
from edge_deit.training.kinds import Learning
from edge_deit.training.log import Log
from edge_deit.training.measure import Measured
from edge_deit.training.page import PAGE, Story, write_training_page
from edge_deit.training.recipe import Recipe
from edge_deit.training.records import METRICS, write_metrics

__all__ = ["Finetuned", "finish"]


@dataclass(frozen=True)
class Finetuned:
    """The checkpoint that was written, its classes, and what photos say about it.

    `top1` is the share of `images` validation photos that are classified rightly, between 0 and 1, None
    without such photos. As the best epoch, `epoch` of `epochs` trained, was chosen by it, it flatters a
    little; `test_top1`, of `test_images` photos that chose nothing, does not. `page` is training.html,
    None where jinja2 or matplotlib is missing.
    """

    path: Path
    labels: tuple[str, ...]
    images: int
    top1: float | None
    epoch: float
    epochs: float
    test_images: int = 0
    test_top1: float | None = None
    page: Path | None = None


def finish(
    model: Learning, log: Log, keeper: Keeper, testing: list[Photo], recipe: Recipe, photos: int
) -> Finetuned:
    """Write what is left to write, and measure the photos of `testing` with the weights that were kept.

    Raises:
        EdgeDeitError: the weights of the best epoch have gone, or no photo of `testing` can be read.
    """
    path, best = keeper.output / RESULT, log.best_row
    write_metrics(keeper.output / METRICS, log)
    if best is None:
        keeper.write(model, RESULT)
        (keeper.output / LAST).unlink(missing_ok=True)  # an earlier run's, with other weights
    elif not path.is_file():
        raise EdgeDeitError(
            f"{path}, the weights of epoch {best.epoch:g}, has gone; {LAST} has those of the last epoch"
        )
    tested = None
    if testing:
        tested = keeper.of(keeper.kind.read(path), testing, "test")
    images = int(log.best.confusion.sum()) if log.best else 0
    _write_figures(keeper.output / ACCURACY, log, images, tested)
    test_images, test_top1 = (tested.images, tested.top1) if tested else (0, None)
    page = keeper.output / PAGE
    if reason := no_html(PAGE):
        keeper.progress.note(reason)
    else:
        steps, words = recipe.steps(photos), keeper.words()
        labels = keeper.labels
        write_training_page(
            page, Story(log, labels, recipe, steps, photos, words, test_images, test_top1)
        )
    return Finetuned(
        path,
        keeper.labels,
        images=images,
        top1=best.val_top1 if best else None,
        epoch=(best or log.rows[-1]).epoch,
        epochs=log.rows[-1].epoch,
        test_images=test_images,
        test_top1=test_top1,
        page=None if reason else page,
    )


def _write_figures(path: Path, log: Log, images: int, tested: Measured | None) -> None:
    """The shares of right answers; no file where nothing was measured."""
    figures: dict[str, float] = {}
    if (best := log.best_row) is not None and best.val_top1 is not None:
        figures = {"images": images, "top1": round(best.val_top1, 4), "epoch": best.epoch}
    if tested:
        figures |= {"test_images": tested.images, "test_top1": round(tested.top1, 4)}
    if figures:
        write_text(path, json.dumps(figures) + "\n")
