"""RandAugment: two random operations on a photo, all as strong as one magnitude says.

Source: arXiv 1909.13719, algorithm 1 and table 1; the spread of the magnitude, and the ends of the ranges
that the paper leaves open, as DeiT uses them (arXiv 2012.12877, table 9: `rand-m9-mstd0.5-inc1`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

__all__ = ["OPERATIONS", "rand_augment"]

_EACH: Final = 2
_SPREAD: Final = 0.5  # standard deviation of the magnitude
GREATEST: Final = 10.0

_DEGREES, _SHEAR, _SHIFT, _FACTOR = 30.0, 0.3, 0.45, 0.9
_LEVELS: Final = 256
_BITS, _LOST_BITS = 8, 4
_ADDED: Final = 110

Fill = tuple[int, int, int]
Operation = Callable[[Image.Image, float, float, Fill], Image.Image]
"""Takes an RGB photo, a strength from 0 to 1, a sign, and the colour of what was outside."""


def _turned(kind: str) -> Operation:
    """Shear and translation, as the six numbers of an affine map."""

    def apply(image: Image.Image, strength: float, sign: float, fill: Fill) -> Image.Image:
        shear, shift = sign * strength * _SHEAR, sign * strength * _SHIFT
        width, height = image.size
        maps = {
            "shear_x": (1, shear, 0, 0, 1, 0),
            "shear_y": (1, 0, 0, shear, 1, 0),
            "translate_x": (1, 0, shift * width, 0, 1, 0),
            "translate_y": (1, 0, 0, 0, 1, shift * height),
        }
        return image.transform(
            image.size,
            Image.Transform.AFFINE,
            maps[kind],
            resample=Image.Resampling.BICUBIC,
            fillcolor=fill,
        )

    return apply


def _enhanced(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda image, strength, sign, fill: kind(image).enhance(1 + sign * strength * _FACTOR)


def _rotated(image: Image.Image, strength: float, sign: float, fill: Fill) -> Image.Image:
    degrees = sign * strength * _DEGREES
    return image.rotate(degrees, resample=Image.Resampling.BICUBIC, fillcolor=fill)


def _brightened_below_half(
    image: Image.Image, strength: float, sign: float, fill: Fill
) -> Image.Image:
    added = round(strength * _ADDED)
    half = _LEVELS // 2
    table = [min(_LEVELS - 1, v + added) if v < half else v for v in range(_LEVELS)]
    return image.point(table * 3)


OPERATIONS: Final[dict[str, Operation]] = {
    "autocontrast": lambda image, strength, sign, fill: ImageOps.autocontrast(image),
    "equalize": lambda image, strength, sign, fill: ImageOps.equalize(image),
    "invert": lambda image, strength, sign, fill: ImageOps.invert(image),
    "rotate": _rotated,
    "posterize": lambda image, strength, sign, fill: ImageOps.posterize(
        image, _BITS - round(strength * _LOST_BITS)
    ),
    "solarize": lambda image, strength, sign, fill: ImageOps.solarize(
        image, _LEVELS - round(strength * _LEVELS)
    ),
    "solarize_add": _brightened_below_half,
    "color": _enhanced(ImageEnhance.Color),
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "shear_x": _turned("shear_x"),
    "shear_y": _turned("shear_y"),
    "translate_x": _turned("translate_x"),
    "translate_y": _turned("translate_y"),
}
"""Name -> operation; each is drawn as often as any other."""


def rand_augment(
    rgb: np.ndarray, magnitude: float, fill: Fill, generator: np.random.Generator
) -> np.ndarray:
    """A photo (H, W, 3) uint8 after two operations; `magnitude` from 0 to 10, around which it is drawn."""
    image = Image.fromarray(np.ascontiguousarray(rgb))
    for name in generator.choice(list(OPERATIONS), _EACH):
        drawn = float(np.clip(generator.normal(magnitude, _SPREAD), 0, GREATEST))
        sign = 1.0 if generator.random() < 0.5 else -1.0
        image = OPERATIONS[str(name)](image, drawn / GREATEST, sign, fill)
    return np.asarray(image)
