"""Photo -> pixels with Pillow and numpy; one contract shared by Python and the phone apps."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from PIL import Image

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.image_files import IMAGE_SUFFIXES, load_image
from edge_deit.data.resample import RESAMPLE, resize_window

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "IMAGE_SUFFIXES",
    "PreprocessSpec",
    "bytes_of",
    "default_spec",
    "load_image",
    "load_pixels",
    "preprocess",
]

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class PreprocessSpec:
    """How a photo becomes a model's input.

    `resize` is `shortest` (the short side becomes `resize_size`, the aspect stays), `exact` (the photo is
    squashed to `resize_size` x `resize_size`) or `none`. Then a centred square of `crop_size` is cut,
    with zero padding where the image is smaller. The crop's offset is half the difference, rounded
    half to even (`half-even`, the original's and timm's) or down (`floor`, Hugging Face's). Last,
    (x / 255 - mean) / std per channel, RGB order.
    """

    resize: Literal["shortest", "exact", "none"] = "shortest"
    resize_size: int = 256
    crop_size: int = 224
    crop_rounding: Literal["half-even", "floor"] = "half-even"
    resample: str = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.resize not in ("shortest", "exact", "none"):
            raise EdgeDeitError(f"resize is {self.resize!r}; it must be shortest, exact or none")
        if self.crop_rounding not in ("half-even", "floor"):
            raise EdgeDeitError(f"crop_rounding is {self.crop_rounding!r}: half-even or floor")
        if self.resample not in RESAMPLE:
            raise EdgeDeitError(f"resample is {self.resample!r}; one of {', '.join(RESAMPLE)}")
        for name in ("resize_size", "crop_size"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise EdgeDeitError(
                    f"{name} is {getattr(self, name)!r}; it must be a whole number, 1 up"
                )
        finite = all(math.isfinite(value) for value in (*self.mean, *self.std))
        if len(self.mean) != 3 or len(self.std) != 3 or not finite or min(self.std) <= 0:
            raise EdgeDeitError("mean and std need three finite values each, std all positive")

    def to_json(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PreprocessSpec:
        """The reverse of `to_json`.

        Raises:
            EdgeDeitError: unknown, missing or impossible values.
        """
        try:
            values = dict(data)
            names = [field.name for field in fields(cls)]
            absent = [name for name in names if name not in values]
            unknown = sorted(str(name) for name in values.keys() - set(names))
            if absent or unknown:
                told = (
                    f"lacks {', '.join(absent)}" if absent else f"has unknown {', '.join(unknown)}"
                )
                raise EdgeDeitError(f"preprocessing description {told}")
            for name in ("mean", "std"):
                if not all(type(value) in (int, float) for value in values[name]):
                    raise TypeError(f"{name} is {values[name]!r}; three numbers are expected")
                values[name] = tuple(float(value) for value in values[name])
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise EdgeDeitError(f"preprocessing description is not readable: {error}") from error


def default_spec(image_size: int, crop_ratio: float = 0.9) -> PreprocessSpec:
    """timm's evaluation preprocessing for DeiT: short side to image_size / crop_ratio, centre crop.

    >>> default_spec(224).resize_size
    248
    >>> default_spec(384, crop_ratio=1.0).resize_size
    384
    """
    return PreprocessSpec(resize_size=int(image_size / crop_ratio), crop_size=image_size)


def _resized(width: int, height: int, spec: PreprocessSpec) -> tuple[int, int]:
    """(width, height) after resizing; the long side is rounded down, but not below the short one."""
    size = spec.resize_size
    if spec.resize == "none":
        return width, height
    if spec.resize == "exact":
        return size, size
    if width <= height:
        return size, max(size, int(size * height / width))
    return max(size, int(size * width / height)), size


def _cut(length: int, spec: PreprocessSpec) -> tuple[int, int, int]:
    """Along one axis: the first and one past the last pixel kept, and how many black ones come before."""
    spare = max(0, length - spec.crop_size)
    start = spare // 2 if spec.crop_rounding == "floor" else round(spare / 2)
    return start, start + length - spare, (max(0, spec.crop_size - length) + 1) // 2


def preprocess(image: Image.Image, spec: PreprocessSpec) -> np.ndarray:
    """Upright RGB photo -> normalised float32 pixels (1, 3, crop, crop)."""
    size = _resized(*image.size, spec)
    left, right, across = _cut(size[0], spec)
    top, bottom, down = _cut(size[1], spec)
    part = resize_window(image, size, (left, top, right, bottom), spec.resample)  # (H, W, 3) uint8
    square = np.zeros((spec.crop_size, spec.crop_size, 3), np.uint8)
    square[down : down + bottom - top, across : across + right - left] = part
    return normalise(square, spec)[None]


def normalise(rgb: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """(H, W, 3) uint8 -> (3, H, W) float32, (x / 255 - mean) / std in float32 arithmetic."""
    mean = np.asarray(spec.mean, np.float32)
    std = np.asarray(spec.std, np.float32)
    scaled = rgb.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(((scaled - mean) / std).transpose(2, 0, 1))


def bytes_of(pixels: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """The reverse of `normalise`, exactly: (1, 3, H, W) float32 -> (1, H, W, 3) uint8."""
    mean, std = np.asarray(spec.mean), np.asarray(spec.std)
    levels = (pixels.transpose(0, 2, 3, 1) * std + mean) * 255
    return np.ascontiguousarray(np.rint(levels).clip(0, 255).astype(np.uint8))


def load_pixels(path: Path, spec: PreprocessSpec) -> np.ndarray:
    """`load_image` and `preprocess` in one: file -> (1, 3, crop, crop) float32."""
    return preprocess(load_image(path), spec)
