"""Whether a bar of the speed table holds. Shapes: R rounds; in each round every artefact ran once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

import numpy as np

from edge_deit.metrics.ratios import Ratio, ratio_of_medians

__all__ = ["BarVerdict", "SpeedBar", "judge_speed"]


@dataclass(frozen=True)
class SpeedBar:
    """median(numerator) / median(denominator) must not exceed `limit` (or must be `below` it).

    Both are shell patterns of artefact names; of several that fit, the fastest counts.
    """

    name: str
    numerator: str
    denominator: str
    limit: float
    below: bool = False


@dataclass(frozen=True)
class BarVerdict:
    """What became of a bar; `holds` is None, and the figures too, where an artefact was not measured.

    `certain` says that the whole interval lies on one side of the limit. `forward` and `backward` are the
    ratios of the two passes alone.
    """

    name: str
    numerator: str
    denominator: str
    limit: float
    below: bool
    ratio: Ratio | None
    forward: float | None
    backward: float | None
    holds: bool | None
    certain: bool | None


def judge_speed(bar: SpeedBar, samples: Mapping[str, np.ndarray]) -> BarVerdict:
    """Judge a bar; `samples` holds (2, R) times by name: the forward pass and the reversed one."""
    top, bottom = _fastest(bar.numerator, samples), _fastest(bar.denominator, samples)
    if top is None or bottom is None:
        names = top or bar.numerator, bottom or bar.denominator
        return BarVerdict(bar.name, *names, bar.limit, bar.below, None, None, None, None, None)
    a, b = samples[top], samples[bottom]
    ratio = ratio_of_medians(a.ravel(), b.ravel())
    passes = np.median(a, axis=1) / np.median(b, axis=1)
    return BarVerdict(
        name=bar.name,
        numerator=top,
        denominator=bottom,
        limit=bar.limit,
        below=bar.below,
        ratio=ratio,
        forward=float(passes[0]),
        backward=float(passes[1]),
        holds=_within(ratio.value, bar),
        certain=_within(ratio.low, bar) == _within(ratio.high, bar),
    )


def _within(ratio: float, bar: SpeedBar) -> bool:
    return ratio < bar.limit if bar.below else ratio <= bar.limit


def _fastest(pattern: str, samples: Mapping[str, np.ndarray]) -> str | None:
    """The name with the least median among those that fit."""
    names: Sequence[str] = [name for name in samples if fnmatch(name, pattern)]
    return min(names, key=lambda name: float(np.median(samples[name])), default=None)
