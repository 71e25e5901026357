"""The plots of a report: accuracy lost, latency and size, layers, classes, logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Any, Final

from edge_deit.common.text import visible
from edge_deit.report.figures import display_names, reason, show
from edge_deit.report.report import ArtefactResult, Report
from edge_deit.report.svg import MUTED, WIDTH_IN, Key, Plot, draw_plot, keys

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["WORST_CLASSES", "class_losses", "plots"]

WORST_CLASSES: Final = 20
"""Classes shown, those that lost most."""

_SCATTER_POINTS: Final = 1000


@dataclass(frozen=True)
class _Row:
    """An artefact as a plot needs it."""

    name: str
    key: Key
    result: ArtefactResult


def plots(report: Report) -> tuple[Plot, ...]:
    """Accuracy drop, latency and size, layers, classes, logits: always these five, in this order."""
    given = zip(display_names(report), keys(report).of, report.artefacts, strict=True)
    rows = [_Row(name, key, result) for name, key, result in given]
    return (_drop(rows), _latency(rows), _layers(rows), _classes(rows), _scatter(rows))


def _absent(name: str, title: str, rows: Sequence[_Row], figure: str) -> Plot:
    """In place of a plot: the reasons why no artefact has the figure."""
    reasons = dict.fromkeys(reason(row.result.notes, figure) for row in rows)
    return Plot(name, title, "Nothing to draw: " + "; ".join(reasons or ["no artefact"]), None)


def _drop(rows: Sequence[_Row]) -> Plot:
    title = "Top-1 lost, with 95 % intervals"
    known = [(row, drop) for row in rows if (drop := row.result.top1_drop) is not None]
    if not known:
        return _absent("drop", title, rows, "top1_drop")

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axvline(0, color=MUTED, linewidth=1)
        for place, (row, drop) in enumerate(known):
            if ends := row.result.top1_drop_ci95:
                axes.plot(ends, (place, place), color=row.key.colour, linewidth=2)
            axes.plot([drop], [place], row.key.marker, color=row.key.colour)
            beside = axes.get_yaxis_transform()
            axes.text(0, place - 0.3, _short(row.name, 42), transform=beside, fontsize=8.5)
        axes.set_ylim(len(known) - 0.5, -0.75)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("points of top-1 lost")

    said = [
        f"{row.name} {show(row.result, 'top1_drop')} ({show(row.result, 'top1_drop_ci95')})"
        for row, _ in known
    ]
    caption = (
        "Left of zero the artefact gained. An interval that holds zero leaves open whether "
        "anything was lost or gained."
    )
    return draw_plot(
        "drop", title, caption, f"Points lost: {'; '.join(said)}", _tall(len(known)), draw
    )


def _latency(rows: Sequence[_Row]) -> Plot:
    title = "Latency against size"
    known = [(row, ms) for row in rows if (ms := row.result.latency_ms_p50) is not None]
    if not known:
        return _absent("latency", title, rows, "latency_ms_p50")

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for row, latency_ms in known:
            found, key = row.result, row.key
            if found.latency_float_ms_p50 is not None:
                float_mb = found.size_float_bytes / 1e6
                axes.plot([float_mb], [found.latency_float_ms_p50], "x", color=MUTED)
            size_mb = found.size_bytes / 1e6
            axes.plot([size_mb], [latency_ms], key.marker, color=key.colour)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("size, MB")
        axes.set_ylabel("latency p50, ms")

    said = [
        f"{row.name} {show(row.result, 'size_bytes')}, {show(row.result, 'latency_ms_p50')}"
        for row, _ in known
    ]
    caption = "Lower left is better. Crosses: the float model in the same rounds."
    if left := len(rows) - len(known):
        caption += f" Without a latency, so not here: {left} of {len(rows)}."
    return draw_plot("latency", title, caption, "; ".join(said), 2.9, draw)


def _layers(rows: Sequence[_Row]) -> Plot:
    title = "Signal-to-noise ratio of each layer"
    known = [(row, row.result.layers) for row in rows if row.result.layers is not None]
    if not known:
        return _absent("layers", title, rows, "layers")

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.add_subplot()
        for row, layers in known:
            places = range(1, len(layers.names) + 1)
            axes.plot(places, layers.snr_db, color=row.key.colour, linewidth=1.2)
            if layers.first_drop in layers.names:
                place = layers.names.index(layers.first_drop)
                at = ([place + 1], [layers.snr_db[place]])
                axes.plot(*at, row.key.marker, color=row.key.colour, markersize=7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("layer, in the order of the graph")
        axes.set_ylabel("SNR, dB")

    said = [
        f"{row.name}: {_ends(layers.snr_db)}, first drop {layers.first_drop or 'none'}"
        for row, layers in known
    ]
    drops = sorted({f"{layers.drop_db:g}" for _, layers in known})
    caption = (
        f"Each layer's output against the float model's. A mark is the first layer that lies "
        f"{' or '.join(drops)} dB or more below the one before it. {_methods(known)}"
    )
    return draw_plot("layers", title, caption, "; ".join(said), 2.9, draw)


def _ends(snr_db: Sequence[float]) -> str:
    if not snr_db:
        return "no layer"
    return f"lowest {min(snr_db):.1f} dB, last {snr_db[-1]:.1f} dB"


def _methods(known: Sequence[tuple[_Row, Any]]) -> str:
    said = dict.fromkeys(f"{found.method}, {found.images} photos" for _, found in known)
    return f"How the outputs were had: {'; '.join(said)}."


def class_losses(results: Sequence[ArtefactResult]) -> list[tuple[str, int, list[float]]]:
    """(label, photos, points lost by each artefact) of the classes, most lost first.

    Classes without a photo are left out; an artefact that has none of a class counts as no loss.
    """
    lost: dict[str, list[float]] = {}
    photos: dict[str, int] = {}
    for place, result in enumerate(results):
        for one in result.classes:
            if one.images:
                points = 100 * (one.right_float - one.right) / one.images
                lost.setdefault(one.label, [0.0] * len(results))[place] = points
                photos[one.label] = one.images
    found = [(label, photos[label], points) for label, points in lost.items()]
    return sorted(found, key=lambda one: (-max(one[2]), -sum(one[2])))


def _classes(rows: Sequence[_Row]) -> Plot:
    title = "Top-1 lost in each class"
    known = [row for row in rows if row.result.classes]
    every = class_losses([row.result for row in known])
    if not every:
        return _absent("classes", title, rows, "classes")
    changed = [one for one in every if any(one[2])]
    shown = (changed or every)[:WORST_CLASSES]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axvline(0, color=MUTED, linewidth=1)
        step = 0.6 / max(1, len(known) - 1)
        for index, row in enumerate(known):
            shift = index * step - 0.3 if len(known) > 1 else 0.0
            moved = [(points[index], y + shift) for y, (_, _, points) in enumerate(shown)]
            lost, places = zip(*[at for at in moved if at[0]] or [(nan, nan)], strict=True)
            axes.plot(lost, places, row.key.marker, color=row.key.colour, markersize=5)
        names = [f"{_short(label, 22)} ({images})" for label, images, _ in shown]
        axes.set_yticks(range(len(shown)), names)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlabel("points of top-1 lost")

    said = [f"{label} {max(points):.1f}" for label, _, points in shown]
    caption = (
        f"{len(changed)} of {len(every)} classes with photos lost or gained; shown: {len(shown)}, by the "
        "artefact that lost most. In brackets the photos of the class: few of them make large steps. "
        "No mark: nothing lost or gained."
    )
    return draw_plot(
        "classes", title, caption, f"Most lost: {'; '.join(said)}", _tall(len(shown)), draw
    )


def _scatter(rows: Sequence[_Row]) -> Plot:
    title = "Logits: float model against artefact"
    known = [row for row in rows if row.result.scatter]
    if not known:
        return _absent("scatter", title, rows, "scatter")
    columns = 1 if len(known) == 1 else 2 if len(known) <= 4 else 3
    titles = _tails([row.name for row in known])

    def draw(figure: Figure) -> None:
        for index, row in enumerate(known):
            axes = figure.add_subplot(-(-len(known) // columns), columns, index + 1)
            _dots(axes, row, _thin(row.result.scatter))
            axes.set_title(_short(titles[index], 60 // columns), fontsize=8, loc="left")
            if index % columns == 0:
                axes.set_ylabel("artefact")
            if index + columns >= len(known):
                axes.set_xlabel("float model")

    most = max(len(row.result.scatter) for row in known)
    taken = f" Drawn: {_SCATTER_POINTS} of them at most." if most > _SCATTER_POINTS else ""
    caption = f"One point a logit; on the line both models give the same.{taken}"
    said = [f"{row.name}: SNR {show(row.result, 'snr_db')}" for row in known]
    height = -(-len(known) // columns) * (WIDTH_IN / columns) * (0.8 if columns == 1 else 1.0) + 0.3
    return draw_plot("scatter", title, caption, "; ".join(said), height, draw)


def _thin(pairs: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    return pairs[:: -(-len(pairs) // _SCATTER_POINTS)]


def _dots(axes: Axes, row: _Row, pairs: Sequence[tuple[float, float]]) -> None:
    """All points as one path of zero length strokes with round ends: a few bytes a point."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    low, high = (end([value for pair in pairs for value in pair]) for end in (min, max))
    axes.plot((low, high), (low, high), color=MUTED, linewidth=0.8)
    outline = Outline(
        [point for pair in pairs for point in (pair, pair)],
        [Outline.MOVETO, Outline.LINETO] * len(pairs),
    )
    dots = PathPatch(outline, edgecolor=row.key.colour, facecolor="none", alpha=0.55)
    dots.set(linewidth=2.4, capstyle="round")
    axes.add_patch(dots)
    axes.autoscale_view()
    axes.locator_params(nbins=4)


def _tails(names: Sequence[str]) -> list[str]:
    """The names without their first part, up to the dot, where all share it.

    >>> _tails(["tiny.int8.a", "tiny.int8-full.a"])
    ['int8.a', 'int8-full.a']
    """
    heads = {name.partition(".")[0] for name in names}
    tails = [name.partition(".")[2] for name in names]
    return tails if len(heads) == 1 < len(names) and all(tails) else list(names)


def _tall(rows: int) -> float:
    """Height in inches of a plot with so many rows."""
    return 0.75 + 0.38 * rows


def _short(text: str, most: int) -> str:
    """The text on one line, its middle left out where it is long."""
    text = visible(" ".join(text.split()))
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[: most - 1 - half]}\N{HORIZONTAL ELLIPSIS}{text[-half:]}"
