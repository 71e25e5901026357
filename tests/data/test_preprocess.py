"""Photos of every kind -> pixels, equal to timm's rule."""

from __future__ import annotations

import json
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import (
    PreprocessSpec,
    default_spec,
    load_image,
    load_pixels,
    preprocess,
)

pytestmark = pytest.mark.newest

SIZES = [
    (1, 1), (2, 3), (1, 40), (40, 1), (7, 300), (300, 7), (63, 64), (64, 64), (65, 64), (100, 150),
    (223, 225), (224, 224), (225, 224), (248, 331), (256, 256), (257, 511), (333, 500), (640, 427),
    (31, 33), (500, 375),
]  # fmt: skip


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.parametrize("size", SIZES)
def test_timm_rule(size: tuple[int, int]) -> None:
    """torchvision's Resize(248, bicubic) and CenterCrop(224), written out again."""
    width, height = size
    image, spec = noise(width, height), default_spec(224)
    short = min(size)
    new_width, new_height = (
        248 if side == short else int(248 * side / short) for side in (width, height)
    )
    resized = image.resize((new_width, new_height), Image.Resampling.BICUBIC)
    left, top = round((new_width - 224) / 2.0), round((new_height - 224) / 2.0)
    cut = np.asarray(resized.crop((left, top, left + 224, top + 224)), np.float64)
    expected = (cut / 255 - spec.mean) / spec.std
    actual = preprocess(image, spec)
    assert actual.shape == (1, 3, 224, 224)
    assert np.abs(actual[0].transpose(1, 2, 0) - expected).max() <= 1e-6


