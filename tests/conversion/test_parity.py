"""The check that ends an export must not let a wrong file pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_deit.common.errors import EdgeDeitError
from edge_deit.conversion.parity import check_parity
from edge_deit.quantization.scheme import Precision, Scheme

PIXELS = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
REFERENCE = np.random.default_rng(0).normal(size=(8, 10)).astype(np.float32)


class Replay:
    """A runner that returns prepared rows, one a call."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = list(rows)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        assert pixels.shape == (1, 3, 4, 4)
        return self.rows.pop(0)[None]


def check(rows: np.ndarray, precision: Precision) -> float:
    runner = Replay(rows)
    return check_parity(runner, PIXELS, REFERENCE, Scheme(precision), classes=True).cosine


def test_equal_outputs_pass() -> None:
    assert check(REFERENCE, "fp32") == pytest.approx(1)
    assert check(REFERENCE, "int8") == pytest.approx(1)


def test_one_wrong_photo_fails_a_float_file() -> None:
    rows = REFERENCE.copy()
    rows[5] = rows[4]
    with pytest.raises(EdgeDeitError, match="exported file is wrong: cosine"):
        check(rows, "fp32")


def test_one_undecided_photo_does_not_fail_an_int8_file() -> None:
    rows = REFERENCE.copy()
    rows[5] = -0.01 * rows[5]
    assert check(rows, "int8") < 0


def test_shuffled_classes_fail_an_int8_file() -> None:
    with pytest.raises(EdgeDeitError, match=r"over all outputs.*--keep-float"):
        check(np.roll(REFERENCE, 1, axis=1), "int8")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_nan_fails(precision: Precision) -> None:
    rows = REFERENCE.copy()
    rows[0, 0] = np.nan
    with pytest.raises(EdgeDeitError, match="NaN or infinite"):
        check(rows, precision)
