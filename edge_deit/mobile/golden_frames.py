"""The camera frames of the golden cases: YUV 4:2:0 as phones deliver it, and the upright RGB of each.

The formula, in whole numbers, is that of docs/mobile.md: every port obeys it to the last bit.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final, Literal

import numpy as np

from edge_deit.mobile.golden_images import hash_pixels

__all__ = ["FrameCase", "Plane", "factors", "frame_cases", "hash_bytes"]

Matrix = Literal["bt601", "bt709"]
Range = Literal["full", "video"]

_LUMA: Final = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
"""Weights of red and blue in the luma (ITU-R BT.601 and BT.709)."""

_ONE: Final = 1 << 16
_HALF: Final = 1 << 15
_TURNS: Final = (0, 90, 180, 270)
_LARGEST_BUFFER: Final = 4096  # bytes that are written out; larger buffers are generated


@dataclass(frozen=True)
class Plane:
    """Where a plane's bytes lie: sample (x, y) at `offset + y * row_stride + x * pixel_stride`."""

    offset: int
    row_stride: int
    pixel_stride: int


def factors(matrix: Matrix, range_: Range) -> tuple[int, int, int, int, int, int]:
    """Black level, then the factors of Y, V in red, U in green, V in green and U in blue, in 1/65536.

    >>> factors("bt601", "full")
    (0, 65536, 91881, 22553, 46802, 116130)
    """
    red, blue = _LUMA[matrix]
    green = 1 - red - blue
    black, luma, chroma = (0, 1.0, 1.0) if range_ == "full" else (16, 255 / 219, 255 / 224)
    chromas = (
        2 * (1 - red),
        2 * (1 - blue) * blue / green,
        2 * (1 - red) * red / green,
        2 * (1 - blue),
    )
    scaled = [round(luma * _ONE), *(round(chroma * one * _ONE) for one in chromas)]
    return black, scaled[0], scaled[1], scaled[2], scaled[3], scaled[4]


