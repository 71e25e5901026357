"""The tables of benchmarks/resizes.py: one a file, and one that says what each way is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from edge_deit.metrics.outputs import EQUAL_DB
from resizing.ways import QUALITIES, WAYS
from tables.grid import Grid

__all__ = ["REFERENCE", "resize_grids"]

REFERENCE: Final = "reference"
"""The row of the manifest's own preprocessing."""

_HEAD: Final = (
    "resized by",
    "same answer",
    "same five",
    "score, mean",
    "largest",
    "SNR, dB",
    "top-1",
)


def resize_grids(result: Mapping[str, Any]) -> list[Grid]:
    """All tables of a result."""
    tables = [
        Grid(f"{name}, {result['photos']} photos", _HEAD, tuple(map(_row, figures.items())))
        for name, figures in result["files"].items()
    ]
    sources = tuple((w.name, w.filter, w.source.format(chromium=result["chromium"])) for w in WAYS)
    drew = "other bytes" if result["canvas_qualities_differ"] else "the same bytes on all photos"
    said = f"A canvas has its default `imageSmoothingQuality`, `{QUALITIES[0]}`; the others drew {drew}."
    return [
        *tables,
        Grid("What each way is", ("resized by", "filter", "known from"), sources, (said,)),
    ]


def _row(entry: tuple[str, Mapping[str, float]]) -> tuple[str, ...]:
    way, one = entry
    snr = "equal" if one["snr_db"] >= EQUAL_DB else f"{one['snr_db']:.1f}"
    return (
        way,
        *(_percent(one[key]) for key in ("same_answer", "same_five")),
        f"{one['score_mean']:.4f}",
        f"{one['score_max']:.2f}",
        snr,
        _percent(one["top1"]),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
