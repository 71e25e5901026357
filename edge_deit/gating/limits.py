"""All limits that thresholds may set, one row each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Literal

from edge_deit.report.report import ArtefactResult

__all__ = ["ARM64", "BASELINE", "LIMITS", "About", "Change", "Figure", "Interval", "Limit"]


Figure = Callable[[ArtefactResult], float | None]

Interval = Callable[[ArtefactResult], tuple[float, float] | None]

About = Literal["accuracy", "float model", "speed", "memory", "size", "photos"]


@dataclass(frozen=True)
class Limit:
    """One limit that a rule may set.

    `figure` takes what is limited from a result, None where there is none, and `interval` its 95 %
    interval; `notes` are the keys under which a result may say why there is none. The figure must be
    `at_most` the bound, or at least. The bound lies between `low` and `high`, in `unit`. `about` chooses
    the advice.
    """

    figure: Figure
    at_most: bool
    about: About
    unit: str
    low: float = 0.0
    high: float = math.inf
    whole: bool = False
    interval: Interval | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """One limit on how much worse than the baseline's a figure may be.

    `now` and `then` take the figure from the new result and from the baseline's. It is worse when it is
    higher (`higher_is_worse`) or lower; a `relative` bound is a share of the baseline's figure, other ones
    are in the figure's own unit, at most `high`.
    """

    now: Figure
    then: Figure
    higher_is_worse: bool
    about: About
    unit: str
    relative: bool = False
    high: float = math.inf
    notes: tuple[str, ...] = ()


def _size_ratio(result: ArtefactResult) -> float | None:
    return result.size_bytes / result.size_float_bytes if result.size_float_bytes else None


def _lower(interval: Interval) -> Figure:
    return lambda result: None if (ends := interval(result)) is None else ends[0]


def _upper(interval: Interval) -> Figure:
    return lambda result: None if (ends := interval(result)) is None else ends[1]


def _drop_ci95(result: ArtefactResult) -> tuple[float, float] | None:
    return result.top1_drop_ci95


def _latency_ci95(result: ArtefactResult) -> tuple[float, float] | None:
    return result.latency_ratio_ci95


def _drop(figure: Figure) -> Limit:
    notes = ("top1_drop_ci95", "top1_drop", "top1")
    return Limit(figure, True, "accuracy", "points", high=100, interval=_drop_ci95, notes=notes)


def _field(name: str) -> Figure:
    return attrgetter(name)


_LATENCY_NOTES: Final = ("latency_ratio_ci95", "latency_ratio", "latency_ms_p50")

LIMITS: Final[Mapping[str, Limit]] = {
    "max_top1_drop": _drop(_field("top1_drop")),
    "max_top1_drop_certain": _drop(_lower(_drop_ci95)),
    "max_top1_drop_possible": _drop(_upper(_drop_ci95)),
    "min_top1": Limit(_field("top1"), False, "accuracy", "%", 1, 100, notes=("top1",)),
    "min_top1_float": Limit(
        _field("top1_float"), False, "float model", "%", 1, 100, notes=("top1_float", "top1")
    ),
    "min_agreement": Limit(_field("agreement"), False, "accuracy", "", high=1),
    "min_snr_db": Limit(_field("snr_db"), False, "accuracy", "dB", high=200),
    "min_cosine_worst": Limit(_field("cosine_worst"), False, "accuracy", "", high=1),
    "max_latency_ratio": Limit(
        _lower(_latency_ci95), True, "speed", "", interval=_latency_ci95, notes=_LATENCY_NOTES
    ),
    "max_size_ratio": Limit(_size_ratio, True, "size", "", notes=("size_float_bytes",)),
    "max_size_bytes": Limit(_field("size_bytes"), True, "size", "bytes"),
    "max_peak_rss_bytes": Limit(
        _field("peak_rss_bytes"), True, "memory", "bytes", notes=("peak_rss_bytes",)
    ),
    "max_load_ms": Limit(_field("load_ms"), True, "speed", "ms", notes=("load_ms",)),
    "min_images": Limit(_field("images"), False, "photos", "photos", low=1, whole=True),
    "min_labelled": Limit(
        _field("labelled"), False, "photos", "labelled photos", low=1, whole=True
    ),
}
"""Name in `[[rule]]` -> the limit. `max_arm64_instruction_ratio` has one bound a core and stands apart."""

ARM64: Final = "max_arm64_instruction_ratio"


def _same(name: str, higher_is_worse: bool, about: About, unit: str, **rest: Any) -> Change:
    return Change(_field(name), _field(name), higher_is_worse, about, unit, notes=(name,), **rest)


BASELINE: Final[Mapping[str, Change]] = {
    "max_top1_drop_increase": _same("top1_drop", True, "accuracy", "points", high=100),
    "max_agreement_decrease": _same("agreement", False, "accuracy", "", high=1),
    "max_snr_db_decrease": _same("snr_db", False, "accuracy", "dB"),
    "max_cosine_worst_decrease": _same("cosine_worst", False, "accuracy", "", high=2),
    "max_latency_ratio_increase": Change(
        *(_lower(_latency_ci95), _upper(_latency_ci95), True, "speed", ""),
        relative=True,
        notes=_LATENCY_NOTES,
    ),
    "max_size_bytes_increase": _same("size_bytes", True, "size", "bytes", relative=True),
    "max_peak_rss_bytes_increase": _same("peak_rss_bytes", True, "memory", "bytes", relative=True),
    "max_load_ms_increase": _same("load_ms", True, "speed", "ms", relative=True),
}
"""Name in `[baseline]` -> the limit."""
