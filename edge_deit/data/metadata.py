"""Image files without the metadata that Pillow's readers look into before they read a pixel."""

from __future__ import annotations

import re
import struct
from typing import Final

__all__ = ["without_metadata"]

_JPEG_KEPT: Final = frozenset((0xE0, 0xEE))  # JFIF, and Adobe's, which tells the colours
_TIFF_NEEDED: Final = frozenset(
    (
        *range(254, 260), 262, 266, 273, 274, *range(277, 280), 284, 317, *range(320, 326), 332, 338,
        339, 347, *range(512, 522), *range(529, 533),
    )
)  # fmt: skip
"""Tags that tell how the pixels are stored, and the orientation."""


def without_metadata(content: bytes) -> tuple[bytes, bytes | None] | None:
    """The file with its metadata taken out or hidden, and the EXIF block that it had.

    The block is None where the reader finds the orientation elsewhere (TIFF, AVIF). None for other
    formats, and for a file whose structure cannot be followed.
    """
    if content.startswith(b"\xff\xd8"):
        return _jpeg(content)
    if content[:4] in (b"II*\0", b"MM\0*"):
        return _tiff(content)
    if content[4:8] == b"ftyp":
        head = content.partition(b"mdat")[0]
        hidden = re.sub(rb"(infe[\x02\x03].{3}.{4,6})Exif", rb"\1skip", head, flags=re.DOTALL)
        return (hidden + content[len(head) :], None) if hidden != head else None
    return None


def _jpeg(content: bytes) -> tuple[bytes, bytes] | None:
    """Segments up to the pixels: marker, length, content."""
    kept, exif, place = [b"\xff\xd8"], b"", 2
    while content[place : place + 1] == b"\xff" and len(content) >= place + 4:
        marker, size = content[place + 1], struct.unpack_from(">H", content, place + 2)[0]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker == 0xDA:  # the pixels begin
            return b"".join(kept) + content[place:], exif
        segment = content[place : place + 2 + size]
        if segment[4:10] == b"Exif\0\0" and marker == 0xE1:
            exif += segment[10:] if exif else segment[4:]
        if not 0xE1 <= marker <= 0xEF or marker in _JPEG_KEPT:
            kept.append(segment)
        place += 2 + size
    return None


def _tiff(content: bytes) -> tuple[bytes, None] | None:
    """The first directory with the needed tags only, and no directory after it."""
    order = "<" if content[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "L", content, 4)
    if len(content) < start + 2:
        return None
    (count,) = struct.unpack_from(order + "H", content, start)
    entries = [
        content[place : place + 12] for place in range(start + 2, start + 2 + 12 * count, 12)
    ]
    needed = [
        entry
        for entry in entries
        if len(entry) == 12 and struct.unpack(order + "H", entry[:2])[0] in _TIFF_NEEDED
    ]
    directory = struct.pack(order + "H", len(needed)) + b"".join(needed) + bytes(4)
    room = 2 + 12 * count + 4
    if len(needed) == count or len(content) < start + room:
        return None
    return content[:start] + directory.ljust(room, b"\0") + content[start + room :], None
