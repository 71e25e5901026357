"""training.html: how a training went, as one file that needs nothing else, in the look of the reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from edge_deit.common.host import describe_host
from edge_deit.report.html import entries, write_page
from edge_deit.report.svg import MUTED, SERIES, Plot, draw_plot
from edge_deit.training.log import Log, Row
from edge_deit.training.recipe import Recipe, learning_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST_CLASSES", "PAGE", "Story", "write_training_page"]

PAGE: Final = "training.html"

MOST_CLASSES: Final = 24
"""With more classes the matrix is left out, as nobody could read it; the tables stay."""

_MOST_ROWS: Final = 20
_HEIGHT_IN: Final = 2.9
_MOST_SHADE: Final = 45
"""Per cent of colour in the darkest cell: text on it stays legible in light and dark."""


@dataclass(frozen=True)
class Story:
    """What the page tells: the log, the classes, how many photos and steps, and the test's figures."""

    log: Log
    labels: tuple[str, ...]
    recipe: Recipe
    steps: int
    photos: int
    computed: str
    test_images: int
    test_top1: float | None


@dataclass(frozen=True)
class _Cell:
    """One cell of the matrix: photos, and its colour in the page's custom properties."""

    count: int
    style: str


@dataclass(frozen=True)
class _Class:
    """A class: its photos, how many were right, and what it is most often taken for."""

    label: str
    images: int
    right: int
    mistaken: str

    @property
    def top1(self) -> str:
        return f"{100 * self.right / self.images:.1f} %"


def write_training_page(path: Path, story: Story) -> None:
    """Write the page, whole or not at all; jinja2 and matplotlib have to be there."""
    log, best = story.log, story.log.best_row
    confusion = log.best.confusion if log.best else None
    content = {
        "headline": _headline(story, best),
        "story": story,
        "best": best,
        "images": int(confusion.sum()) if confusion is not None else 0,
        "plots": _plots(story),
        "matrix": _matrix(confusion),
        "classes": _classes(confusion, story.labels),
        "classes_total": len(story.labels),
        "rows": log.rows,
        "settings": entries(asdict(story.recipe)),
        "environment": entries(describe_host({"torch": torch.__version__})),
    }
    write_page(path, PAGE, content)


def _headline(story: Story, best: Row | None) -> str:
    epochs = story.log.rows[-1].epoch
    trained = f"{len(story.labels)} classes, {epochs:g} epoch{'' if epochs == 1 else 's'}"
    if best is None or best.val_top1 is None:
        return f"Trained on {story.photos} photos, {trained}"
    return f"{100 * best.val_top1:.1f} % top-1 in validation, epoch {best.epoch:g}; {trained}"


# Plots


def _plots(story: Story) -> list[Plot]:
    rows = story.log.rows
    found = [_losses(rows)]
    if story.log.best_row is not None:
        found.append(_accuracy(rows, story.log.best_row))
    return [*found, _rates(story)]


def _axes(figure: Figure, rows: list[Row]) -> Axes:
    """Axes whose x counts epochs, from 0."""
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    axes.set_xlim(0, rows[-1].epoch * 1.03)
    axes.xaxis.set_major_locator(MaxNLocator(integer=rows[-1].epoch >= 2))
    axes.set_xlabel("epoch")
    return axes


def _line(axes: Axes, rows: list[Row], values: list[float], place: int, marker: str) -> None:
    """One series; marks where there are few enough to tell apart."""
    shown = marker if len(rows) <= 40 else ""
    axes.plot(
        [row.epoch for row in rows], values, f"{shown}-", color=SERIES[place], linewidth=1.4,
        markersize=5,
    )  # fmt: skip