def test_offsets_round_half_to_even_or_down() -> None:
    columns = np.tile(np.arange(10, dtype=np.uint8)[None, :, None], (10, 1, 3))
    first = {}
    for rounding in ("half-even", "floor"):
        for crop in (3, 5, 7, 9):
            spec = PreprocessSpec(
                resize="none", crop_size=crop, crop_rounding=rounding, mean=(0,) * 3, std=(1,) * 3
            )
            pixels = preprocess(Image.fromarray(columns), spec)
            first[rounding, crop] = round(float(pixels[0, 0, 0, 0]) * 255)
    assert [first["half-even", crop] for crop in (3, 5, 7, 9)] == [4, 2, 2, 0]  # of 3.5 ... 0.5
    assert [first["floor", crop] for crop in (3, 5, 7, 9)] == [3, 2, 1, 0]


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_exif_orientation(orientation: int, suffix: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (48, 32), "black")
    image.paste("red", (0, 0, 24, 16))
    image.paste("lime", (24, 0, 48, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo{suffix}"
    options = {".jpg": {"quality": 100, "subsampling": 0}, ".webp": {"lossless": True}}
    image.save(path, exif=exif, **options.get(suffix, {}))
    expected = image.transpose(TURNS[orientation]) if orientation > 1 else image
    loaded = load_image(path)
    assert loaded.size == expected.size
    difference = np.asarray(loaded, int) - np.asarray(expected, int)
    assert np.abs(difference).max() <= 4  # JPEG's own loss


def grey_ramp() -> np.ndarray:
    return np.arange(256, dtype=np.uint8).reshape(16, 16)


def modes() -> dict[str, tuple[Image.Image, np.ndarray]]:
    """Images of every mode with the (H, W, 3) values that they must give."""
    rgb = np.asarray(noise(16, 16))
    grey = np.repeat(grey_ramp()[..., None], 3, 2)
    alpha = grey_ramp()[::-1]
    wide = (grey_ramp().astype(np.uint16) << 8) + 77
    palette = Image.fromarray(rgb).quantize(8)
    colours = np.asarray(palette.convert("RGB"))
    clear = palette.copy()
    clear.info["transparency"] = bytes([0, 128, 255])
    clear_one = palette.copy()
    clear_one.info["transparency"] = 2
    bits = Image.fromarray(grey_ramp()).point(lambda value: 255 * (value > 99), "1")
    cmyk = Image.fromarray(rgb).convert("CMYK")
    return {
        "L.png": (Image.fromarray(grey_ramp()), grey),
        "RGBA.png": (Image.fromarray(np.dstack([rgb, alpha])), rgb),
        "LA.png": (Image.fromarray(np.dstack([grey_ramp(), alpha])), grey),
        "P.png": (palette, colours),
        "P transparent.png": (clear, colours),
        "P one clear.png": (clear_one, colours),
        "P.gif": (palette, colours),
        "CMYK.tif": (cmyk, np.asarray(cmyk.convert("RGB"))),
        "I16.png": (Image.fromarray(wide), grey),
        "I16.tif": (Image.fromarray(wide), grey),
        "1.png": (bits, np.asarray(bits.convert("RGB"))),
        "1.bmp": (bits, np.asarray(bits.convert("RGB"))),
    }


@pytest.mark.parametrize("name", modes())
def test_every_mode(name: str, tmp_path: Path) -> None:
    image, expected = modes()[name]
    path = tmp_path / name
    image.save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a user must not see Pillow's
        loaded = load_image(path)
    assert loaded.mode == "RGB"
    assert np.array_equal(np.asarray(loaded), expected)
    assert load_pixels(path, default_spec(32)).shape == (1, 3, 32, 32)


def test_sixteen_bits_turned(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) << 8
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    expected = np.rot90(np.arange(12).reshape(3, 4), -1)
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.png"))[..., 0], expected)


def test_float_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(EdgeDeitError, match=r"f\.tif.*8 or 16 bit"):
        load_image(tmp_path / "f.tif")


@pytest.mark.filterwarnings(
    "ignore::UserWarning:PIL", "ignore:Image size"
)  # Pillow's word on damaged TIFF tags
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif", ".gif"])
def test_broken_images_are_named(suffix: str, tmp_path: Path) -> None:
    whole = tmp_path / f"whole{suffix}"
    noise(64, 48).save(whole)
    content = whole.read_bytes()
    broken = tmp_path / f"broken{suffix}"
    for length in (0, 3, 20, len(content) // 2):
        broken.write_bytes(content[:length])
        with pytest.raises(EdgeDeitError, match=rf"broken\{suffix}"):
            load_image(broken)
    generator = np.random.default_rng(1)
    messages: list[str] = []
    for _ in range(150):  # damaged: either readable or refused by name, nothing else
        damaged = bytearray(content)
        for place in generator.integers(0, min(200, len(content)), 3):
            damaged[place] = generator.integers(0, 256)
        broken.write_bytes(damaged)
        try:
            assert load_image(broken).mode == "RGB"
        except EdgeDeitError as error:
            messages.append(str(error))
    assert messages
    assert all(broken.name in message for message in messages)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(EdgeDeitError, match=r"none\.png does not exist"):
        load_image(tmp_path / "none.png")
    with pytest.raises(EdgeDeitError, match=tmp_path.name):
        load_image(tmp_path)


def test_huge_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.bmp"
    header = struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    path.write_bytes(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header)
    with pytest.raises(EdgeDeitError, match=r"huge\.bmp is too large"):
        load_image(path)


@pytest.mark.parametrize("spec", [default_spec(224), PreprocessSpec("exact", 80, 64, "floor")])
def test_json_round_trip(spec: PreprocessSpec) -> None:
    assert PreprocessSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    "change",
    [
        {"resize": "longest"}, {"crop_rounding": "up"}, {"resample": "box"}, {"crop_size": 0},
        {"resize_size": -1}, {"std": [1, 1, 0]}, {"mean": [1, 2]}, {"std": "abc"}, {"mean": None},
        {"unknown": 1}, {"crop_size": "224"}, {"crop_size": None}, {"std": [float("nan")] * 3},
        {"crop_size": 22.5},
    ],
)  # fmt: skip
def test_impossible_specs_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EdgeDeitError):
        PreprocessSpec.from_json(default_spec(224).to_json() | change)
