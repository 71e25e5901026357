"""A report as one HTML file that needs nothing else: no network, no script, light and dark."""

from __future__ import annotations

import base64
import importlib.util
import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from edge_deit import assets
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import write_text
from edge_deit.common.text import visible
from edge_deit.common.whereabouts import recall
from edge_deit.data.preprocess import load_image
from edge_deit.report.device_rows import emulated_rows, phone_labels, phone_rows
from edge_deit.report.figure import DASH
from edge_deit.report.figures import (
    Cell,
    Footnotes,
    arm_note,
    by_text,
    cells,
    display_names,
    reason,
    runs_as,
    show,
    stands_in,
    summary_sentence,
)
from edge_deit.report.plots import WORST_CLASSES, class_losses, plots
from edge_deit.report.report import ArtefactResult, Flip, Report
from edge_deit.report.result import FIGURES
from edge_deit.report.svg import keys
from edge_deit.report.text import headline, provenance
from edge_deit.report.verdict import Verdict

__all__ = [
    "MOST_FLIPS",
    "THUMBNAIL_PX",
    "entries",
    "no_html",
    "photo_root",
    "write_html",
    "write_page",
]

MOST_FLIPS: Final = 24
"""Photos shown of those that an artefact answers differently."""

THUMBNAIL_PX: Final = 96

_TEMPLATES: Final = Path(__file__).with_name("templates")


def write_html(
    report: Report, path: Path, *, data_root: Path | None, verdict: Verdict | None = None
) -> None:
    """Write `report.html`, whole or not at all.

    `data_root` is the folder that the photos' names are relative to; without it, or where a photo has
    gone, a few words stand in its place.

    Raises:
        EdgeDeitError: jinja2 or matplotlib is missing.
    """
    if (reason := no_html()) is not None:
        raise EdgeDeitError(reason)
    write_page(path, "report.html", _content(report, data_root, verdict))


def write_page(path: Path, template: str, content: Mapping[str, Any]) -> None:
    """Write the page that one of our templates makes of its content, whole or not at all.

    Every text is shown as it is; jinja2 has to be there.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["minus"] = _minus
    page = environment.get_template(template).render(content)
    write_text(path, page.encode("utf-8", "replace").decode())


@contextmanager
def photo_root(report: Report) -> Iterator[Path | None]:
    """The folder that a report's photos lie in while the block runs, None where it has gone."""
    if report.data.source == "bundled":
        with assets.validation_folder() as folder:
            yield folder
        return
    places = [recall(report.data.sha256), Path(report.data.source)]
    yield next((place for place in places if place and os.path.isdir(place)), None)


def no_html(page: str = "report.html") -> str | None:
    """Why no page can be written here, in one line; None where one can."""
    names = ("jinja2", "matplotlib")
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return f"{page} needs {' and '.join(missing)}; install with: pip install 'edge-deit[report]'"


def _shown(value: object) -> object:
    """What the page shows of a value; markup of our own, such as a plot, stays as it is."""
    return visible(value) if type(value) is str else value


def _minus(text: str) -> str:
    """A typographic minus before numbers, not within names.

    >>> _minus("-0.7 to 1.7 of a-2.bin") == "\N{MINUS SIGN}0.7 to 1.7 of a-2.bin"
    True
    """
    return re.sub(r"(?<![\w.-])-(?=\d)", "\N{MINUS SIGN}", text)


