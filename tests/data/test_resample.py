"""A window of a resize equals Pillow's whole resize, cropped: to the bit, whatever the shape."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from edge_deit.data import resample
from edge_deit.data.preprocess import PreprocessSpec, preprocess
from edge_deit.data.resample import RESAMPLE, resize_window

SIDE = st.integers(1, 12) | st.integers(1, 300)
SHARE = st.floats(0, 1)


def noise(width: int, height: int, seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def part(length: int, first: float, last: float) -> tuple[int, int]:
    start = min(int(first * length), length - 1)
    return start, max(start + 1, int(last * length))


@pytest.fixture(autouse=True, scope="module")
def only_windows() -> object:
    """No photo is small enough for Pillow to resize it whole."""
    patch = pytest.MonkeyPatch()
    patch.setattr(resample, "MAX_RESIZED", 0)
    yield patch
    patch.undo()


@given(
    st.tuples(SIDE, SIDE), st.tuples(SIDE, SIDE), st.tuples(SHARE, SHARE, SHARE, SHARE),
    st.sampled_from(sorted(RESAMPLE)), st.integers(0, 9),
)  # fmt: skip
@example((59, 80), (39, 39), (0, 0, 1, 1), "bicubic", 0)  # Pillow's vertical pass comes first
@example((59, 79), (39, 39), (0, 0, 1, 1), "bicubic", 0)  # and here not
@example((300, 1), (300, 248), (0.4, 0, 0.6, 1), "lanczos", 1)  # one pass alone
@example((1, 300), (248, 300), (0, 0.4, 1, 0.6), "bilinear", 1)
def test_a_window_equals_the_whole(
    source: tuple[int, int],
    target: tuple[int, int],
    shares: tuple[float, float, float, float],
    name: str,
    seed: int,
) -> None:
    image = noise(*source, seed)
    left, right = part(target[0], shares[0], shares[2])
    top, bottom = part(target[1], shares[1], shares[3])
    window = (left, top, right, bottom)
    expected = np.asarray(image.resize(target, RESAMPLE[name]).crop(window))
    actual = resize_window(image, target, window, name)
    assert actual.dtype == np.uint8
    assert np.array_equal(actual, expected)


@pytest.mark.parametrize("size", [(3000, 1), (1, 3000), (2500, 3), (5000, 40), (40, 5000)])
@pytest.mark.parametrize("name", sorted(RESAMPLE))
def test_long_photos(size: tuple[int, int], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(*size, 7)
    for rounding in ("floor", "half-even"):
        spec = PreprocessSpec("shortest", 35, 32, rounding, name)  # type: ignore[arg-type]
        monkeypatch.setattr(resample, "MAX_RESIZED", 0)
        actual = preprocess(image, spec)
        monkeypatch.setattr(resample, "MAX_RESIZED", 10**9)
        assert np.array_equal(actual, preprocess(image, spec))


def test_the_place_of_nearest_far_along() -> None:
    """Pillow adds its steps up; a million of them differ from one product."""
    image = noise(5, 1, 3)
    target = (2_500_000, 1)
    window = (2_300_000, 0, 2_300_500, 1)
    expected = np.asarray(image.resize(target, RESAMPLE["nearest"]).crop(window))
    assert np.array_equal(resize_window(image, target, window, "nearest"), expected)


PEAK = """
import resource, sys
from pathlib import Path
from edge_deit.data.preprocess import default_spec, load_pixels
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    assert load_pixels(Path(path), default_spec(224)).shape == (1, 3, 224, 224)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_memory_of_long_photos(tmp_path: Path) -> None:
    """Pillow's own resize takes 18 GB for the first; the last one's pixels alone are 72 MB."""
    sizes = [(30000, 1), (1, 30000), (400_000, 2), (60000, 300)]
    paths = [tmp_path / f"{width}.png" for width, _ in sizes]
    for path, size in zip(paths, sizes, strict=True):
        Image.new("RGB", size, (9, 90, 200)).save(path)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *paths], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) * 1024 < 150e6
