"""Statistics of two models on the same photos: how sure a difference of their accuracies is.

Of n photos, `lost` are those that only the float model had right, `won` those that only the artefact had
right; the others tell nothing about the difference. The drop is (lost - won) / n.

Sources: Tango, "Equivalence test and confidence interval for the difference in proportions for the
paired-sample design", Statistics in Medicine 17, 1998; McNemar, Psychometrika 12, 1947 (exact form).
"""

from __future__ import annotations

import math
from typing import Final

from edge_deit.common.errors import EdgeDeitError

__all__ = ["drop_interval", "mcnemar"]

_EDGE: Final = 1e-12  # the score statistic is not defined at -1 and 1 themselves


def drop_interval(lost: int, won: int, images: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval of the drop in points, for paired proportions.

    It holds its level with few photos and with no discordant one, where the usual normal interval has width
    zero.

    Raises:
        EdgeDeitError: counts that cannot be.

    >>> [round(end, 2) for end in drop_interval(0, 0, 300)]
    [-1.26, 1.26]
    >>> [round(end, 1) for end in drop_interval(9, 3, 100)]
    [-0.9, 13.8]
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    _check(lost, won, images)
    z = float(norm.ppf(0.5 + level / 2))
    drop = (lost - won) / images
    low, high = -1 + _EDGE, 1 - _EDGE

    def excess(delta: float, bound: float) -> float:
        return _score(delta, lost, won, images) - bound

    left = -1.0 if excess(low, z) < 0 else float(brentq(excess, low, drop, args=(z,)))
    right = 1.0 if excess(high, -z) > 0 else float(brentq(excess, drop, high, args=(-z,)))
    return 100 * left, 100 * right


def _score(delta: float, lost: int, won: int, images: int) -> float:
    """Tango's statistic for the hypothesis that the drop is `delta`; it falls as delta grows."""
    a = 2 * images
    b = -lost - won + (2 * images - lost + won) * delta
    c = -won * delta * (1 - delta)
    share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (
        2 * a
    )  # of `won`, most likely under delta
    variance = images * (2 * share + delta * (1 - delta))
    distance = lost - won - images * delta
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def mcnemar(lost: int, won: int) -> float:
    """Exact two-sided p that both models are equally good: binomial test of `lost` among the discordant.

    Raises:
        EdgeDeitError: counts that cannot be.

    >>> mcnemar(0, 0)
    1.0
    >>> round(mcnemar(9, 1), 4)
    0.0215
    """
    from scipy.stats import binomtest

    _check(lost, won, lost + won)
    if lost + won == 0:
        return 1.0
    return float(binomtest(lost, lost + won).pvalue)


def _check(lost: int, won: int, images: int) -> None:
    if min(lost, won) < 0 or lost + won > images:
        raise EdgeDeitError(f"{lost} lost and {won} won photos of {images} cannot be")