def hash_bytes(count: int, seed: int) -> bytes:
    """The first bytes of a row of generated noise."""
    return hash_pixels(-(-count // 3), 1, seed, block=1).tobytes()[:count]


@dataclass(frozen=True)
class FrameCase:
    """A frame of (height, width) as a camera stores it: planes Y, U, V in one buffer of `size` bytes.

    U and V have a sample for 2 x 2 pixels, the last one for an odd rest. `turn` is how many degrees
    clockwise make it upright. A frame that `fits` not must be refused.
    """

    name: str
    width: int
    height: int
    planes: tuple[Plane, Plane, Plane]
    size: int
    turn: int = 0
    matrix: Matrix = "bt601"
    range: Range = "full"
    seed: int = 0
    fits: bool = True

    def rgb(self) -> np.ndarray:
        """The upright pixels, (height, width, 3) uint8; 90 and 270 degrees swap the sizes."""
        data = np.frombuffer(hash_bytes(self.size, self.seed), np.uint8)
        y, u, v = (
            self._samples(data, plane, 2 if index else 1) for index, plane in enumerate(self.planes)
        )
        black, luma, red_v, green_u, green_v, blue_u = factors(self.matrix, self.range)
        grey, u, v = luma * (y - black) + _HALF, u - 128, v - 128
        colours = (grey + red_v * v, grey - green_u * u - green_v * v, grey + blue_u * u)
        stored = np.stack([np.clip(colour >> 16, 0, 255) for colour in colours], axis=-1)
        return np.ascontiguousarray(np.rot90(stored.astype(np.uint8), -self.turn // 90))

    def _samples(self, data: np.ndarray, plane: Plane, step: int) -> np.ndarray:
        """One plane's samples, (height, width) int64, each pixel with the one that it lies in."""
        rows = np.arange(self.height)[:, None] // step
        columns = np.arange(self.width)[None, :] // step
        found: np.ndarray = data[
            plane.offset + rows * plane.row_stride + columns * plane.pixel_stride
        ]
        return found.astype(np.int64)

    def to_json(self) -> dict[str, Any]:
        """The case and its answer as plain data; the answer of what must be refused is null."""
        source: dict[str, Any] = {"hash": {"seed": self.seed, "bytes": self.size}}
        if self.size <= _LARGEST_BUFFER:
            data = hash_bytes(self.size, self.seed)
            source = {"base64": base64.b64encode(data).decode("ascii")}
        digest = hashlib.sha256(self.rgb().tobytes()).hexdigest() if self.fits else None
        return {
            "name": self.name,
            "width": self.width,
            "height": self.height,
            "turn": self.turn,
            "matrix": self.matrix,
            "range": self.range,
            "buffer": source,
            "planes": [vars(plane) for plane in self.planes],
            "rgb_sha256": digest,
        }


def _half(length: int) -> int:
    return -(-length // 2)


def i420(name: str, width: int, height: int, padding: int = 0) -> FrameCase:
    """Three planes one after the other, rows `padding` bytes longer than they need be."""
    across, down = width + padding, _half(width) + padding
    u, v = across * height, across * height + down * _half(height)
    planes = (Plane(0, across, 1), Plane(u, down, 1), Plane(v, down, 1))
    return FrameCase(name, width, height, planes, v + down * _half(height))


def nv21(name: str, width: int, height: int, padding: int = 0, first: str = "V") -> FrameCase:
    """Luma, then V and U in turn (NV21), or U and V (NV12); the last row ends with its last sample."""
    stride = max(width, 2 * _half(width)) + padding
    start = stride * height
    at = {first: start, "U" if first == "V" else "V": start + 1}
    planes = (Plane(0, stride, 1), Plane(at["U"], stride, 2), Plane(at["V"], stride, 2))
    size = start + stride * (_half(height) - 1) + 2 * _half(width)
    return FrameCase(name, width, height, planes, size)


def frame_cases() -> list[FrameCase]:
    """Every layout, size and turn, and what must be refused."""
    return [
        replace(case, seed=number) for number, case in enumerate((*_good(), *_refused()), start=70)
    ]


def _good() -> Iterator[FrameCase]:
    layouts = {
        "I420": i420("", 6, 4),
        "I420, odd": i420("", 7, 5),
        "I420, padded, odd": i420("", 7, 5, padding=9),
        "NV21": nv21("", 6, 4),
        "NV21, odd": nv21("", 5, 7),
        "NV21, padded": nv21("", 6, 4, padding=26),
        "NV12, padded, odd": nv21("", 7, 5, padding=3, first="U"),
    }
    for (name, case), turn in product(layouts.items(), _TURNS):
        yield replace(case, name=f"{name}, {turn} degrees", turn=turn)
    shades: tuple[tuple[Matrix, Range], ...] = (
        ("bt601", "video"),
        ("bt709", "full"),
        ("bt709", "video"),
    )
    for matrix, range_ in shades:
        yield replace(nv21(f"{matrix}, {range_}", 24, 16), matrix=matrix, range=range_)
    for width, height in ((1, 1), (1, 6), (6, 1), (2, 2)):
        yield replace(i420(f"I420, {width} x {height}", width, height), turn=90)
    wide = (Plane(0, 40, 3), Plane(200, 60, 5), Plane(201, 60, 5))
    yield FrameCase("pixel strides of 3 and 5", 7, 5, wide, 400, turn=270)
    yield replace(nv21("a camera's size", 640, 480, padding=64), turn=90)


def _refused() -> Iterator[FrameCase]:
    good = nv21("", 6, 4)
    y, u, v = good.planes
    huge = 2**31 - 1
    changes: dict[str, dict[str, Any]] = {
        "a byte is missing": {"size": good.size - 1},
        "rows overlap": {"planes": (replace(y, row_stride=5), u, v)},
        "a pixel stride of 0": {"planes": (y, u, replace(v, pixel_stride=0))},
        "a row stride of 0": {"planes": (y, replace(u, row_stride=0), v)},
        "a huge row stride": {"planes": (y, replace(u, row_stride=huge), v)},
        "a huge pixel stride": {"planes": (replace(y, pixel_stride=huge, row_stride=huge), u, v)},
        "begins before the buffer": {"planes": (y, u, replace(v, offset=-1))},
        "45 degrees": {"turn": 45},
        "no pixels": {"width": 0},
        "too many pixels": {"width": huge, "height": huge},
    }
    for name, change in changes.items():
        yield replace(good, name=f"refused: {name}", fits=False, **change)
