"""Image files of every kind -> upright 8-bit RGB, or an error that names the file."""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.data.exif import exif_of, orientation_of, turned_upright
from edge_deit.data.metadata import without_metadata

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "UNREADABLE_SUFFIXES",
    "ReadImage",
    "image_of",
    "load_image",
    "read_image",
    "upright",
]

IMAGE_SUFFIXES: Final = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif",
)  # fmt: skip
"""Names of photos that are read, in lower case."""

_HEIF: Final = (
    "convert it to JPEG or AVIF: heif-convert (package libheif-examples), or sips on macOS"
)
_RAW: Final = (
    "develop it to JPEG or TIFF: darktable-cli (package darktable) or dcraw_emu (libraw-bin)"
)
UNREADABLE_SUFFIXES: Final[Mapping[str, str]] = {
    **dict.fromkeys((".heic", ".heif", ".hif", ".heics", ".heifs", ".avci"), _HEIF),
    **dict.fromkeys(
        (
            ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef",
            ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2",
            ".srf", ".srw", ".x3f",
        ),
        _RAW,
    ),
    ".jxl": "convert it to PNG or JPEG: djxl (package libjxl-tools)",
}  # fmt: skip
"""Names of photos that cannot be read here, in lower case, each with what to do about it."""

MAX_PIXELS: Final = 89_478_485
"""Pillow's limit against decompression bombs: a quarter of a GiB of 24-bit pixels."""

_FORMATS: Final = (
    "JPEG",
    "PNG",
    "WEBP",
    "AVIF",
    "BMP",
    "DIB",
    "TIFF",
    "GIF",
    "JPEG2000",
    "PPM",
)
_UNREADABLE: Final = (  # what Pillow's readers raise on broken files
    UnidentifiedImageError, OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError,
    LookupError, ArithmeticError, AssertionError, RuntimeError, MemoryError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class ReadImage:
    """An upright RGB image, and what a user should know of its file: empty, or one line."""

    image: Image.Image
    note: str = ""


def load_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read a photo as upright 8-bit RGB; `read_image` without its note.

    Raises:
        EdgeDeitError: as `read_image`.
    """
    return read_image(path, max_pixels).image


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> ReadImage:
    """Read a photo as upright 8-bit RGB.

    The orientation in the EXIF block is applied; nothing else of it is looked at. Greyscale, palette, 1-bit
    and CMYK images are converted without colour profile; of 16 bits the upper 8 count; transparency is
    dropped (the colour below it counts), as timm's, torchvision's and transformers' loaders do. Of an
    animated file the first frame is read, and the note says so. `max_pixels` (at most twice
    `MAX_PIXELS`, where Pillow itself stops) is held against the header before anything is decoded.

    Raises:
        EdgeDeitError: missing, empty, truncated, too large or not an image; 32-bit or floating-point
            samples, whose range nothing defines. The message names the file.
    """
    return _read_robustly(path, str(path), max_pixels)


def image_of(content: bytes, name: str) -> Image.Image:
    """`load_image` of a file's content; `name` is for messages.

    Raises:
        EdgeDeitError: as `read_image`.
    """
    return _read_robustly(content, name, MAX_PIXELS).image


def upright(image: Image.Image, name: str) -> Image.Image:
    """`load_image` of an image that Pillow has opened or made, which stays as it is.

    Raises:
        EdgeDeitError: as `read_image`.
    """
    _silence_pillow()
    _check_size(image, name, MAX_PIXELS)
    try:
        copy = image.copy()
        return _to_rgb(turned_upright(copy, orientation_of(exif_of(copy))))
    except _UNREADABLE as error:
        raise EdgeDeitError(f"image {name} cannot be read: {first_line(error)}") from error


def _read_robustly(source: Path | bytes, name: str, max_pixels: int) -> ReadImage:
    _silence_pillow()
    try:
        plain = _second_try(source, name, max_pixels) if _is_avif(source) else None
        stream = BytesIO(source) if isinstance(source, bytes) else source
        return plain or _read(stream, name, max_pixels)
    except FileNotFoundError:
        raise EdgeDeitError(f"image {name} does not exist") from None
    except Image.DecompressionBombError as error:
        raise EdgeDeitError(f"image {name} is too large: {first_line(error)}") from error
    except _UNREADABLE as error:
        plain = _second_try(source, name, max_pixels)
        if plain is not None:
            return plain
        raise EdgeDeitError(f"image {name} cannot be read: {first_line(error)}") from error


def _is_avif(source: Path | bytes) -> bool:
    """AVIF says itself how it is turned; Pillow mixes that with what an EXIF block beside it says."""
    if isinstance(source, Path):
        with source.open("rb") as stream:
            return _is_avif(stream.read(12))
    return source[4:12] in (b"ftypavif", b"ftypavis", b"ftypmif1")


def _second_try(source: Path | bytes, name: str, max_pixels: int) -> ReadImage | None:
    """The photo without its metadata: Pillow's readers trip over some of it before any pixel is read."""
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        found = without_metadata(content)
        if found is None:
            return None
        plain, exif = found
        return _read(BytesIO(plain), name, max_pixels, exif)
    except (*_UNREADABLE, Image.DecompressionBombError):
        return None


def _read(
    source: Path | IO[bytes], name: str, max_pixels: int, exif: bytes | None = None
) -> ReadImage:
    with Image.open(source, formats=_FORMATS) as image:
        _check_size(image, name, max_pixels)
        note = _note(image, name)
        image.load()
        orientation = orientation_of(exif_of(image) if exif is None else exif)
        return ReadImage(_to_rgb(turned_upright(image, orientation)), note)


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise EdgeDeitError(
            f"image {name} is too large: {width} x {height} pixels, more than {max_pixels}; "
            "make it smaller"
        )


def _note(image: Image.Image, name: str) -> str:
    """A JPEG with further pictures in it (MPO) is what phones write: not worth a word."""
    if image.format == "MPO" or not getattr(image, "is_animated", False):
        return ""
    return f"{name} holds several frames; the first is used"


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16)  # whatever their byte order
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "I":
        raise ValueError("32-bit and signed images have no defined range; save it as 8 or 16 bit")
    if image.mode == "F":
        raise ValueError("floating-point images have no defined range; save it as 8 or 16 bit")
    image.info.pop("transparency", None)  # a palette's; Pillow would warn that it is dropped
    return image if image.mode == "RGB" else image.convert("RGB")


def _silence_pillow() -> None:
    """Pillow's warnings on odd metadata and large images, which are handled here, stop no photo."""
    module = re.compile(r"PIL\.")
    if warnings.filters[:1] != [("ignore", None, Warning, module, 0)]:
        warnings.filterwarnings("ignore", module=module.pattern)
