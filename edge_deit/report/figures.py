"""A report's figures as text: names, numbers with their units, the cells of a table, one sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from edge_deit.common.host import ARM_NOTE
from edge_deit.report.report import ArtefactResult, Report
from edge_deit.report.result import FIGURES
from edge_deit.report.units import points

__all__ = [
    "Cell",
    "Footnotes",
    "arm_note",
    "by_text",
    "cells",
    "console_heads",
    "console_row",
    "display_names",
    "reason",
    "runs_as",
    "show",
    "stands_in",
    "summary_sentence",
]

_ARM: Final = ("arm", "aarch")
_STAND_IN: Final = "reference numerics"


def show(result: ArtefactResult, name: str) -> str:
    """A figure as text; a dash where it is null."""
    return FIGURES[name].text(getattr(result, name))


def reason(notes: Mapping[str, str], name: str) -> str:
    """Why a figure is null."""
    return notes.get(name) or f"{name}: the report gives no reason"


def by_text(notes: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Each text once, with the names that it stands for."""
    texts = dict.fromkeys(notes.values())
    return [(text, [name for name, one in notes.items() if one == text]) for text in texts]


def arm_note(report: Report) -> str | None:
    """What to know beside latencies that were not measured on Arm; None where there are none."""
    timed = any(one.latency_ms_p50 is not None for one in report.artefacts)
    on_arm = str(report.environment.get("machine", "")).lower().startswith(_ARM)
    return ARM_NOTE if timed and not on_arm else None


def stands_in(result: ArtefactResult) -> bool:
    """Whether the format's own runtime was absent and reference numerics ran instead."""
    return _STAND_IN in result.runner


def runs_as(result: ArtefactResult) -> str:
    """The format, and the backend where its name adds something."""
    same = result.backend == result.target
    return result.target if same else f"{result.target}, {result.backend}"


def display_names(report: Report) -> tuple[str, ...]:
    """File names of the artefacts; whole paths of those that share a name."""
    names = [one.name for one in report.artefacts]
    return tuple(one.name if names.count(one.name) == 1 else one.path for one in report.artefacts)


@dataclass(frozen=True)
class Cell:
    """A figure in a table: a second line that goes with it, and why any part of it is missing."""

    label: str
    text: str
    detail: str = ""
    reasons: tuple[str, ...] = ()


def cells(result: ArtefactResult) -> tuple[Cell, ...]:
    """The artefact's row in the table of artefacts: the figures that are declared with a `table` line."""
    return tuple(
        _cell(result, name, figure.table)
        for name, figure in FIGURES.items()
        if figure.table is not None
    )


def _cell(result: ArtefactResult, name: str, detail: str) -> Cell:
    named = (name, *_named(detail))
    missing = [found for found in named if getattr(result, found) is None]
    reasons = dict.fromkeys(reason(result.notes, found) for found in missing)
    text = "" if name in missing else _filled(result, detail)
    return Cell(FIGURES[name].label, show(result, name), text, tuple(reasons))


def _named(template: str) -> list[str]:
    return re.findall(r"{(\w+)}", template)


def _filled(result: ArtefactResult, template: str) -> str:
    """A template with the figures that it names."""
    return template.format_map({name: show(result, name) for name in _named(template)})


def console_heads() -> tuple[str, ...]:
    """Headings of the console's table, without the artefact's."""
    return tuple(figure.console[0] for figure in FIGURES.values() if figure.console)


def console_row(result: ArtefactResult) -> tuple[str, ...]:
    """The artefact's cells under those headings; a hyphen where the figure is null."""
    return tuple(
        "-" if getattr(result, name) is None else _filled(result, figure.console[1])
        for name, figure in FIGURES.items()
        if figure.console
    )


class Footnotes:
    """Numbers reasons in the order in which a table first needs them."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def numbers(self, reasons: Sequence[str]) -> str:
        """The marks of these reasons: `1`, `1, 2`, or nothing."""
        self.reasons += [one for one in reasons if one not in self.reasons]
        return ", ".join(str(self.reasons.index(one) + 1) for one in reasons)


def summary_sentence(result: ArtefactResult) -> str:
    """What the artefact lost and gained, in one sentence without a full stop."""
    same = f"same answer on {show(result, 'agreement')}"
    if result.top1_drop is None:
        same = f"gives the {same} of {result.images} photos"
    parts = [
        f"{result.name} {same}"
        if result.top1_drop is None
        else f"{result.name} {_lost(result, result.top1_drop)}, {same}",
        f"{show(result, 'size_ratio')} of the float size",
        "latency not measured here"
        if result.latency_ratio is None
        else f"{show(result, 'latency_ratio')} of its latency here",
    ]
    return ", ".join(parts) + (f" ({result.runner})" if stands_in(result) else "")


def _lost(result: ArtefactResult, drop: float) -> str:
    ends = result.top1_drop_ci95
    if drop < 0 and ends is not None:
        ends = (-ends[1], -ends[0])
    spread = FIGURES["top1_drop_ci95"].text(ends)
    if drop == 0:
        return f"neither loses nor gains top-1 (95 %: {spread} points)"
    verb = "loses" if drop > 0 else "gains"
    return f"{verb} {points(abs(drop))} points of top-1 (95 %: {spread})"
