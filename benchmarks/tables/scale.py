"""The tables of benchmarks/scale.py: cost against photos and against the model's size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from edge_deit.common.host import host_line
from tables.grid import Grid

__all__ = ["exponent", "scale_grids"]

_MB: Final = 1e6


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """The slope of log cost along log size by least squares, None with fewer than two sizes.

    >>> exponent([1000, 4000, 16000], [3.0, 12.0, 48.0])
    1.0
    >>> exponent([5], [1.0]) is None
    True
    """
    if len(set(sizes)) < 2:
        return None
    x, y = ([math.log(value) for value in values] for values in (sizes, costs))
    centre, level = sum(x) / len(x), sum(y) / len(y)
    rise = sum((a - centre) * (b - level) for a, b in zip(x, y, strict=True))
    return round(rise / sum((a - centre) ** 2 for a in x), 9)


def scale_grids(result: Mapping[str, Any]) -> list[Grid]:
    """Both tables of a result."""
    settings = result["settings"]
    threads = f"{settings['threads']} thread{'s' if settings['threads'] > 1 else ''}"
    size = settings["image_size"]
    host = (
        f"{host_line(result['host'])}. {threads}, {settings['workers']} decoding processes, "
        f"{size} x {size} pixels."
    )
    return [
        _photos(result["photos"], settings["models"][0], host),
        _models(result["models"]),
    ]


def _photos(runs: Sequence[Mapping[str, Any]], model: str, host: str) -> Grid:
    rows = tuple(
        (
            f"{one['photos']}",
            f"{one['seconds']:.0f}",
            f"{1000 * one['seconds'] / one['photos']:.1f}",
            f"{one['runner_seconds'] / one['seconds']:.3f}",
            f"{one['peak_bytes'] / _MB:.0f}",
            f"{one['journal_bytes'] / one['photos']:.0f}",
        )
        for one in runs
    )
    counts = [one["photos"] for one in runs]
    notes = [_exponents(runs, counts, "photos"), host]
    return Grid(
        f"Cost against photos, {model}",
        (
            *("photos", "seconds", "ms a photo", "share of time in runners"),
            *("peak memory, MB", "journal, bytes a photo"),
        ),
        rows,
        tuple(notes),
    )


def _models(runs: Sequence[Mapping[str, Any]]) -> Grid:
    rows = tuple(
        (
            one["model"],
            f"{one['parameters'] / 1e6:.1f}",
            f"{one['photos']}",
            f"{1000 * one['seconds'] / one['photos']:.0f}",
            f"{one['runner_seconds'] / one['seconds']:.3f}",
            f"{one['peak_bytes'] / _MB:.0f}",
        )
        for one in runs
    )
    return Grid(
        "Cost against the model's size",
        (
            *("measured", "million parameters", "photos", "ms a photo", "share of time in runners"),
            "peak memory, MB",
        ),
        rows,
        (_exponents(runs, [one["parameters"] for one in runs], "parameters"),),
    )


def _exponents(runs: Sequence[Mapping[str, Any]], sizes: Sequence[float], what: str) -> str:
    """One line; time is that of all photos in the first table, that of one in the second, as sizes say."""
    each = what == "parameters"
    times = [one["seconds"] / (one["photos"] if each else 1) for one in runs]
    time, memory = exponent(sizes, times), exponent(sizes, [one["peak_bytes"] for one in runs])
    if time is None or memory is None:
        return f"One size alone: no exponent of {what}."
    return (
        f"Time grows with {what} to the power of {time:.2f}, peak memory to that of {memory:.2f}."
    )
