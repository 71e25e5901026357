"""Photo -> pixels with Pillow and numpy; one contract shared by Python and the phone apps."""

from __future__ import annotations

import math
import struct
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edge_deit.common.errors import EdgeDeitError

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "IMAGE_SUFFIXES",
    "PreprocessSpec",
    "default_spec",
    "load_image",
    "load_pixels",
    "preprocess",
]

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")

_RESAMPLE: Final = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_UNREADABLE: Final = (  # what Pillow's readers raise on broken files
    UnidentifiedImageError,
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    struct.error,
)


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
        if self.resample not in _RESAMPLE:
            raise EdgeDeitError(f"resample is {self.resample!r}; one of {', '.join(_RESAMPLE)}")
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


def load_image(path: Path) -> Image.Image:
    """Read a photo as upright 8-bit RGB.

    EXIF orientation is applied; greyscale, palette, CMYK and 16-bit images are converted;
    transparency is dropped (the colour below it counts), as timm's and torchvision's loaders do.

    Raises:
        EdgeDeitError: missing, empty, truncated or not an image; the message names the file.
    """
    try:
        with Image.open(path) as image:
            return _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise EdgeDeitError(f"image {path} does not exist") from None
    except _UNREADABLE as error:
        raise EdgeDeitError(f"image {path} cannot be read: {error}") from error
    except Image.DecompressionBombError as error:
        raise EdgeDeitError(f"image {path} is too large: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64)  # 16 bits, whatever their byte order
        return Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point images have no defined range; save it as 8 or 16 bit")
    image.info.pop("transparency", None)  # a palette's; Pillow would warn that it is dropped
    return image.convert("RGB")


def _shortest(width: int, height: int, size: int) -> tuple[int, int]:
    """New (width, height) with the short side at `size`; the long side is rounded down."""
    if width <= height:
        return size, max(size, int(size * height / width))
    return max(size, int(size * width / height)), size


def _resize(image: Image.Image, spec: PreprocessSpec) -> Image.Image:
    if spec.resize == "none":
        return image
    size = (spec.resize_size, spec.resize_size)
    if spec.resize == "shortest":
        size = _shortest(*image.size, spec.resize_size)
    return image if image.size == size else image.resize(size, _RESAMPLE[spec.resample])


def _offset(length: int, crop: int, rounding: str) -> int:
    return (length - crop) // 2 if rounding == "floor" else round((length - crop) / 2)


def _centre_crop(pixels: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """(H, W, 3) -> (crop, crop, 3), zero padded where the image is smaller."""
    crop = spec.crop_size
    height, width = pixels.shape[:2]
    if height < crop or width < crop:
        before = [(max(0, crop - length) + 1) // 2 for length in (height, width)]
        after = [max(0, crop - length) // 2 for length in (height, width)]
        pad = [(before[0], after[0]), (before[1], after[1]), (0, 0)]
        pixels = np.pad(pixels, pad)
        height, width = pixels.shape[:2]
    top = _offset(height, crop, spec.crop_rounding)
    left = _offset(width, crop, spec.crop_rounding)
    return pixels[top : top + crop, left : left + crop]


def preprocess(image: Image.Image, spec: PreprocessSpec) -> np.ndarray:
    """Upright RGB photo -> normalised float32 pixels (1, 3, crop, crop)."""
    cropped = _centre_crop(np.asarray(_resize(image, spec)), spec)  # (H, W, 3) uint8
    return normalise(cropped, spec)[None]


def normalise(rgb: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """(H, W, 3) uint8 -> (3, H, W) float32, (x / 255 - mean) / std in float32 arithmetic."""
    mean = np.asarray(spec.mean, np.float32)
    std = np.asarray(spec.std, np.float32)
    scaled = rgb.astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(((scaled - mean) / std).transpose(2, 0, 1))


def load_pixels(path: Path, spec: PreprocessSpec) -> np.ndarray:
    """`load_image` and `preprocess` in one: file -> (1, 3, crop, crop) float32."""
    return preprocess(load_image(path), spec)
