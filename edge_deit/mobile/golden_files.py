"""The image files of the golden cases: what a device's own decoder must make of them."""

from __future__ import annotations

import base64
import hashlib
import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from edge_deit.mobile.golden_images import hash_pixels

__all__ = ["FileCase", "display_p3_profile", "file_cases"]

_WIDTH, _HEIGHT = 6, 5
_D50: Final = (0.9642, 1.0, 0.8249)
_PRIMARIES: Final = {
    "rXYZ": (0.51512, 0.24120, -0.00105),
    "gXYZ": (0.29198, 0.69225, 0.04189),
    "bXYZ": (0.15710, 0.06657, 0.78407),
}
"""Display P3's red, green and blue under D50."""

_SRGB_CURVE: Final = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""The curve of sRGB, which Display P3 shares, as ICC's parametric type 3."""


@dataclass(frozen=True)
class FileCase:
    """A PNG of (height, width) pixels, which decoders must not convert: `rgb` are the stored rows."""

    name: str
    png: bytes
    width: int
    height: int
    rgb: bytes

    def to_json(self) -> dict[str, Any]:
        """The case and its answer as plain data."""
        return {
            "name": self.name,
            "png": base64.b64encode(self.png).decode("ascii"),
            "width": self.width,
            "height": self.height,
            "rgb_sha256": hashlib.sha256(self.rgb).hexdigest(),
        }


def file_cases() -> list[FileCase]:
    """The same pixels without a profile and in Display P3, the colours of a phone's camera."""
    profiles = {"a PNG without a profile": None, "a PNG in Display P3": display_p3_profile()}
    return [_case(name, profile) for name, profile in profiles.items()]


def _case(name: str, profile: bytes | None) -> FileCase:
    pixels = hash_pixels(_WIDTH, _HEIGHT, seed=60, block=1)
    stream = io.BytesIO()
    # without compression, so that every zlib writes the same file
    Image.fromarray(pixels).save(stream, "PNG", icc_profile=profile, compress_level=0)
    return FileCase(name, stream.getvalue(), _WIDTH, _HEIGHT, pixels.tobytes())


def display_p3_profile() -> bytes:
    """An ICC profile (version 4, matrix and curves) of Display P3."""
    curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0) + b"".join(map(_fixed, _SRGB_CURVE))
    tags: Mapping[str, bytes] = {
        "desc": _text("Display P3"),
        "cprt": _text("No copyright"),
        "wtpt": _xyz(_D50),
        **{name: _xyz(value) for name, value in _PRIMARIES.items()},
        **dict.fromkeys(("rTRC", "gTRC", "bTRC"), curve),
    }
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name.encode() + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    return _header(start + len(body)) + table + body


def _header(size: int) -> bytes:
    kinds = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x04000000, b"mntr", b"RGB ", b"XYZ ")
    date = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
    rest = b"acsp" + bytes(28) + b"".join(map(_fixed, _D50))
    return (kinds + date + rest).ljust(128, b"\0")


def _fixed(value: float) -> bytes:
    """ICC's s15Fixed16Number."""
    return struct.pack(">i", round(value * 65536))


def _xyz(value: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(_fixed, value))


def _text(text: str) -> bytes:
    """One English text, multiLocalizedUnicodeType."""
    data = text.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(data), 28) + data
