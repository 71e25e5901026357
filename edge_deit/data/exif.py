"""EXIF's orientation, read from the bytes alone, so that no other tag can stop a photo."""

from __future__ import annotations

import re
import struct
from typing import Final

from PIL import Image

__all__ = ["exif_of", "orientation_of", "turned_upright"]

_TAG: Final = 0x0112
_ORDERS: Final = {b"II*\0": "<", b"II\0*": "<", b"MM\0*": ">", b"MM*\0": ">"}
_KINDS: Final = {
    3: "H", 4: "L", 5: "LL", 6: "b", 8: "h", 9: "l", 10: "ll", 11: "f", 12: "d", 13: "L", 16: "Q",
}  # fmt: skip  # TIFF's types that hold numbers
_TEXTS: Final = (1, 2, 7)
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(exif: bytes) -> int:
    """EXIF's orientation, 1 to 8; 1 where the block holds none, or none that can be read.

    Only the first directory is read, entry by entry: what stands beside the orientation, in other
    directories or behind broken offsets, is never looked at. The first entry that has a value holds, and
    of several numbers the first.

    >>> orientation_of(b"Exif\\0\\0MM\\0*" + bytes([0, 0, 0, 8, 0, 1, 1, 18, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0]))
    6
    """
    data = re.sub(rb"^(Exif\0\0){1,2}", b"", exif)
    order = _ORDERS.get(data[:4])
    if order is None or len(data) < 8:
        return 1
    (start,) = struct.unpack_from(order + "L", data, 4)
    for entry in range(start + 2, start + 2 + 12 * _count(data, start, order), 12):
        if len(data) < entry + 12:
            break
        tag, kind, count = struct.unpack_from(order + "HHL", data, entry)
        value = _number(data, entry + 8, order, kind, count) if tag == _TAG else None
        if value is not None:
            return int(value) if value in range(1, 9) else 1
    return 1


def _count(data: bytes, start: int, order: str) -> int:
    return int(struct.unpack_from(order + "H", data, start)[0]) if len(data) >= start + 2 else 0


def _number(data: bytes, place: int, order: str, kind: int, count: int) -> float | None:
    """The entry's first number; 0, which is no orientation, of bytes and texts; None if it has no value."""
    if kind not in (*_KINDS, *_TEXTS) or count == 0:
        return None
    if kind in _TEXTS:
        return 0
    form = order + _KINDS[kind]
    if struct.calcsize(form) * count > 4:
        (place,) = struct.unpack_from(order + "L", data, place)
    if len(data) < place + struct.calcsize(form):
        return None
    first, *rest = struct.unpack_from(form, data, place)
    if not rest:
        return float(first)
    return first / rest[0] if rest[0] else 0.0


def exif_of(image: Image.Image) -> bytes:
    """The EXIF block of a loaded image; empty where it has none.

    PNG may hold it as hexadecimal text instead. Of a TIFF there is none: its orientation is one of the
    image's own tags, and Pillow's reader has applied it.
    """
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        return exif
    text = image.info.get("Raw profile type exif")
    try:
        return bytes.fromhex("".join(text.split("\n")[3:])) if isinstance(text, str) else b""
    except ValueError:
        return b""


def turned_upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image as it is meant to be seen: turned and mirrored by EXIF's rule."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
