"""A window of Pillow's resize without the rest of it, so that a very long photo costs no more."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

__all__ = ["RESAMPLE", "resize_window"]

RESAMPLE: Final = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
MAX_RESIZED: Final = 4_000_000
"""Pixels of a resized photo from which on only the window is computed; Pillow is quicker below."""

_BITS: Final = (
    22  # of the weights' fraction: leaves room for 8 bits of value and 2 of overshoot in 32
)
_CUBIC: Final = -0.5  # Keys' a, as in Pillow
_CHUNK: Final = 1 << 20


def resize_window(
    image: Image.Image, size: tuple[int, int], window: tuple[int, int, int, int], resample: str
) -> np.ndarray:
    """`image.resize(size, resample).crop(window)` to the bit, as (H, W, 3) uint8.

    `image` is RGB; `window` is left, top, right, bottom and lies within `size`. Above `MAX_RESIZED`
    pixels only the window is computed, with Pillow's own arithmetic: weights of 22 bits, each pass
    rounded to 8 bits, and since Pillow 13 the vertical pass first where more than twice as many rows
    as columns are lost.
    """
    if size == image.size:
        return np.asarray(image.crop(window))
    if size[0] * size[1] <= MAX_RESIZED:
        return np.asarray(image.resize(size, RESAMPLE[resample]).crop(window))
    left, top, right, bottom = window
    across = _axis(image.width, size[0], left, right, resample)
    down = _axis(image.height, size[1], top, bottom, resample)
    part = np.asarray(image.crop((across.low, down.low, across.high, down.high)))
    if image.height - size[1] > max(0, 2 * (image.width - size[0])):
        return _apply(_apply(part, down).swapaxes(0, 1), across).swapaxes(0, 1)
    narrow = _apply(part.swapaxes(0, 1), across).swapaxes(0, 1)
    return _apply(narrow, down)


@dataclass(frozen=True)
class _Axis:
    """For each output position, the first source position and the weights from there on (fixed point)."""

    starts: list[int]
    weights: list[np.ndarray]

    @property
    def low(self) -> int:
        return min(self.starts)

    @property
    def high(self) -> int:
        return max(
            start + len(weight) for start, weight in zip(self.starts, self.weights, strict=True)
        )


def _apply(part: np.ndarray, axis: _Axis) -> np.ndarray:
    """One pass along the first axis of (N, M, 3) uint8, which begins at the source position `low`."""
    low = axis.low
    rows = []
    for start, weight in zip(axis.starts, axis.weights, strict=True):
        taps = part[start - low : start - low + len(weight)].astype(np.int64)  # (T, M, 3)
        sums = np.tensordot(weight, taps, 1) + (1 << (_BITS - 1))
        rows.append((sums >> _BITS).clip(0, 255).astype(np.uint8))
    return np.stack(rows)


def _axis(source: int, target: int, first: int, last: int, resample: str) -> _Axis:
    one = np.array([1 << _BITS], np.int64)
    if source == target:  # Pillow skips this pass
        return _Axis(list(range(first, last)), [one] * (last - first))
    if resample == "nearest":
        return _Axis(_nearest(source / target, first, last), [one] * (last - first))
    return _filtered(source, target, first, last, resample)


def _nearest(step: float, first: int, last: int) -> list[int]:
    """Pillow adds the step up instead of multiplying; the last bits of that sum count."""
    position, done = step * 0.5, 0
    while done < first:
        count = min(_CHUNK, first - done)
        steps = np.full(count + 1, step)
        steps[0] = position
        position, done = float(np.add.accumulate(steps)[-1]), done + count
    starts = []
    for _ in range(last - first):
        starts.append(int(position))
        position += step
    return starts


def _filtered(source: int, target: int, first: int, last: int, resample: str) -> _Axis:
    """`precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow's Resample.c, for a few outputs."""
    support, weigh = _FILTERS[resample]
    scale = float(np.float32(source)) / target  # Pillow's box is float32
    widening = max(scale, 1.0)
    starts, weights = [], []
    for position in range(first, last):
        centre = (position + 0.5) * scale
        start = max(int(centre - support * widening + 0.5), 0)
        end = min(int(centre + support * widening + 0.5), source)
        real = [weigh((tap - centre + 0.5) * (1.0 / widening)) for tap in range(start, end)]
        total = 0.0
        for weight in real:
            total += weight  # in this order: sum() of Python 3.12 rounds otherwise
        if total != 0.0:
            real = [weight / total for weight in real]
        fixed = [int(weight * (1 << _BITS) + (-0.5 if weight < 0 else 0.5)) for weight in real]
        starts.append(start)
        weights.append(np.array(fixed, np.int64))
    return _Axis(starts, weights)


def _bilinear(distance: float) -> float:
    return max(0.0, 1.0 - abs(distance))


def _bicubic(distance: float) -> float:
    x = abs(distance)
    if x < 1.0:
        return ((_CUBIC + 2.0) * x - (_CUBIC + 3.0)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * _CUBIC if x < 2.0 else 0.0


def _sinc(x: float) -> float:
    return 1.0 if x == 0.0 else math.sin(x * math.pi) / (x * math.pi)


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3) if -3.0 <= x < 3.0 else 0.0


_FILTERS: Final[dict[str, tuple[float, Callable[[float], float]]]] = {
    "bilinear": (1.0, _bilinear),
    "bicubic": (2.0, _bicubic),
    "lanczos": (3.0, _lanczos),
}