def _losses(rows: list[Row]) -> Plot:
    validated = [row for row in rows if row.val_loss is not None]

    def draw(figure: Figure) -> None:
        axes = _axes(figure, rows)
        _line(axes, rows, [row.train_loss for row in rows], 0, "o")
        if validated:
            _line(axes, validated, [row.val_loss or 0.0 for row in validated], 1, "s")
        axes.set_ylabel("loss")

    said = f"training {rows[0].train_loss:.3f} to {rows[-1].train_loss:.3f}"
    caption = "Training: the mean over the epoch's photos as they were augmented"
    if validated:
        first, last = validated[0].val_loss or 0.0, validated[-1].val_loss or 0.0
        said += f", validation {first:.3f} to {last:.3f}"
        caption += (
            ", with label smoothing and what a teacher adds, so the lines may lie apart. Validation: the "
            "plain cross-entropy after the epoch"
        )
    return draw_plot("loss", "Loss", f"{caption}.", said, _HEIGHT_IN, draw)


def _accuracy(rows: list[Row], best: Row) -> Plot:
    validated = [row for row in rows if row.val_top1 is not None]
    values = [100 * (row.val_top1 or 0.0) for row in validated]

    def draw(figure: Figure) -> None:
        axes = _axes(figure, rows)
        axes.axvline(best.epoch, color=MUTED, linewidth=1, linestyle="--")
        _line(axes, validated, values, 1, "s")
        axes.set_ylabel("validation top-1, %")

    said = f"best {max(values):.2f} % after epoch {best.epoch:g}, last {values[-1]:.2f} %"
    caption = "The dashed line is the epoch that was kept. A best of many is a little lucky."
    return draw_plot("accuracy", "Top-1 of the validation photos", caption, said, _HEIGHT_IN, draw)


def _rates(story: Story) -> Plot:
    rows, recipe = story.log.rows, story.recipe
    per_epoch = rows[-1].step / rows[-1].epoch
    steps = sorted({round(place * (rows[-1].step - 1) / 300) for place in range(301)})
    rates = [learning_rate(step, story.steps, recipe) for step in steps]

    def draw(figure: Figure) -> None:
        axes = _axes(figure, rows)
        places = [step / per_epoch for step in steps]
        shown = "o-" if len(steps) == 1 else "-"  # a line of one point is none
        axes.plot(places, rates, shown, color=SERIES[2], linewidth=1.4, markersize=5)
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3), useMathText=False)
        axes.set_ylabel("learning rate")

    said = f"peak {max(rates):.3g}, last {rates[-1]:.3g}"
    caption = f"Warm-up, then half a cosine. {said.capitalize()}."
    return draw_plot("rate", "Learning rate", caption, said, _HEIGHT_IN, draw)


# Classes


def _matrix(confusion: Tensor | None) -> list[list[_Cell]]:
    """Rows of true classes, shaded by their share of the row; nothing where classes are too many."""
    if confusion is None or len(confusion) > MOST_CLASSES:
        return []
    rows = []
    for true, counts in enumerate(confusion.tolist()):
        total = max(1, sum(counts))
        cells = []
        for answer, count in enumerate(counts):
            shade = round(_MOST_SHADE * count / total)
            series = f"var(--series-{0 if answer == true else 1})"
            style = f"background: color-mix(in srgb, {series} {shade}%, transparent)"
            cells.append(_Cell(count, style if shade else ""))
        rows.append(cells)
    return rows


def _classes(confusion: Tensor | None, labels: tuple[str, ...]) -> list[_Class]:
    """The classes with photos, the least recognised first, at most `_MOST_ROWS`."""
    if confusion is None:
        return []
    found = []
    for true, counts in enumerate(confusion.tolist()):
        wrong = {answer: n for answer, n in enumerate(counts) if answer != true and n}
        most = max(wrong, key=lambda answer: wrong[answer], default=None)
        mistaken = "" if most is None else f"{labels[most]} ({wrong[most]})"
        if sum(counts):
            found.append(_Class(labels[true], sum(counts), counts[true], mistaken))
    return sorted(found, key=lambda one: one.right / one.images)[:_MOST_ROWS]
