"""Skia, which scales Android's bitmaps, gives the squares that the benchmark of resizes makes for it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT
from edge_deit.data.preprocess import PreprocessSpec
from environments import run_script

sys.path.insert(0, str(ROOT / "benchmarks"))

from resizing.geometry import bilinear, middles, nearest, placed

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("skia")]

SPEC = PreprocessSpec(resize_size=124, crop_size=112)


@pytest.mark.parametrize("size", [(500, 375), (300, 500), (2016, 1512), (90, 70)])
@pytest.mark.parametrize("name", ["kLinear", "kNearest"])
def test_squares_are_skias(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    width, height = size
    photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.save(tmp_path / "photo.npy", photo)
    to, out = placed(width, height, SPEC), tmp_path / "drawn.npy"
    run_script("skia-144", "run_skia.py", tmp_path / "photo.npy", to.width, to.height, name, out)
    drawn = np.load(out)[to.top : to.top + to.crop, to.left : to.left + to.crop].astype(int)
    if name == "kNearest":
        rows = middles(height, to.height, to.top, to.crop)
        columns = middles(width, to.width, to.left, to.crop)
        clear = [np.abs(places - places.round()) > 1e-6 for places in (rows, columns)]
        assert min(map(np.mean, clear)) > 0.9
        assert not (nearest(photo, to) != drawn).any(2)[np.ix_(*clear)].any()
    else:
        off = np.abs(bilinear(photo, to) - drawn)
        assert off.max() <= 1
        assert (off == 0).mean() > 0.99
