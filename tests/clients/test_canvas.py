"""Chromium's canvas behind the benchmark of resizes: what is not scaled comes back byte for byte."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest

from conftest import ROOT
from edge_deit.data.preprocess import PreprocessSpec

sys.path.insert(0, str(ROOT / "benchmarks"))

from resizing.canvas import draw_squares
from resizing.ways import reference

pytestmark = pytest.mark.clients


def test_squares_are_drawn_in_order_and_place() -> None:
    if not any(map(shutil.which, ("chromium", "chromium-browser"))):
        pytest.skip("Chromium is not installed; Debian's package is chromium")
    spec = PreprocessSpec(resize_size=48, crop_size=32)
    photos = [
        np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        for seed, size in enumerate([(48, 61), (70, 48), (480, 480)])
    ]
    drawn = draw_squares(photos, spec, ("low", "high"))
    for squares in drawn.values():
        assert squares.shape == (3, 32, 32, 3)
        for square, photo in zip(squares[:2], photos, strict=False):  # as large as they are
            assert np.array_equal(square, reference(photo, spec))
        assert np.abs(squares[2].astype(int) - reference(photos[2], spec)).mean() < 20
