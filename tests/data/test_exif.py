"""EXIF blocks of every odd kind: the orientation is read, and what stands beside it stops no photo."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

from edge_deit.data.exif import orientation_of
from edge_deit.data.image_files import load_image
from edge_deit.data.preprocess import PreprocessSpec, load_pixels
from edge_deit.mobile.golden_images import ImageCase

TAG, DATE, WIDTH, RESOLUTION, EXIF_IFD, GPS_IFD = 0x0112, 0x0132, 0x0100, 0x011A, 0x8769, 0x8825
BYTE, TEXT, SHORT, LONG, RATIO, SBYTE, ANY, SSHORT, SLONG, SRATIO, FLOAT, DOUBLE = range(1, 13)


@dataclass(frozen=True)
class Entry:
    """A directory entry; a value of more than four bytes is stored behind the directory."""

    tag: int
    kind: int
    count: int
    value: bytes
    place: int | None = None  # another offset than the true one


def tiff(entries: Sequence[Entry], order: str = "<", following: int = 0, start: int = 8) -> bytes:
    """A TIFF structure with one directory, as an EXIF block holds it."""
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", start)
    data = data.ljust(start, b"\0")
    room = len(data) + 2 + 12 * len(entries) + 4
    directory, behind = struct.pack(order + "H", len(entries)), b""
    for entry in entries:
        value = entry.value.ljust(4, b"\0")
        if len(entry.value) > 4 or entry.place is not None:
            place = room + len(behind) if entry.place is None else entry.place
            value, behind = struct.pack(order + "L", place), behind + entry.value
        directory += struct.pack(order + "HHL", entry.tag, entry.kind, entry.count) + value
    return data + directory + struct.pack(order + "L", following) + behind


def turn(value: int = 6, order: str = "<") -> Entry:
    return Entry(TAG, SHORT, 1, struct.pack(order + "H", value))


def one(kind: int, value: bytes, count: int = 1) -> bytes:
    return tiff([Entry(TAG, kind, count, value)])


INCH = Entry(0x128, SHORT, 1, b"\2\0")
BESIDE: dict[str, bytes] = {  # the orientation is 6 in each, beside something odd
    "alone": tiff([turn()]),
    "big endian": tiff([turn(order=">")], ">"),
    "float date": tiff([turn(), Entry(DATE, FLOAT, 1, struct.pack("<f", 1.5))]),
    "date of bytes": tiff([turn(), Entry(DATE, BYTE, 4, b"2020")]),
    "negative resolution": tiff([turn(), Entry(RESOLUTION, SRATIO, 1, struct.pack("<ll", -1, 0))]),
    "resolution of nothing": tiff([turn(), Entry(RESOLUTION, RATIO, 1, bytes(8)), INCH]),
    "resolution in one byte": tiff([turn(), INCH, Entry(RESOLUTION, ANY, 1, b"x")]),
    "negative width": tiff([turn(), Entry(WIDTH, SLONG, 1, struct.pack("<l", -4))]),
    "double": tiff([turn(), Entry(DATE, DOUBLE, 1, struct.pack("<d", 1e300))]),
    "unknown type": tiff([turn(), Entry(DATE, 77, 1, b"abcd")]),
    "type zero": tiff([Entry(DATE, 0, 1, b"abcd"), turn()]),
    "no count": tiff([Entry(DATE, TEXT, 0, b""), turn()]),
    "huge count": tiff([Entry(DATE, TEXT, 0xFFFFFFFF, b"12345"), turn()]),
    "offset outside": tiff([Entry(DATE, TEXT, 20, b"12345", 0xFFFFFFF0), turn()]),
    "offset on itself": tiff([Entry(DATE, TEXT, 20, b"12345", 8), turn()]),
    "text not text": tiff([turn(), Entry(DATE, TEXT, 4, b"\xff\xfe\xfd\xfc")]),
    "exif pointer outside": tiff([turn(), Entry(EXIF_IFD, LONG, 1, struct.pack("<L", 0xFFFFFF00))]),
    "exif pointer is negative": tiff([turn(), Entry(EXIF_IFD, SLONG, 1, struct.pack("<l", -9))]),
    "exif pointer is text": tiff([turn(), Entry(EXIF_IFD, TEXT, 4, b"abc\0")]),
    "exif pointer to itself": tiff([turn(), Entry(EXIF_IFD, LONG, 1, struct.pack("<L", 8))]),
    "gps pointer to itself": tiff([turn(), Entry(GPS_IFD, LONG, 1, struct.pack("<L", 8))]),
    "directory loop": tiff([turn()], following=8),
    "next directory outside": tiff([turn()], following=0xFFFFFFF0),
    "far directory": tiff([turn()], start=200),
    "unsorted": tiff([Entry(0xFFFF, SHORT, 1, b"\1\0"), turn(), Entry(1, SHORT, 1, b"\1\0")]),
    "twice": tiff([turn(6), turn(3)]),
    "first without a value": tiff([Entry(TAG, SHORT, 0, b""), Entry(TAG, 77, 1, b"\3\0"), turn(6)]),
    "two of them": one(SHORT, struct.pack("<HH", 6, 3), 2),
    "three of them": one(SHORT, struct.pack("<HHH", 6, 3, 3), 3),
    "long": one(LONG, struct.pack("<L", 6)),
    "signed": one(SSHORT, struct.pack("<h", 6)),
    "signed long": one(SLONG, struct.pack("<l", 6)),
    "float six": one(FLOAT, struct.pack("<f", 6)),
    "ratio": one(RATIO, struct.pack("<LL", 12, 2)),
    "rubbish in the padding": one(SHORT, b"\6\0\xff\xff"),
    "cut behind it": tiff([turn(), Entry(DATE, TEXT, 20, b"2020")])[:30],
    "more entries told than there are": tiff([turn()]).replace(b"\1\0", b"\xff\0", 1),
}  # fmt: skip
NONE: dict[str, bytes] = {  # there is no orientation in these
    "zero": tiff([turn(0)]),
    "nine": tiff([turn(9)]),
    "65535": tiff([turn(65535)]),
    "minus six": one(SSHORT, struct.pack("<h", -6)),
    "six and a half": one(FLOAT, struct.pack("<f", 6.5)),
    "not a number": one(FLOAT, struct.pack("<f", float("nan"))),
    "over nothing": one(RATIO, bytes(8)),
    "bytes first": tiff([Entry(TAG, BYTE, 1, b"\6"), turn(6)]),
    "bytes": one(BYTE, b"\6"),
    "text": one(TEXT, b"6\0"),
    "no directory": b"II*\0\xff\xff\xff\x7f",
    "empty directory": tiff([]),
    "header alone": b"II*\0\x08\0\0\0",
    "no header": b"no TIFF at all, though it is called EXIF",
    "nothing": b"",
    "short": b"II*",
    "in the second directory": tiff([], following=14) + b"\1\0" + tiff([turn()])[10:],
    "offset of the number outside": one(DOUBLE, struct.pack("<d", 6))[:24],
}
BLOCKS = {
    **{name: (block, 6) for name, block in BESIDE.items()},
    **{name: (block, 1) for name, block in NONE.items()},
}


@pytest.mark.parametrize("name", BLOCKS)
def test_orientation(name: str) -> None:
    block, expected = BLOCKS[name]
    for prefix in (b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"):
        assert orientation_of(prefix + block) == expected


# In every format


def pixels(width: int = 48, height: int = 32) -> np.ndarray:
    """Four colours: no two turns of it look alike, whatever a lossy format does to it."""
    colours = np.array([[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [200, 200, 30]]], np.uint8)
    return colours.repeat(height // 2, 0).repeat(width // 2, 1)


def jpeg(block: bytes) -> bytes:
    plain, size = saved("JPEG", quality=95, subsampling=0), len(block) + 8
    return plain[:2] + struct.pack(">HH", 0xFFE1, size) + b"Exif\0\0" + block + plain[2:]


def png(block: bytes) -> bytes:
    return saved("PNG", exif=block or b"Exif\0\0")


def webp(block: bytes) -> bytes:
    return saved("WEBP", exif=block or b"Exif\0\0", lossless=True)


def saved(kind: str, **options: object) -> bytes:
    target = BytesIO()
    Image.fromarray(pixels()).save(target, kind, **options)
    return target.getvalue()


CARRIERS: dict[str, Callable[[bytes], bytes]] = {".jpg": jpeg, ".png": png, ".webp": webp}


def check(path: Path, orientation: int) -> None:
    """The photo is read as the golden contract turns those pixels, but for the format's own loss."""
    loaded = np.asarray(load_image(path), int)
    spec = PreprocessSpec("none", crop_size=48, mean=(0.0,) * 3, std=(1.0,) * 3)
    raw = pixels()
    case = ImageCase("turned", 48, 32, spec, orientation, raw=raw.tobytes())
    assert loaded.shape == ((48, 32, 3) if orientation > 4 else (32, 48, 3))
    assert np.abs(load_pixels(path, spec)[0] - case.tensor()).max() <= 12 / 255


