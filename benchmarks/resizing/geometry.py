"""Where a square lies in a resized photo, and resampling without antialiasing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import PreprocessSpec

__all__ = ["Placed", "bilinear", "middles", "nearest", "placed"]


@dataclass(frozen=True)
class Placed:
    """A photo scaled to `width` x `height`, and the corner of the square of `crop` that is kept of it."""

    width: int
    height: int
    left: int
    top: int
    crop: int


def placed(width: int, height: int, spec: PreprocessSpec) -> Placed:
    """What `spec` does to a photo of these sizes.

    Raises:
        EdgeDeitError: it does not scale the short side, or pads.
    """
    if spec.resize != "shortest" or spec.crop_size > spec.resize_size:
        raise EdgeDeitError(
            f"resize is {spec.resize}, {spec.resize_size} to {spec.crop_size}; these comparisons are for "
            "checkpoints that scale the short side and cut a square from it"
        )
    short = min(width, height)
    wide, high = (max(spec.resize_size, spec.resize_size * n // short) for n in (width, height))
    half: Callable[[int], int] = (
        (lambda spare: spare // 2)
        if spec.crop_rounding == "floor"
        else (lambda spare: round(spare / 2))
    )
    left, top = half(wide - spec.crop_size), half(high - spec.crop_size)
    return Placed(wide, high, left, top, spec.crop_size)


def nearest(rgb: np.ndarray, to: Placed) -> np.ndarray:
    """The pixel under the middle of each new one: (H, W, 3) uint8 -> (crop, crop, 3).

    A middle between two pixels counts as the second's.
    """
    rows = middles(len(rgb), to.height, to.top, to.crop).astype(int)
    columns = middles(rgb.shape[1], to.width, to.left, to.crop).astype(int)
    return np.asarray(rgb[rows][:, columns])


def bilinear(
    rgb: np.ndarray, to: Placed, *, corners: bool = False, steps: int | None = None
) -> np.ndarray:
    """Between the four nearest pixels, however much the photo shrinks: (H, W, 3) uint8 -> (crop, crop, 3).

    With `corners` the place of new pixel i is i * scale, otherwise the middles of pixels correspond:
    (i + 1/2) * scale - 1/2. `steps` is how many places there are between two pixels (None: any).
    """
    first, second, across = _between(rgb.shape[1], to.width, to.left, to.crop, corners, steps)
    above, below, down = _between(len(rgb), to.height, to.top, to.crop, corners, steps)
    across, down = across[None, :, None], down[:, None, None]
    rows = rgb[above] * (1 - down) + rgb[below] * down  # (crop, W, 3)
    values = rows[:, first] * (1 - across) + rows[:, second] * across
    return np.asarray(np.floor(values + 0.5), np.uint8)


def middles(length: int, resized: int, start: int, crop: int) -> np.ndarray:
    """Along one axis, where the middles of `crop` new pixels lie among `length` old ones."""
    return (np.arange(start, start + crop) + 0.5) * length / resized


def _between(
    length: int, resized: int, start: int, crop: int, corners: bool, steps: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Along one axis, for each new pixel: the two old ones, and how far it is on the way to the second."""
    shift = 0.0 if corners else 0.5
    places = middles(length, resized, start, crop) - 0.5 * length / resized
    places += shift * length / resized - shift
    if steps is not None:
        places = np.round(places * steps) / steps
    first = np.floor(places).astype(int)
    limits = 0, length - 1
    return first.clip(*limits), (first + 1).clip(*limits), places - first
