"""How plots look, and a plot as inline SVG: text stays text, colours are the page's custom properties."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from edge_deit.common.text import visible
from edge_deit.report.figures import runs_as
from edge_deit.report.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MUTED", "SERIES", "WIDTH_IN", "Key", "Keys", "Plot", "draw_plot", "keys"]

WIDTH_IN: Final = 4.3
"""Width of every plot, in inches."""

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

_INK, MUTED, _RULE, *_LINES = _COLOURS  # as drawn; the lines are the series' colours

SERIES: Final = tuple(_LINES)
"""Colours to draw lines with; the page shows --series-0 up in their place."""

_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "path.simplify": False,
    "text.parse_math": False,
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
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


def draw_plot(
    name: str,
    title: str,
    caption: str,
    said: str,
    height_in: float,
    draw: Callable[[Figure], None],
) -> Plot:
    """Draw with matplotlib's own defaults, whatever this process or its user has set.

    `said` is what the plot shows in words, for those who cannot see it.
    """
    import matplotlib
    from matplotlib.figure import Figure

    stream = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the browser has the font
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | {"svg.hashsalt": name})
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
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
    return f'<svg class="plot" role="img" aria-label="{html.escape(visible(label))}" {box}>{body}'
