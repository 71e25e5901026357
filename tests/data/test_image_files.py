"""Image files of every kind: read as documented, or refused with the file's name; never by a guess."""

from __future__ import annotations

import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.image_files import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    UNREADABLE_SUFFIXES,
    load_image,
    read_image,
)

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")


def noise(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def read(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as under PYTHONWARNINGS=error
        return np.asarray(load_image(path))


# Names


def test_names() -> None:
    assert not set(IMAGE_SUFFIXES) & UNREADABLE_SUFFIXES.keys()
    for suffix in (*IMAGE_SUFFIXES, *UNREADABLE_SUFFIXES):
        assert suffix == suffix.lower()
        assert suffix.startswith(".")
    for suffix in (".heic", ".heif", ".cr2", ".nef", ".dng", ".arw", ".jxl"):
        assert "(" in UNREADABLE_SUFFIXES[suffix]  # the package to install


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_name_is_read(suffix: str, tmp_path: Path) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / f"photo{suffix}"
    Image.new("RGB", (20, 10), (250, 10, 10)).save(path)
    assert np.abs(read(path).astype(int) - (250, 10, 10)).max() <= 4
    assert read_image(path).note == ""


@needs_avif
def test_avif_with_transparency_and_grey(tmp_path: Path) -> None:
    image = noise().convert("RGBA")
    image.putalpha(0)
    image.save(tmp_path / "clear.avif", quality=100, subsampling="4:4:4")
    expected = np.asarray(image)[..., :3].astype(int)
    assert np.abs(read(tmp_path / "clear.avif") - expected).max() <= 12
    Image.new("L", (20, 10), 77).save(tmp_path / "grey.avif", quality=100)
    assert np.abs(read(tmp_path / "grey.avif").astype(int) - 77).max() <= 2


def test_a_name_that_lies(tmp_path: Path) -> None:
    """The content counts; a format that is no photo's is not even opened."""
    noise().save(tmp_path / "a.jpg", "PNG")
    assert np.array_equal(read(tmp_path / "a.jpg"), np.asarray(noise()))
    noise().save(tmp_path / "b.jpg", "EPS")
    noise().save(tmp_path / "c.png", "PDF")
    for name in ("b.jpg", "c.png"):
        with pytest.raises(EdgeDeitError, match=rf"{name} cannot be read"):
            load_image(tmp_path / name)


# Depths


def tiff(values: np.ndarray, sample_format: int) -> bytes:
    """A TIFF of one strip; `sample_format` 1 unsigned, 2 signed, 3 floating point."""
    height, width = values.shape[:2]
    samples = values.shape[2] if values.ndim == 3 else 1
    bits = values.dtype.itemsize * 8
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, 1),
        (262, 3, 1, 2 if samples == 3 else 1), (273, 4, 1, 0), (277, 3, 1, samples),
        (278, 4, 1, height), (279, 4, 1, values.nbytes), (339, 3, 1, sample_format),
    ]  # fmt: skip
    place = 8 + 2 + 12 * len(tags) + 4
    behind = b""
    if samples == 3:
        tags[2] = (258, 3, 3, place)
        tags[9] = (339, 3, 3, place + 6)
        behind = struct.pack("<6H", *[bits] * 3, *[sample_format] * 3)
    tags[5] = (273, 4, 1, place + len(behind))
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHLL", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + directory + bytes(4) + behind + values.tobytes()