def _content(report: Report, data_root: Path | None, verdict: Verdict | None) -> dict[str, Any]:
    """What the template shows."""
    names = display_names(report)
    thumbnails = _Thumbnails(data_root)
    table = [_Row(name, one, cells(one)) for name, one in zip(names, report.artefacts, strict=True)]
    return {
        "report": report,
        "headline": headline(report, verdict),
        "status": "none" if verdict is None else ("passed", "failed", "error")[verdict.exit_code],
        "verdict": verdict,
        "wrong": [c for c in verdict.checks if c.status != "passed"] if verdict else [],
        "sentences": [summary_sentence(one) for one in report.artefacts],
        "labels": [cell.label for cell in table[0].cells] if table else [],
        "table": table,
        "footnotes": Footnotes(),
        "phone_footnotes": Footnotes(),
        "arm_note": arm_note(report),
        "keys": keys(report),
        "plots": plots(report),
        "details": [_details(row) for row in table],
        "flips": [
            [thumbnails.shown(flip) for flip in one.flips[:MOST_FLIPS]] for one in report.artefacts
        ],
        "first_flips": next((i for i, one in enumerate(report.artefacts) if one.flips), None),
        "phone_labels": phone_labels(),
        "phones": phone_rows(report, names),
        "emulated": emulated_rows(report, names),
        "provenance": provenance(report),
        "weights": list(dict.fromkeys((one.model, one.weights_sha256) for one in report.artefacts)),
        "environment": entries(report.environment),
        "dash": DASH,
    }


@dataclass(frozen=True)
class _Row:
    """An artefact's row of the table."""

    name: str
    result: ArtefactResult
    cells: tuple[Cell, ...]

    @property
    def stands_in(self) -> bool:
        return stands_in(self.result)

    @property
    def runs_as(self) -> str:
        return runs_as(self.result)


@dataclass(frozen=True)
class _Details:
    """All figures of an artefact (name, text, why it is missing), its notes, its worst classes."""

    row: _Row
    figures: list[tuple[str, str, str]]
    notes: list[tuple[str, list[str]]]
    classes: list[tuple[str, int, str]]
    classes_total: int


def _details(row: _Row) -> _Details:
    result = row.result
    figures = [
        (figure.label, show(result, name), _why(result, name)) for name, figure in FIGURES.items()
    ]
    shown = [name for name in FIGURES if getattr(result, name) is None]
    notes = by_text({name: text for name, text in result.notes.items() if name not in shown})
    lost = [(label, photos, points[0]) for label, photos, points in class_losses([result])]
    worst = [(label, photos, f"{points:.1f}") for label, photos, points in lost if points > 0]
    return _Details(row, figures, notes, worst[:WORST_CLASSES], len(worst))


def _why(result: ArtefactResult, name: str) -> str:
    """Why a figure is null; nothing where it is not."""
    return reason(result.notes, name) if getattr(result, name) is None else ""


@dataclass(frozen=True)
class _Shown:
    """A flip and its thumbnail, as a data URI, or why there is none."""

    flip: Flip
    image: str | None
    instead: str


class _Thumbnails:
    """Small JPEGs of the photos; each is read once, however many artefacts answer it differently."""

    def __init__(self, root: Path | None) -> None:
        self.root = root
        self.known: dict[str, tuple[str | None, str]] = {}

    def shown(self, flip: Flip) -> _Shown:
        if flip.file not in self.known:
            self.known[flip.file] = self._read(flip.file)
        return _Shown(flip, *self.known[flip.file])

    def _read(self, file: str) -> tuple[str | None, str]:
        parts = PurePosixPath(file)
        if self.root is None:
            return None, "no photo folder given"
        if parts.is_absolute() or ".." in parts.parts:
            return None, "not in the photo folder"
        path = self.root / parts
        if not path.is_file():
            return None, "photo not found"
        try:
            image = load_image(path)
        except EdgeDeitError:
            return None, "photo cannot be read"
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=80)
        return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}", ""


def entries(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested facts as (name, text), flat."""
    rows: list[tuple[str, str]] = []
    for name, value in found.items():
        if isinstance(value, Mapping):
            rows += [(f"{name}: {inner}", text) for inner, text in entries(value)]
        elif isinstance(value, list | tuple):
            rows.append((name, ", ".join(map(str, value)) or "none"))
        else:
            rows.append((name, _fact(value)))
    return [(name.replace("_", " "), text) for name, text in rows]


def _fact(value: object) -> str:
    if value is None:
        return DASH
    return str(value) if not isinstance(value, bool) else "yes" if value else "no"
