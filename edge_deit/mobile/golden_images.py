"""The photos of the golden cases: small, generated or bundled, each with how it is preprocessed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final, Literal

import numpy as np
from PIL import Image, ImageOps

from edge_deit import assets
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PreprocessSpec,
    bytes_of,
    load_image,
    preprocess,
)

__all__ = [
    "PHOTOS",
    "ImageCase",
    "hash_pixels",
    "image_cases",
    "own_cases",
    "photo_cases",
    "shortest",
    "wide_cases",
]

PHOTOS: Final = 4
"""How many bundled photos become cases, and how many photos the logits are computed on."""

_SAMPLES: Final = 8
_FILTERS: Final = ("nearest", "bilinear", "bicubic", "lanczos")
_MODES: Final[tuple[Literal["shortest", "exact", "none"], ...]] = ("shortest", "exact", "none")
_ROUNDINGS: Final[tuple[Literal["half-even", "floor"], ...]] = ("half-even", "floor")
_HALF: Final = (0.5, 0.5, 0.5)
_MAX_RESIZED: Final = 4_000_000  # pixels of a generated case after resizing: ports stay quick


def hash_pixels(width: int, height: int, seed: int, block: int) -> np.ndarray:
    """Generated photo (height, width, 3) uint8 that every language can make without a file.

    Squares of `block` pixels have one colour; block 1 is noise. All arithmetic is unsigned, 32 bits.

    >>> hash_pixels(2, 1, seed=7, block=1).tolist()
    [[[114, 58, 16], [179, 164, 160]]]
    """
    rows = np.arange(height, dtype=np.uint32)[:, None, None] // np.uint32(block)
    columns = np.arange(width, dtype=np.uint32)[None, :, None] // np.uint32(block)
    across = np.uint32(-(-width // block))  # squares in a row
    index = (rows * across + columns) * np.uint32(3) + np.arange(3, dtype=np.uint32)
    value: np.ndarray = index * np.uint32(2654435761) + np.uint32(seed * 2246822519 & 0xFFFFFFFF)
    value ^= value >> 15
    value *= np.uint32(3266489917)
    value ^= value >> 13
    return value.astype(np.uint8)  # the low byte; (H, W, 3)


@dataclass(frozen=True)
class ImageCase:
    """A photo, as raw pixels before they are turned upright, and how it is preprocessed.

    `orientation` is EXIF's, 1 to 8. The pixels are `raw` (RGB rows) where it is given, otherwise those of
    `hash_pixels`.
    """

    name: str
    width: int
    height: int
    spec: PreprocessSpec
    orientation: int = 1
    seed: int = 0
    block: int = 1
    raw: bytes | None = None

    def pixels(self) -> np.ndarray:
        """The raw photo, (height, width, 3) uint8."""
        if self.raw is None:
            return hash_pixels(self.width, self.height, self.seed, self.block)
        return np.frombuffer(self.raw, np.uint8).reshape(self.height, self.width, 3)

    def tensor(self) -> np.ndarray:
        """What the model must be given, (3, crop, crop) float32."""
        image = Image.fromarray(self.pixels())
        image.getexif()[0x0112] = self.orientation
        return np.asarray(preprocess(ImageOps.exif_transpose(image), self.spec)[0])

    def to_json(self) -> dict[str, Any]:
        """The case and its answer as plain data."""
        tensor = self.tensor()
        flat = tensor.ravel()
        places = [index * (flat.size - 1) // (_SAMPLES - 1) for index in range(_SAMPLES)]
        source: dict[str, Any] = {"hash": {"seed": self.seed, "block": self.block}}
        if self.raw is not None:
            source = {"base64": base64.b64encode(self.raw).decode("ascii")}
        return {
            "name": self.name,
            "width": self.width,
            "height": self.height,
            "orientation": self.orientation,
            "pixels": source,
            "preprocessing": self.spec.to_json(),
            "bytes_sha256": hashlib.sha256(bytes_of(tensor[None], self.spec).tobytes()).hexdigest(),
            "tensor_sha256": hashlib.sha256(tensor.astype("<f4").tobytes()).hexdigest(),
            "samples": [[place, shortest(flat[place])] for place in dict.fromkeys(places)],
        }


def shortest(value: np.float32) -> float:
    """The number whose shortest decimal form is that of the float32 value."""
    return float(str(value))


def image_cases(spec: PreprocessSpec) -> list[ImageCase]:
    """Photos for the spec itself, then small ones for every other rule.

    The first ones go from 1 x 1 to 1600 x 1200 and through all orientations, with the spec's own
    preprocessing; a few bundled photos follow. The small ones have every filter, resize mode and crop
    rounding, resizing in one direction only, and padding.
    """
    return [*own_cases(spec), *photo_cases(spec), *_small_cases()]


def own_cases(spec: PreprocessSpec) -> Iterator[ImageCase]:
    """Generated photos of all shapes and orientations, each with the spec itself."""
    crop, resized = spec.crop_size, spec.resize_size
    sizes = {
        "one pixel": (1, 1, 1),
        "two by three": (2, 3, 1),
        "landscape": (640, 427, 8),
        "portrait": (480, 641, 1),
        "upscaled": (61, 47, 1),
        "the crop's size": (crop, crop, 1),
        "a column more": (crop + 1, crop, 1),
        "the resized size": (resized, resized, 1),
        "wide": (300, 7, 1),
        "tall": (7, 300, 1),
        "large": (1600, 1200, 16),
    }
    for seed, (name, (width, height, block)) in enumerate(sizes.items(), start=1):
        yield ImageCase(name, width, height, spec, seed=seed, block=block)
    for orientation in range(1, 9):
        yield ImageCase(f"orientation {orientation}", 40, 24, spec, orientation, seed=20)


def _small_cases() -> Iterator[ImageCase]:
    for mode, resample, rounding in product(_MODES, _FILTERS, _ROUNDINGS):
        spec = PreprocessSpec(mode, 39, 32, rounding, resample, _HALF, _HALF)
        yield ImageCase(f"{mode}, {resample}, {rounding}", 55, 47, spec, seed=30)
    shapes = {
        "much smaller": (300, 201),
        "larger": (9, 7),
        "only rows resized": (39, 80),
        "only columns resized": (80, 39),
        "tall": (21, 300),
        "loses twice as many rows": (59, 79),  # 40 rows, 20 columns
        "loses more than twice as many rows": (59, 80),
    }
    for (name, (width, height)), resample in product(shapes.items(), _FILTERS):
        spec = PreprocessSpec("exact", 39, 32, "half-even", resample)
        yield ImageCase(f"{name}, {resample}", width, height, spec, seed=40)
    padded = PreprocessSpec("none", 33, 33)
    yield ImageCase("padded", 5, 8, padded, seed=50)
    yield ImageCase("padded in width", 20, 60, padded, seed=51)
    yield ImageCase("padded in height", 61, 20, replace(padded, crop_rounding="floor"), seed=52)
    yield ImageCase("resized, then padded", 50, 30, PreprocessSpec("shortest", 20, 33), seed=53)
    flat = PreprocessSpec("shortest", 8, 8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    yield ImageCase("one row", 400, 1, flat, seed=54)
    yield ImageCase("one column", 1, 400, flat, seed=55)
    for orientation in range(2, 9):
        yield ImageCase(f"orientation {orientation}, uncut", 5, 3, flat, orientation, seed=56)


def wide_cases(count: int) -> list[ImageCase]:
    """At least 200 different cases for the ports' own tests, too many to keep in a file.

    Sizes 1 x 1 to 4000 x 3000, every orientation, filter, resize mode and crop rounding in turn.

    Raises:
        EdgeDeitError: fewer than 200 asked for.
    """
    if count < 200:
        raise EdgeDeitError(f"count is {count}; the wide set has at least 200 cases")
    random = np.random.default_rng(0)
    scales = ((IMAGENET_MEAN, IMAGENET_STD), (_HALF, _HALF))
    plans = list(product(_MODES, _FILTERS, _ROUNDINGS, scales))
    cases = []
    for index in range(count):
        mode, resample, rounding, (mean, std) = plans[11 * index % len(plans)]  # mixes them
        width, height = _wide_size(index, random)
        size = int(random.integers(1, 97))
        aspect = max(width, height) / min(width, height)
        while size > 1 and size * size * aspect > _MAX_RESIZED:
            size //= 2
        crop = max(1, size + int(random.integers(-20, 8)))
        spec = PreprocessSpec(mode, size, crop, rounding, resample, mean, std)
        orientation, block = 1 + int(random.integers(8)), int(random.choice([1, 1, 3, 16]))
        name = f"{index}: {width} x {height}, {mode} {resample}"
        cases.append(ImageCase(name, width, height, spec, orientation, index, block))
    return cases


def _wide_size(index: int, random: np.random.Generator) -> tuple[int, int]:
    """Extremes first, then widths and heights evenly spread over their logarithms."""
    extremes = ((1, 1), (4000, 3000), (3000, 4000), (1, 4000), (4000, 1), (2, 1), (1, 2), (3, 3))
    if index < len(extremes):
        return extremes[index]
    limit = 2000 if index % 10 == 0 else 400
    width, height = np.exp(random.uniform(0, np.log(limit), 2)).round()
    return int(width), int(height)


def photo_cases(spec: PreprocessSpec) -> list[ImageCase]:
    """A few of the bundled photos with their pixels, each with the spec itself."""
    cases = []
    with assets.validation_folder() as folder:
        for photo in list_photos(folder).pick(PHOTOS).photos:
            image = load_image(photo.path)
            name = f"photo {photo.path.stem}"
            cases.append(ImageCase(name, *image.size, spec, raw=image.tobytes()))
    return cases
