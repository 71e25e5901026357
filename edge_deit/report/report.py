"""What a validation found: plain data, and `report.json`, its file.

`docs/report.schema.json` is the file's published schema, made from these classes. Every other form of a
report (HTML, Markdown, JUnit) is made from this data.

A figure that could not be had is None, and `notes` says why under the figure's name; it is never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from edge_deit.common.fields import STRICT, UTC_TIME, About, Count, Sha256, Text
from edge_deit.common.records import JsonFile
from edge_deit.report.details import ClassResult, Flip, Layers
from edge_deit.report.result import FIGURES, ArtefactResult

__all__ = [
    "REPORT_FILE",
    "SCHEMA",
    "ArtefactResult",
    "BrokenImage",
    "ClassResult",
    "DataResult",
    "Flip",
    "Layers",
    "LeftOut",
    "Report",
    "read_report",
    "write_report",
]

SCHEMA: Final = 1
"""Version of the report's layout; a file with another one is refused.

A field that came later has a default, which stands in for it in older files: that is no new version.
"""


@dataclass(frozen=True)
class BrokenImage:
    """An image that could not be read."""

    file: Annotated[str, About("Path relative to the data folder.")]
    reason: Annotated[str, About("Why it could not be read.")]


@dataclass(frozen=True)
class LeftOut:
    """Files of the data folder that were left out for one reason."""

    reason: Annotated[Text, About("Why.")]
    count: Annotated[Count, About("How many.")]
    examples: Annotated[tuple[str, ...], About("Some of them, relative to the data folder.")] = ()


@dataclass(frozen=True)
class DataResult:
    """The photos."""

    source: Annotated[str, About("The folder as it was named, or bundled.")]
    split: Annotated[str | None, About("The split that was used; null where the data has none.")]
    images: Annotated[Count, About("Photos that were read.")]
    labelled: Annotated[Count, About("How many of them have a label.")]
    classes: Annotated[Count, About("How many classes have a photo.")]
    sha256: Annotated[
        Sha256, About("Over names, contents and labels of the photos that were read, in order.")
    ]
    broken: Annotated[
        tuple[BrokenImage, ...], About("Photos that could not be read; they are in no figure.")
    ]


@dataclass(frozen=True)
class Report:
    """What edge_deit.validate found, as written to report.json.

    A figure that could not be had is null, and the artefact's notes say why under the figure's name.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT

    created: Annotated[str, UTC_TIME, About("When the validation ran: UTC, ISO 8601.")]
    environment: Annotated[
        Mapping[str, Any],
        About("The machine that measured, as edge_deit.common.host describes it."),
    ]
    data: Annotated[DataResult, About("The photos.")]
    artefacts: Annotated[
        tuple[ArtefactResult, ...],
        About("One entry for each artefact, in the order of the command line."),
    ]
    schema: Annotated[int, About("Version of this layout; readers refuse every other one.")] = (
        SCHEMA
    )
    finished: Annotated[
        bool,
        About(
            "False while a validation is running or after it was stopped; nothing judges it then."
        ),
    ] = True
    labels_matched: Annotated[
        str, About("How the photos' labels were matched with the model's; empty where not known.")
    ] = ""
    assumptions: Annotated[
        tuple[Text, ...], About("What was assumed because nothing said it, one line each.")
    ] = ()
    left_out: Annotated[
        tuple[LeftOut, ...], About("Files of the data folder that were left out.")
    ] = ()


def _check(report: Report) -> None:
    """What types alone do not say."""
    seen = set()
    for number, one in enumerate(report.artefacts):
        if one.images > report.data.images:
            raise ValueError(
                f"artefacts[{number}].images is {one.images}, more than data.images, {report.data.images}"
            )
        if one.labelled > one.images:
            raise ValueError(
                f"artefacts[{number}].labelled is {one.labelled}, more than its images"
            )
        if (one.path, one.sha256) in seen:
            raise ValueError(f"artefacts[{number}] is there twice")
        seen.add((one.path, one.sha256))
        for figure in FIGURES.values():
            ends = getattr(one, figure.interval) if figure.interval else None
            if ends is not None and ends[0] > ends[1]:
                raise ValueError(
                    f"artefacts[{number}].{figure.interval} is {list(ends)}, upside down"
                )
        if one.layers is not None and len(one.layers.names) != len(one.layers.snr_db):
            raise ValueError(f"artefacts[{number}].layers has not one snr_db for each of its names")


_LATER: Final = tuple(
    one.name for one in fields(ArtefactResult) if one.name in FIGURES and one.default is not MISSING
)
"""Figures that reports of former versions lack."""

REPORT_FILE: Final = JsonFile(
    Report, "report", "run edge_deit.validate again", schema=SCHEMA, check=_check
)


def write_report(report: Report, path: Path) -> None:
    """Write `report.json`, whole or not at all.

    Raises:
        EdgeDeitError: a figure is not finite or out of its range.
    """
    REPORT_FILE.write(report, path)


def read_report(path: Path) -> Report:
    """Read a report; figures that a former version did not have are null, with a note.

    Raises:
        EdgeDeitError: missing, not JSON, another schema, fields that are missing, unknown or of another
            type, or a value that is not finite or out of its range.
    """
    report = REPORT_FILE.read(path)
    return replace(report, artefacts=tuple(map(_with_notes, report.artefacts)))


def _with_notes(one: ArtefactResult) -> ArtefactResult:
    """The result with a reason for each figure that came after the version which wrote it."""
    absent = [name for name in _LATER if getattr(one, name) is None and name not in one.notes]
    if not absent:
        return one
    return replace(one, notes={**dict.fromkeys(absent, _NOT_YET), **one.notes})


_NOT_YET: Final = "the version that wrote the report did not have this figure"
