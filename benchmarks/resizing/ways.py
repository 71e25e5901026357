"""The ways: what each does to a photo, where that is written, and what of it had to be assumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from PIL import Image

from edge_deit.data.preprocess import PreprocessSpec, bytes_of, preprocess
from resizing.geometry import Placed, bilinear, nearest, placed

__all__ = ["QUALITIES", "WAYS", "Way", "reference"]

Square = Callable[[np.ndarray, PreprocessSpec], np.ndarray]

QUALITIES: Final = ("low", "medium", "high")
"""What a canvas calls its filters, the default first."""


@dataclass(frozen=True)
class Way:
    """One way from an upright photo (H, W, 3) uint8 to a square (crop, crop, 3) uint8.

    `square` is None where a browser has to make it. `filter` and `source` go into the document.
    """

    name: str
    filter: str
    source: str
    square: Square | None = None


def reference(rgb: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """What the manifest says, as `predict` does it."""
    return np.asarray(bytes_of(preprocess(Image.fromarray(rgb), spec), spec)[0])


def _antialiased(rgb: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    return reference(rgb, replace(spec, resample="bilinear"))


def _bilinear(rgb: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    return bilinear(rgb, placed(rgb.shape[1], len(rgb), spec))


def _nearest(rgb: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    return nearest(rgb, placed(rgb.shape[1], len(rgb), spec))


def _whole(spec: PreprocessSpec) -> PreprocessSpec:
    """All of the short side is seen: it becomes the square's."""
    return replace(spec, resize_size=spec.crop_size)


def _vision_smooth(rgb: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    return _antialiased(rgb, _whole(spec))


def _vision_sharp(rgb: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    return _bilinear(rgb, _whole(spec))


def _squashed(rgb: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    size = spec.crop_size
    return bilinear(rgb, Placed(size, size, 0, 0, size), corners=True, steps=_OPENCV_STEPS)


_OPENCV_STEPS: Final = 32  # places between two pixels in OpenCV's warps: INTER_BITS is 5
_CENTER_CROP: Final = (
    "Apple documents the geometry of `centerCrop` (short side to the model's size, central square); "
    "of its filter nothing is said: "
)

WAYS: Final = (
    Way(
        "Pillow's bilinear",
        "the manifest's sizes; triangle, widened when it shrinks",
        "Pillow's `Resample.c`; only the filter's name differs from the reference",
        _antialiased,
    ),
    Way(
        "Android `createScaledBitmap(…, true)`; any bilinear filter without antialiasing",
        "the manifest's sizes; the four nearest pixels, however much it shrinks",
        "Android's reference says bilinear, and Skia draws it: Skia 144's linear filter without mipmaps "
        "gives these bytes to one grey level (`tests/clients/test_skia.py`); no phone was asked. PyTorch's "
        "`interpolate(antialias=False)` and OpenCV's `INTER_LINEAR` compute the same",
        _bilinear,
    ),
    Way(
        "Android `createScaledBitmap(…, false)`",
        "the manifest's sizes; the nearest pixel",
        "Android's reference says nearest neighbour; Skia 144 gives these bytes but for pixels halfway "
        "between two (same test)",
        _nearest,
    ),
    Way(
        "a browser's canvas, `drawImage`",
        "the manifest's sizes; Chromium halves the photo while it can, then takes the four nearest pixels",
        "drawn by {chromium} itself, headless, without a GPU; that it halves is concluded from what it "
        "drew: Skia's filter with the nearest mipmap comes closest",
    ),
    Way(
        "Vision `centerCrop`, if it smooths",
        "short side to the model's size, no margin; triangle, widened when it shrinks",
        f"{_CENTER_CROP}this row assumes one that smooths",
        _vision_smooth,
    ),
    Way(
        "Vision `centerCrop`, if it does not",
        "short side to the model's size, no margin; the four nearest pixels",
        f"{_CENTER_CROP}this row assumes one that does not smooth",
        _vision_sharp,
    ),
    Way(
        "MediaPipe `ImageClassifier`",
        "squashed to the model's size; the four nearest pixels, half a pixel aside",
        "`image_to_tensor_converter_opencv.cc`: OpenCV's `warpPerspective` between corners, "
        "`INTER_LINEAR`. MediaPipe 1.2.3 gives the same scores to 1e-4 "
        "(`tests/clients/test_mediapipe.py`); on a GPU it samples with the GPU's filter: not measured",
        _squashed,
    ),
)
