"""The plots of a report as inline SVG: text stays text, colours are the page's custom properties."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Any, Final

from edge_deit._report_text import display_names, reason, runs_as, show
from edge_deit.report import ArtefactResult, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["WORST_CLASSES", "Key", "Plot", "class_losses", "keys", "plots"]

WORST_CLASSES: Final = 20
"""Classes shown, those that lost most."""

_WIDTH_IN: Final = 4.3
_SCATTER_POINTS: Final = 1000
_SERIES: Final = 6
"""Colours that the style sheet defines, --series-0 up."""

_MARKS: Final = {
    "o": "\N{BLACK CIRCLE}",
    "s": "\N{BLACK SQUARE}",
    "^": "\N{BLACK UP-POINTING TRIANGLE}",
    "D": "\N{BLACK DIAMOND}",
    "v": "\N{BLACK DOWN-POINTING TRIANGLE}",
}
"""matplotlib's marker -> the same mark as a character, for the key."""

_COLOURS: Final = {
    "#fe0001": "var(--ink)",
    "#fe0002": "var(--muted)",
    "#fe0003": "var(--rule)",
    **{f"#fd000{index}": f"var(--series-{index})" for index in range(_SERIES)},
}
"""The colour that a plot is drawn with -> what stands in its place in the page."""

_INK, _MUTED, _RULE, *_LINES = _COLOURS

_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "path.simplify": False,
    "text.parse_math": False,
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.7,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@dataclass(frozen=True)
class Plot:
    """A plot: `svg` is None where `caption` says why there is nothing to draw."""

    name: str
    title: str
    caption: str
    svg: str | None


@dataclass(frozen=True)
class Key:
    """How an artefact looks in the plots: its precision's colour, its target's mark."""

    colour: str
    marker: str


@dataclass(frozen=True)
class Keys:
    """The keys of all artefacts, and what a legend says: (text, colour or mark) each."""

    of: tuple[Key, ...]
    colours: tuple[tuple[str, str], ...]
    marks: tuple[tuple[str, str], ...]


def keys(report: Report) -> Keys:
    """A colour for each precision, a mark for each target and backend, in the report's order."""
    markers = list(_MARKS)
    precisions = list(dict.fromkeys(one.precision for one in report.artefacts))
    kinds = list(dict.fromkeys(runs_as(one) for one in report.artefacts))
    colour = {name: _LINES[i % _SERIES] for i, name in enumerate(precisions)}
    marker = {name: markers[i % len(markers)] for i, name in enumerate(kinds)}
    return Keys(
        of=tuple(Key(colour[one.precision], marker[runs_as(one)]) for one in report.artefacts),
        colours=tuple((name, _COLOURS[shade]) for name, shade in colour.items()),
        marks=tuple((name, _MARKS[mark]) for name, mark in marker.items()),
    )


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
        axes.axvline(0, color=_MUTED, linewidth=1)
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
    return _plot("drop", title, caption, f"Points lost: {'; '.join(said)}", _tall(len(known)), draw)


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
                axes.plot([float_mb], [found.latency_float_ms_p50], "x", color=_MUTED)
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
    return _plot("latency", title, caption, "; ".join(said), 2.9, draw)


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
    return _plot("layers", title, caption, "; ".join(said), 2.9, draw)


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
        axes.axvline(0, color=_MUTED, linewidth=1)
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
    return _plot(
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
    height = (
        -(-len(known) // columns) * (_WIDTH_IN / columns) * (0.8 if columns == 1 else 1.0) + 0.3
    )
    return _plot("scatter", title, caption, "; ".join(said), height, draw)


def _thin(pairs: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    return pairs[:: -(-len(pairs) // _SCATTER_POINTS)]


def _dots(axes: Axes, row: _Row, pairs: Sequence[tuple[float, float]]) -> None:
    """All points as one path of zero length strokes with round ends: a few bytes a point."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    low, high = (end([value for pair in pairs for value in pair]) for end in (min, max))
    axes.plot((low, high), (low, high), color=_MUTED, linewidth=0.8)
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
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[: most - 1 - half]}\N{HORIZONTAL ELLIPSIS}{text[-half:]}"


def _plot(
    name: str,
    title: str,
    caption: str,
    said: str,
    height_in: float,
    draw: Callable[[Figure], None],
) -> Plot:
    """Draw with matplotlib's own defaults, whatever this process or its user has set."""
    import matplotlib
    from matplotlib.figure import Figure

    stream = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the browser has the font
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | {"svg.hashsalt": name})
        figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        draw(figure)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", metadata=nothing)
    return Plot(name, title, caption, _inline(stream.getvalue(), name, f"{title}. {said}"))


def _inline(svg: str, name: str, label: str) -> str:
    """The `<svg>` element for a page: unique ids, no fixed size, the page's fonts and colours."""
    head, _, body = svg[svg.index("<svg") :].partition(">")
    (box,) = re.findall(r'viewBox="[^"]*"', head)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(url\(|href=")#', rf"\1#{name}-", body)
    body = re.sub(r' d="[^"]*"', lambda d: re.sub(r"(\.\d\d)\d+", r"\1", d[0]), body)
    body = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    for drawn, shown in _COLOURS.items():
        body = body.replace(drawn, shown)
    return f'<svg class="plot" role="img" aria-label="{html.escape(label)}" {box}>{body}'