@pytest.mark.parametrize("suffix", CARRIERS)
@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_in_every_format(name: str, suffix: str, tmp_path: Path) -> None:
    block, orientation = BLOCKS[name]
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(CARRIERS[suffix](block))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(path, orientation)


PIXEL_TAGS = (
    Entry(0x100, SHORT, 1, struct.pack("<H", 48)),
    Entry(0x101, SHORT, 1, struct.pack("<H", 32)),
    Entry(0x102, SHORT, 3, struct.pack("<HHH", 8, 8, 8)),
    Entry(0x103, SHORT, 1, struct.pack("<H", 1)),
    Entry(0x106, SHORT, 1, struct.pack("<H", 2)),
    Entry(0x115, SHORT, 1, struct.pack("<H", 3)),
    Entry(0x116, SHORT, 1, struct.pack("<H", 32)),
    Entry(0x117, LONG, 1, struct.pack("<L", 48 * 32 * 3)),
)
ODD_TAGS = {
    "none": [],
    "float date": [Entry(DATE, FLOAT, 1, struct.pack("<f", 1.5))],
    "negative resolution": [Entry(RESOLUTION, SRATIO, 1, struct.pack("<ll", -1, 0))],
    "resolution is text": [Entry(tag, TEXT, 4, b"abc\0") for tag in (RESOLUTION, 0x11B)] + [INCH],
    "exif pointer outside": [Entry(EXIF_IFD, LONG, 1, struct.pack("<L", 0xFFFFFF00))],
    "exif pointer is negative": [Entry(EXIF_IFD, SLONG, 1, struct.pack("<l", -9))],
    "exif pointer to itself": [Entry(EXIF_IFD, LONG, 1, struct.pack("<L", 8))],
    "gps pointer is text": [Entry(GPS_IFD, TEXT, 4, b"abc\0")],
    "xmp is a number": [Entry(700, LONG, 1, b"\1\0\0\0")],
    "xmp of floats": [Entry(700, FLOAT, 2, struct.pack("<ff", 1, 2))],
    "icc is a number": [Entry(34675, LONG, 1, b"\1\0\0\0")],
    "offset outside": [Entry(DATE, TEXT, 20, b"", 0xFFFFFFF0)],
    "unknown type": [Entry(DATE, 77, 1, b"abcd")],
}  # fmt: skip


