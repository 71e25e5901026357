"""Intervals and tests for two models on the same photos."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from edge_deit.common.errors import EdgeDeitError
from edge_deit.metrics.paired import drop_interval, mcnemar


@pytest.mark.parametrize(("lost", "won", "images"), [(9, 3, 100), (2, 7, 60), (40, 35, 300)])
def test_the_ends_are_where_the_score_test_rejects(lost: int, won: int, images: int) -> None:
    """The nuisance parameter is found here by maximising the likelihood numerically, not by a formula."""
    for end in drop_interval(lost, won, images):
        drop = end / 100

        def minus_likelihood(share: float, drop: float = drop) -> float:
            rest = 1 - 2 * share - drop
            pairs = ((lost, share + drop), (won, share), (images - lost - won, rest))
            return -sum(count * float(np.log(max(p, 1e-300))) for count, p in pairs)

        low, high = max(0.0, -drop), (1 - drop) / 2
        share = minimize_scalar(
            minus_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-10}
        ).x
        variance = images * (2 * share + drop - drop**2)
        score = (lost - won - images * drop) / np.sqrt(variance)
        assert abs(score) == pytest.approx(norm.ppf(0.975), abs=1e-4)


@pytest.mark.parametrize(("lost", "won", "images"), [(9, 3, 100), (0, 5, 50), (1, 0, 1000)])
def test_swapping_the_models_turns_the_interval_round(lost: int, won: int, images: int) -> None:
    low, high = drop_interval(lost, won, images)
    assert drop_interval(won, lost, images) == pytest.approx((-high, -low))
    assert low <= 100 * (lost - won) / images <= high


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (20, 0), (0, 20), (10, 10)])
def test_the_interval_stays_within_what_is_possible(lost: int, won: int) -> None:
    low, high = drop_interval(lost, won, 20)
    assert -100 <= low < high <= 100


@pytest.mark.parametrize(
    ("images", "lost", "won"), [(100, 0.03, 0.01), (300, 0.01, 0.01), (50, 0.1, 0.02)]
)
def test_it_covers_the_true_drop_about_as_often_as_it_says(
    images: int, lost: float, won: float
) -> None:
    generator = np.random.default_rng(2)
    drawn = generator.multinomial(images, [lost, won, 1 - lost - won], 400)
    inside = 0
    for a, b, _ in drawn:
        low, high = drop_interval(int(a), int(b), images)
        inside += low <= 100 * (lost - won) <= high
    assert 0.92 <= inside / 400 <= 0.99


def test_more_photos_make_it_narrower() -> None:
    widths = [np.diff(drop_interval(n // 50, n // 100, n))[0] for n in (100, 400, 1600)]
    assert widths[0] > widths[1] > widths[2]


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0
    assert mcnemar(6, 0) == pytest.approx(2 / 2**6)
    assert mcnemar(0, 6) == mcnemar(6, 0)


@pytest.mark.parametrize(("lost", "won", "images"), [(-1, 0, 10), (6, 5, 10)])
def test_counts_that_cannot_be_are_refused(lost: int, won: int, images: int) -> None:
    with pytest.raises(EdgeDeitError, match="cannot be"):
        drop_interval(lost, won, images)
