"""Ratios of times that were measured in the same rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_deit.common.errors import EdgeDeitError

__all__ = ["Ratio", "ratio_of_medians"]


_RESAMPLES: Final = 10_000

_PERCENTILES: Final = (2.5, 97.5)

_SEED: Final = 0


@dataclass(frozen=True)
class Ratio:
    """A ratio of two medians and its bootstrap 95 % interval."""

    value: float
    low: float
    high: float


def ratio_of_medians(numerator: np.ndarray, denominator: np.ndarray) -> Ratio:
    """Ratio of the medians of two series (R,) measured in the same rounds.

    Raises:
        EdgeDeitError: series of different or no length, or a time that is not positive.

    >>> ratio_of_medians(np.full(9, 1.0), np.full(9, 2.0))
    Ratio(value=0.5, low=0.5, high=0.5)
    """
    if numerator.shape != denominator.shape or numerator.ndim != 1 or not len(numerator):
        raise EdgeDeitError(f"series of {numerator.shape} and {denominator.shape} rounds")
    if not (numerator > 0).all() or not (denominator > 0).all():
        raise EdgeDeitError("a measured time is not positive")
    rounds = len(numerator)
    drawn = np.random.default_rng(_SEED).integers(0, rounds, (_RESAMPLES, rounds))
    ratios = np.median(numerator[drawn], axis=1) / np.median(denominator[drawn], axis=1)
    low, high = np.percentile(ratios, _PERCENTILES)
    return Ratio(float(np.median(numerator) / np.median(denominator)), float(low), float(high))