@pytest.mark.parametrize("orientation", [0, 1, 3, 6, 9])
@pytest.mark.parametrize("name", ODD_TAGS)
def test_tiff_with_odd_tags(name: str, orientation: int, tmp_path: Path) -> None:
    entries = sorted([*PIXEL_TAGS, turn(orientation), *ODD_TAGS[name]], key=lambda entry: entry.tag)
    strips = Entry(0x111, LONG, 1, b"\0\0\0\0")
    place = len(tiff([*entries, strips]))
    entries.append(Entry(0x111, LONG, 1, struct.pack("<L", place)))
    path = tmp_path / "photo.tif"
    path.write_bytes(tiff(sorted(entries, key=lambda entry: entry.tag)) + pixels().tobytes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(path, orientation if 1 <= orientation <= 8 else 1)


def avif(block: bytes, orientation: int) -> bytes:
    """Pillow writes the orientation as the format's own turn; the block is exchanged afterwards."""
    size = max(len(block), 26) + 24
    filler = tiff([turn(orientation), Entry(DATE, TEXT, size, b"#" * size)])
    target = BytesIO()
    Image.fromarray(pixels()).save(
        target, "AVIF", exif=b"Exif\0\0" + filler, quality=100, subsampling="4:4:4"
    )
    content = target.getvalue()
    place = content.index(b"#" * size) + size - len(block)
    start = content.rindex(b"II*\0", 0, place)
    room = content.index(b"#" * size) + size - start
    return content[:start] + block.ljust(room, b"\0") + content[start + room :]


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("orientation", [1, 6, 3])
@pytest.mark.parametrize("name", BLOCKS)
def test_avif(name: str, orientation: int, tmp_path: Path) -> None:
    """The format's own turn holds, whatever the block says or does."""
    path = tmp_path / "photo.avif"
    path.write_bytes(avif(BLOCKS[name][0], orientation))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(path, orientation)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_equals_the_golden_contract(
    orientation: int, suffix: str, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[TAG] = orientation
    path = tmp_path / f"photo{suffix}"
    options = {
        ".jpg": {"quality": 95, "subsampling": 0},
        ".webp": {"lossless": True},
        ".avif": {"quality": 100, "subsampling": "4:4:4"},
    }
    Image.fromarray(pixels()).save(path, exif=exif, **options.get(suffix, {}))  # type: ignore[arg-type]
    check(path, orientation if 1 <= orientation <= 8 else 1)


def test_hexadecimal_text_in_a_png(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    for text, orientation in (
        ("\nexif\n      26\n" + (b"Exif\0\0" + tiff([turn()])).hex(), 6),
        ("\nexif\n      26\nnot hexadecimal", 1),
        ("", 1),
    ):
        info = PngInfo()
        info.add_text("Raw profile type exif", text)
        Image.fromarray(pixels()).save(tmp_path / "photo.png", pnginfo=info)
        check(tmp_path / "photo.png", orientation)


NUMBERS = st.tuples(
    st.sampled_from([TAG, TAG, DATE, RESOLUTION, EXIF_IFD, 7]),
    st.integers(0, 18),
    st.sampled_from([0, 1, 1, 1, 2, 3]),
    st.binary(min_size=0, max_size=8)
    | st.sampled_from([b"\6\0", b"\0\6", b"\6\0\0\0", b"\0\0\0\6"]),
)


@given(st.lists(NUMBERS, max_size=4), st.sampled_from("<>"))
def test_equals_pillow_where_pillow_reads_all(
    numbers: list[tuple[int, int, int, bytes]], order: str
) -> None:
    """On blocks that Pillow reads without a complaint, both find the same orientation."""
    block = tiff([Entry(*number) for number in numbers], order)
    exif = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            exif.load(block)
            told = exif.get(TAG, 1)
        except (UserWarning, ValueError, struct.error, ZeroDivisionError):
            assert 1 <= orientation_of(block) <= 8
            return
    expected = next((value for value in range(1, 9) if told == value), 1)
    assert orientation_of(block) == expected


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for head in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        assert 1 <= orientation_of(head + data) <= 8
