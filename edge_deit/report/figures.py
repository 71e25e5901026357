"""A report's figures as text: names, numbers with their units, the cells of a table, one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edge_deit.common.host import ARM_NOTE
from edge_deit.metrics.outputs import EQUAL_DB
from edge_deit.report.report import ArtefactResult, Report

__all__ = [
    "DASH",
    "FIGURES",
    "Cell",
    "Footnotes",
    "arm_note",
    "by_text",
    "cells",
    "display_names",
    "number",
    "reason",
    "runs_as",
    "show",
    "stands_in",
    "summary_sentence",
]

DASH: Final = "\N{EN DASH}"
"""Stands where a figure could not be had."""

_ARM: Final = ("arm", "aarch")
_STAND_IN: Final = "reference numerics"


def number(value: float) -> str:
    """A figure in about three digits.

    >>> [number(value) for value in (0.634, 15.24, 1234.5, -0.05)]
    ['0.63', '15.2', '1,234', '-0.05']
    """
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:,.{digits}f}"


def _points(value: float) -> str:
    """Points of accuracy; a small loss is never shown as none.

    >>> [_points(value) for value in (0.333, -0.05, 0.0)]
    ['0.3', '-0.05', '0.0']
    """
    return f"{value:.2f}" if 0 < abs(value) < 0.1 else f"{value:.1f}"


def _unit(unit: str, scale: float = 1.0) -> Callable[[float], str]:
    return lambda value: f"{number(value * scale)} {unit}"


def _decibels(value: float) -> str:
    return "equal" if value >= EQUAL_DB else f"{value:.1f} dB"


def _percent(value: float) -> str:
    return f"{value:.1f} %"


def _share(value: float) -> str:
    return _percent(100 * value)


def _interval(shown: Callable[[float], str]) -> Callable[[Sequence[float]], str]:
    return lambda ends: f"{shown(ends[0])} to {shown(ends[1])}"


def _probability(value: float) -> str:
    return "below 0.0001" if value < 0.0001 else f"{value:.2g}"


_MS: Final = _unit("ms")
_MB: Final = _unit("MB", 1e-6)

FIGURES: Final[Mapping[str, tuple[str, Callable[[Any], str]]]] = {
    "images": ("photos", str),
    "labelled": ("with a label", str),
    "top1": ("top-1", _percent),
    "top1_float": ("top-1, float model", _percent),
    "top5": ("top-5", _percent),
    "top5_float": ("top-5, float model", _percent),
    "top1_drop": ("top-1 lost, points", _points),
    "top1_drop_ci95": ("95 % interval of the loss", _interval(_points)),
    "lost": ("right only in float", str),
    "won": ("right only in the artefact", str),
    "mcnemar_p": ("McNemar's exact p", _probability),
    "agreement": ("same answer", _share),
    "snr_db": ("logit SNR", _decibels),
    "snr_db_worst": ("logit SNR, worst photo", _decibels),
    "cosine": ("cosine, mean", "{:.5f}".format),
    "cosine_worst": ("cosine, worst photo", "{:.5f}".format),
    "worst_image": ("worst photo", str),
    "latency_ms_p50": ("latency p50", _MS),
    "latency_ms_p90": ("latency p90", _MS),
    "latency_float_ms_p50": ("latency p50, float model", _MS),
    "latency_ratio": ("latency, share of float", number),
    "latency_ratio_ci95": ("95 % interval of the share", _interval(number)),
    "latency_runs": ("timed runs", str),
    "threads": ("threads", str),
    "load_ms": ("load", _MS),
    "peak_rss_bytes": ("peak memory", _MB),
    "size_bytes": ("size", _MB),
    "size_float_bytes": ("size, float model", _MB),
}
"""Field of `ArtefactResult` -> its name for readers, and how its value is written."""


def show(result: ArtefactResult, name: str) -> str:
    """A figure as text; a dash where it is null."""
    value = getattr(result, name)
    return DASH if value is None else FIGURES[name][1](value)


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
    """The artefact's row in the table of artefacts."""
    changed = f"{result.flips_total} changed"
    share = f"{number(result.size_bytes / result.size_float_bytes)} of float"
    return (
        _cell(result, "top1", "float {top1_float}"),
        _cell(result, "top1_drop", "{top1_drop_ci95}"),
        _cell(result, "agreement", changed),
        _cell(result, "snr_db", "worst {snr_db_worst}"),
        _cell(result, "size_bytes", share),
        _cell(result, "latency_ms_p50", "{latency_ratio} of float ({latency_ratio_ci95})"),
        _cell(result, "load_ms", ""),
        _cell(result, "peak_rss_bytes", ""),
    )


def _cell(result: ArtefactResult, name: str, detail: str) -> Cell:
    named = (name, *(found for found in re.findall(r"{(\w+)}", detail)))
    missing = [found for found in named if getattr(result, found) is None]
    reasons = dict.fromkeys(reason(result.notes, found) for found in missing)
    shown = {found: show(result, found) for found in named}
    text = "" if name in missing else detail.format_map(shown)
    return Cell(FIGURES[name][0], shown[name], text, tuple(reasons))


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
        f"{number(result.size_bytes / result.size_float_bytes)} of the float size",
        "latency not measured here"
        if result.latency_ratio is None
        else f"{number(result.latency_ratio)} of its latency here",
    ]
    return ", ".join(parts) + (f" ({result.runner})" if stands_in(result) else "")


def _lost(result: ArtefactResult, drop: float) -> str:
    ends = result.top1_drop_ci95
    if drop < 0 and ends is not None:
        ends = (-ends[1], -ends[0])
    spread = DASH if ends is None else _interval(_points)(ends)
    if drop == 0:
        return f"neither loses nor gains top-1 (95 %: {spread} points)"
    verb = "loses" if drop > 0 else "gains"
    return f"{verb} {_points(abs(drop))} points of top-1 (95 %: {spread})"