def png16(values: np.ndarray) -> bytes:
    """A PNG of 16 bits, grey (H, W) or colour (H, W, 3)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))
        )

    height, width = values.shape[:2]
    colour = 2 if values.ndim == 3 else 0
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">LLBBBBB", width, height, 16, colour, 0, 0, 0)
    packed = zlib.compress(rows)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def ramp(*shape: int) -> np.ndarray:
    return (np.arange(int(np.prod(shape))) * 997 % 65536).astype(np.uint16).reshape(shape)


@pytest.mark.parametrize("shape", [(24, 31), (24, 31, 3)])
def test_of_sixteen_bits_the_upper_eight_count(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = ramp(*shape)
    expected = np.broadcast_to((values >> 8).reshape(24, 31, -1), (24, 31, 3))
    (tmp_path / "a.tif").write_bytes(tiff(values, 1))
    (tmp_path / "a.png").write_bytes(png16(values))
    for name in ("a.tif", "a.png"):
        assert np.array_equal(read(tmp_path / name), expected)


@pytest.mark.parametrize(
    ("values", "sample_format", "reason"),
    [
        (np.ones((5, 6), np.uint32), 1, "32-bit"),
        (np.ones((5, 6), np.int32), 2, "32-bit"),
        (np.ones((5, 6), np.int16), 2, "signed"),
        (np.ones((5, 6), np.float32), 3, "floating-point"),
    ],
)
def test_depths_without_a_range_are_refused(
    values: np.ndarray, sample_format: int, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(values, sample_format))
    with pytest.raises(EdgeDeitError, match=rf"a\.tif cannot be read: .*{reason}.*8 or 16 bit"):
        load_image(tmp_path / "a.tif")


# Animated files


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif", ".avif"])
def test_of_several_frames_the_first_is_read_and_said(suffix: str, tmp_path: Path) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / f"moving{suffix}"
    first, *others = (Image.new("RGB", (24, 16), colour) for colour in ("red", "lime", "blue"))
    options: dict[str, Any] = {".webp": {"lossless": True}}.get(suffix, {})
    first.save(path, save_all=True, append_images=others, **options)
    found = read_image(path)
    assert np.abs(np.asarray(found.image, int) - (255, 0, 0)).max() <= 4
    assert found.note == f"{path} holds several frames; the first is used"


def test_a_phone_s_second_picture_is_not_worth_a_word(tmp_path: Path) -> None:
    path = tmp_path / "hdr.jpg"
    noise().save(path, "MPO", save_all=True, append_images=[noise(20, 15, 1)])
    found = read_image(path)
    assert found.image.size == (40, 30)
    assert found.note == ""


def test_a_broken_second_frame_is_not_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "moving.gif"
    colours = [Image.new("RGB", (24, 16), colour) for colour in ("red", "lime")]
    colours[0].save(path, save_all=True, append_images=colours[1:])
    single = BytesIO()
    colours[0].save(single, "GIF")
    path.write_bytes(path.read_bytes()[: len(single.getvalue()) + 30])
    assert np.array_equal(read(path)[0, 0], (255, 0, 0))


# Sizes


def bmp(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


@pytest.mark.parametrize("size", [(9460, 9460), (12000, 9000), (16320, 12240), (60_000, 60_000)])
def test_too_large_is_refused_before_anything_is_decoded(
    size: tuple[int, int], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "huge.bmp"
    path.write_bytes(bmp(*size))  # there are no pixels in it
    with pytest.raises(EdgeDeitError, match=r"image .*huge\.bmp is too large") as caught:
        load_image(path)
    assert "\n" not in str(caught.value)
    assert not recwarn.list


def test_the_limit_is_a_parameter(tmp_path: Path) -> None:
    path = tmp_path / "small.png"
    noise(40, 30).save(path)
    assert load_image(path, max_pixels=1200).size == (40, 30)
    with pytest.raises(EdgeDeitError, match=r"small\.png is too large: 40 x 30 pixels, .* 1199"):
        load_image(path, max_pixels=1199)
    path.write_bytes(bmp(9500, 9500))
    with pytest.raises(EdgeDeitError, match="cannot be read"):  # past the check, there is nothing
        load_image(path, max_pixels=2 * MAX_PIXELS)
    assert MAX_PIXELS == Image.MAX_IMAGE_PIXELS


@needs_avif
def test_avif_is_held_against_the_limit_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0132] = "2020:01:01 00:00:00"
    noise().save(tmp_path / "a.avif", exif=exif)
    with pytest.raises(EdgeDeitError, match=r"a\.avif is too large"):
        load_image(tmp_path / "a.avif", max_pixels=100)


# Damage


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_damaged_files_are_read_or_named(suffix: str, tmp_path: Path) -> None:
    """Single bytes anywhere, cuts anywhere: an image or one clear line, nothing else."""
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / f"photo{suffix}"
    exif = Image.Exif()
    exif[0x0112], exif[0x0132], exif[0x011A] = 6, "2020:01:01 00:00:00", 72.0
    with_exif = {} if suffix in (".bmp", ".gif") else {"exif": exif}
    noise(24, 16).save(path, **with_exif)
    content = path.read_bytes()
    generator = np.random.default_rng(3)
    outcomes = {"read": 0, "refused": 0}
    for index in range(200):
        damaged = bytearray(content)
        for place in generator.integers(0, len(content), 1 + index % 4):
            damaged[place] = generator.integers(0, 256)
        if index % 5 == 0:
            damaged = damaged[: generator.integers(0, len(content))]
        path.write_bytes(damaged)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert load_image(path).mode == "RGB"
            outcomes["read"] += 1
        except EdgeDeitError as error:
            assert str(error).startswith(f"image {path} ")
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0


@pytest.mark.parametrize("name", ["none.png", "a\0b.png", "x" * 300 + ".png"])
def test_no_such_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(EdgeDeitError, match=r"(does not exist|cannot be read)"):
        load_image(tmp_path / name)
