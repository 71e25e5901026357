"""The units of all figures: how a value is written, which values there are, where a limit may lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from edge_deit.metrics.outputs import EQUAL_DB
from edge_deit.report.figure import Unit

__all__ = [
    "BYTES",
    "COSINE",
    "DECIBELS",
    "INSTRUCTIONS",
    "MILLISECONDS",
    "NAME",
    "NATS",
    "PERCENT",
    "PHOTOS",
    "POINTS",
    "PROBABILITY",
    "RATIO",
    "RUNS",
    "SHARE",
    "SIZE_RATIO",
    "THREADS",
    "number",
    "points",
]

_ROUNDING: Final = 1.000001  # float arithmetic may leave a cosine a little above 1


def number(value: float) -> str:
    """A figure in about three digits.

    >>> [number(value) for value in (0.634, 15.24, 1234.5, -0.05)]
    ['0.63', '15.2', '1,234', '-0.05']
    """
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:,.{digits}f}"


def points(value: float) -> str:
    """Points of accuracy; a small loss is never shown as none.

    >>> [points(value) for value in (0.333, -0.05, 0.0)]
    ['0.3', '-0.05', '0.0']
    """
    return f"{value:.2f}" if 0 < abs(value) < 0.1 else f"{value:.1f}"


def _scaled(unit: str, scale: float = 1.0) -> Callable[[float], str]:
    return lambda value: f"{number(value * scale)} {unit}"


def _decibels(value: float) -> str:
    return "equal" if value >= EQUAL_DB else f"{value:.1f} dB"


def _probability(value: float) -> str:
    return "below 0.0001" if value < 0.0001 else f"{value:.2g}"


NAME: Final = Unit("", "", str)
PHOTOS: Final = Unit("photos", "photos", str, {"ge": 0}, low=1, whole=True)
RUNS: Final = Unit("runs", "inferences", str, {"ge": 1}, whole=True)
THREADS: Final = Unit("threads", "threads", str, {"ge": 1}, whole=True)
PERCENT: Final = Unit(
    "%", "percent", "{:.1f} %".format, {"ge": 0, "le": 100}, high=100, hint=", in percent"
)
POINTS: Final = Unit(
    "points", "points", points, {"ge": -100, "le": 100}, high=100, hint=", in points"
)
SHARE: Final = Unit(
    "",
    "share",
    lambda value: f"{100 * value:.1f} %",
    {"ge": 0, "le": 1},
    high=1,
    hint=", not percent",
)
PROBABILITY: Final = Unit("", "probability", _probability, {"ge": 0, "le": _ROUNDING}, high=1)
DECIBELS: Final = Unit("dB", "dB", _decibels, {"le": EQUAL_DB}, high=EQUAL_DB)
COSINE: Final = Unit(
    "", "cosine", "{:.5f}".format, {"ge": -_ROUNDING, "le": _ROUNDING}, high=1, hint=", not percent"
)
NATS: Final = Unit("nats", "nats", "{:.3g} nats".format, {"ge": 0})
MILLISECONDS: Final = Unit("ms", "ms", _scaled("ms"), {"ge": 0})
RATIO: Final = Unit("", "ratio", number, {"gt": 0}, high=10, hint=", not percent")
SIZE_RATIO: Final = Unit("", "ratio", number, {"gt": 0}, high=2, hint=", not percent")
BYTES: Final = Unit("bytes", "bytes", _scaled("MB", 1e-6), {"ge": 1})
INSTRUCTIONS: Final = Unit("instructions", "instructions", _scaled("M", 1e-6), {"ge": 1})
