"""Closeness, softmax and top-k on values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_deit.common.errors import EdgeDeitError
from edge_deit.metrics.outputs import closeness, kl_divergence, softmax, top_k

pytestmark = pytest.mark.newest


def test_equal_outputs() -> None:
    values = np.array([[1.0, 2.0], [3.0, -1.0]])
    result = closeness(values, values, classes=True)
    assert result.cosine == pytest.approx(1)
    assert result.snr_db == float("inf")
    assert result.agreement == 1
    assert result.max_abs == 0


def test_known_noise() -> None:
    reference = np.array([[3.0, 4.0], [10.0, 0.0]])
    actual = np.array([[3.0, 4.0], [9.0, 9.0]])
    result = closeness(reference, actual, classes=True)
    assert result.snr_db == pytest.approx(10 * np.log10(125 / 82))
    assert result.cosine == pytest.approx(np.sqrt(0.5))  # of the worst image
    assert result.agreement == 1  # a tie goes to the lower index
    assert result.cosine_all == pytest.approx(115 / np.sqrt(125 * (25 + 162)))
    assert result.max_abs == 9


def test_changed_argmax_and_features() -> None:
    reference, actual = np.array([[1.0, 2.0]]), np.array([[2.0, 1.0]])
    assert closeness(reference, actual, classes=True).agreement == 0
    tokens = closeness(np.ones((1, 2, 3)), np.ones((1, 2, 3)), classes=False)
    assert tokens.agreement is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_values_are_an_error(bad: float) -> None:
    with pytest.raises(EdgeDeitError, match="NaN or infinite"):
        closeness(np.ones((1, 2)), np.array([[1.0, bad]]), classes=True)


def test_constant_zero_output_is_not_alike() -> None:
    assert closeness(np.ones((1, 2)), np.zeros((1, 2)), classes=True).cosine == 0


def test_other_shape_is_an_error() -> None:
    with pytest.raises(EdgeDeitError, match="shape"):
        closeness(np.ones((1, 2)), np.ones((1, 3)), classes=True)


def test_softmax_survives_large_logits() -> None:
    assert softmax(np.array([1000.0, 0.0])).tolist() == [1, 0]


def test_top_k_order_and_ties() -> None:
    assert top_k(np.array([0.5, 2.0, 2.0, -1.0]), 3) == [1, 2, 0]
    assert top_k(np.array([0.5, 2.0]), 5) == [1, 0]


@pytest.mark.parametrize("scale", [0.1, 10.0, 1e30])
def test_kl_divergence_is_pytorchs(scale: float) -> None:
    rng = np.random.default_rng(3)
    reference, other = (scale * rng.normal(size=50) for _ in range(2))
    logs = [torch.log_softmax(torch.from_numpy(one), 0) for one in (other, reference)]
    expected = float(torch.nn.functional.kl_div(*logs, log_target=True, reduction="sum"))
    assert kl_divergence(reference, other) == pytest.approx(expected, rel=1e-9)
    assert kl_divergence(reference, reference) == 0
