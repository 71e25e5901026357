"""Image processors' files against transformers' own classes: the same pixels, or refused by name."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_deit.checkpoint.image_processors import (
    HARMLESS,
    MODEL_PROCESSORS,
    PROCESSOR_DEFAULTS,
    spec_of_processor,
)
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import load_pixels, preprocess

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
transformers = pytest.importorskip("transformers", reason="transformers is the referee")

SIZES = [
    (1, 1), (2, 3), (1, 40), (40, 1), (7, 300), (300, 7), (63, 64), (64, 64), (65, 64), (100, 150),
    (223, 225), (224, 224), (225, 224), (248, 331), (256, 256), (257, 511), (333, 500), (640, 427),
    (31, 33), (500, 375),
]  # fmt: skip

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "DeiT defaults": ("DeiT", {}),
    "ViT defaults": ("ViT", {}),
    "CLIP defaults": ("CLIP", {}),
    "Bit defaults": ("Bit", {}),
    "ConvNext defaults": ("ConvNext", {}),
    "Beit defaults": ("Beit", {}),
    "Siglip defaults": ("Siglip", {}),
    "old integers": ("DeiT", {"size": 72, "crop_size": 64, "resample": 3}),
    "exact, uncropped": ("DeiT", {"size": {"height": 80, "width": 80}, "do_center_crop": False}),
    "short edge": ("DeiT", {"size": {"shortest_edge": 72}, "crop_size": 64}),
    "short edge, odd crop": ("DeiT", {"size": {"shortest_edge": 74}, "crop_size": 63}),
    "crop beyond resize": ("DeiT", {"size": {"shortest_edge": 50}, "crop_size": 63}),
    "lanczos": ("DeiT", {"size": 72, "crop_size": 64, "resample": 1}),
    "nearest": ("DeiT", {"size": 72, "crop_size": 64, "resample": 0}),
    "not resized": ("DeiT", {"do_resize": False, "crop_size": {"height": 64, "width": 64}}),
    "not normalised": ("DeiT", {"do_normalize": False}),
    "null is off": ("DeiT", {"do_center_crop": None, "do_normalize": None, "crop_size": None}),
    "one mean for all": ("ViT", {"image_mean": 0.4, "image_std": 0.3}),
    "ImageNet numbers": (
        "ViT",
        {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 3},
    ),
    "integer is the short edge": ("CLIP", {"size": 248, "crop_size": 224}),
    "integer is a square": ("CLIP", {"size": 96, "crop_size": 80, "default_to_square": True}),
    "ViT told otherwise": (
        "ViT",
        {"size": 90, "default_to_square": False, "do_center_crop": True, "crop_size": [64, 64]},
    ),
    "ConvNext below 384": ("ConvNext", {"size": {"shortest_edge": 224}}),
    "ConvNext, other share": ("ConvNext", {"size": 96, "crop_pct": 0.95}),
    "ConvNext, all of it": ("ConvNext", {"size": 96, "crop_pct": 1}),
    "ConvNext, padded": ("ConvNext", {"size": 96, "crop_pct": 1.5}),
    "ConvNext, uncut": ("ConvNext", {"size": 400}),
    "ConvNext, cut alone": (
        "ConvNext",
        {"do_resize": False, "do_center_crop": True, "crop_size": 64},
    ),
}


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def referee(kind: str, settings: dict[str, Any]) -> Any:
    return getattr(transformers, f"{kind}ImageProcessorPil")(**settings)


def named(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {"image_processor_type": f"{kind}ImageProcessor", **settings}


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_transformers(name: str, tmp_path: Path) -> None:
    kind, settings = CONFIGS[name]
    processor = referee(kind, settings)
    spec = spec_of_processor(named(kind, settings), "file", None)
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert spec_of_processor(saved, "file", None) == spec
    for seed, (width, height) in enumerate(SIZES):
        image = noise(width, height, seed)
        expected = processor(image, return_tensors="np")["pixel_values"]
        actual = preprocess(image, spec)
        assert actual.shape == expected.shape
        assert actual.dtype == np.float32
        assert np.abs(actual - expected).max() <= 1e-6, (width, height)


@pytest.mark.parametrize("kind", PROCESSOR_DEFAULTS)
def test_defaults_are_those_of_transformers(kind: str) -> None:
    processor = getattr(transformers, f"{kind}ImageProcessorPil")
    for name, value in PROCESSOR_DEFAULTS[kind].items():
        assert getattr(processor, name, None) == value, name
    known = PROCESSOR_DEFAULTS[kind].keys() | HARMLESS
    left_out = set(processor.valid_kwargs.__annotations__) - known
    assert left_out == {"do_pad"}
    assert not getattr(processor, "do_pad", None)


def test_models_have_the_classes_of_transformers() -> None:
    from transformers.models.auto import image_processing_auto

    names = image_processing_auto.IMAGE_PROCESSOR_MAPPING_NAMES
    found = {model: names[model]["pil"] for model in MODEL_PROCESSORS if model in names}
    assert found == {model: f"{MODEL_PROCESSORS[model]}ImageProcessorPil" for model in found}
    assert {"deit", "vit", "dinov2", "beit"} <= found.keys()


@pytest.mark.parametrize(
    "name",
    [
        "DeiTImageProcessor",
        "DeiTImageProcessorFast",
        "DeiTImageProcessorPil",
        "DeiTFeatureExtractor",
    ],
)
def test_every_name_of_a_class(name: str) -> None:
    expected = spec_of_processor({}, "file", "deit")
    for field in ("image_processor_type", "feature_extractor_type"):
        assert spec_of_processor({field: name}, "file", "vit") == expected
    assert expected.resize_size == 256


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "other scale": ({"rescale_factor": 1 / 127.5}, "rescale_factor is 0.0078"),
    "rounded scale": ({"rescale_factor": 0.00392}, "rescale_factor is 0.00392"),
    "whole scale": ({"rescale_factor": 1}, "rescale_factor is 1"),
    "not scaled": ({"do_rescale": False}, "do_rescale is off"),
    "box filter": ({"resample": 4}, "resample is 4"),
    "filter by name": ({"resample": "bicubic"}, "resample is 'bicubic'"),
    "filter in a list": ({"resample": [3]}, r"resample is \[3\]"),
    "no square": ({"size": {"height": 256, "width": 224}}, "size is .*only squares"),
    "two edges": ({"size": {"shortest_edge": 256, "longest_edge": 300}}, "size is"),
    "longest edge": ({"size": {"longest_edge": 300}}, "size is"),
    "largest": ({"size": {"max_height": 300, "max_width": 300}}, "size is"),
    "pixels": ({"size": {"min_pixels": 3, "max_pixels": 300}}, "size is"),
    "null": ({"size": None}, "size is None"),
    "null filter": ({"resample": None}, "resample is None"),
    "null mean": ({"image_mean": None}, "image_mean is None"),
    "null scale": ({"rescale_factor": None}, "rescale_factor is None"),
    "null switch": ({"do_rescale": None}, "do_rescale is"),
    "zero": ({"size": 0}, "size is 0"),
    "a fraction": ({"size": 224.0}, "size is 224.0"),
    "a text": ({"size": "224"}, "size is '224'"),
    "true": ({"size": True}, "size is True"),
    "three sides": ({"size": [224, 224, 3]}, "size is"),
    "oblong crop": ({"crop_size": [224, 200]}, "crop_size is"),
    "crop by an edge": ({"crop_size": {"shortest_edge": 224}}, "crop_size is"),
    "short edge, uncut": (
        {"size": {"shortest_edge": 224}, "do_center_crop": False},
        "size keeps the aspect and nothing is cropped",
    ),
    "neither": ({"do_resize": False, "do_center_crop": False}, "do_resize is off and nothing"),
    "two means": ({"image_mean": [0.5, 0.5]}, "image_mean is"),
    "mean of one": ({"image_mean": [0.5]}, "image_mean is"),
    "mean as text": ({"image_mean": "0.5"}, "image_mean is"),
    "no number": ({"image_mean": [0.5, 0.5, float("nan")]}, "image_mean is"),
    "no spread": ({"image_std": [0.5, 0.5, 0.0]}, "image_std is"),
    "other class": ({"image_processor_type": "MobileViTImageProcessor"}, "image_processor_type is"),
    "no class": ({"image_processor_type": 5}, "image_processor_type is 5"),
    "padding": ({"do_pad": True, "pad_size": 300}, "do_pad is True"),
    "grey": ({"do_grayscale": True}, "do_grayscale is True"),
    "flipped": ({"do_flip_channel_order": True}, "do_flip_channel_order is True"),
    "thumbnail": ({"do_thumbnail": True}, "do_thumbnail is True"),
    "switch as text": ({"do_resize": "false"}, "do_resize is 'false'"),
    "switch as number": ({"do_normalize": 0}, "do_normalize is 0"),
    "share of another class": ({"crop_pct": 0.9}, "crop_pct is 0.9"),
    "unknown": ({"rescale_offset": True}, "rescale_offset is True"),
    "size_divisor": ({"size_divisor": 32}, "size_divisor is 32"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    settings, expected = REFUSED[name]
    with pytest.raises(EdgeDeitError, match=rf"^folder/file: {expected}"):
        spec_of_processor(named("DeiT", {}) | settings, "folder/file", "deit")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"size": {"height": 224, "width": 224}}, "size is"),
        ({"size": 96, "crop_pct": 0}, "crop_pct is 0"),
        ({"size": 96, "crop_pct": "0.9"}, "crop_pct is '0.9'"),
        ({"size": 96, "crop_pct": 1000}, "crop_pct is 1000"),
        ({"size": 96, "do_center_crop": True, "crop_size": 64}, "crop_size is 64"),
    ],
)
def test_convnext_is_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(EdgeDeitError, match=expected):
        spec_of_processor(named("ConvNext", settings), "file", None)


def test_without_any_class() -> None:
    for model in (None, "swin"):
        with pytest.raises(EdgeDeitError, match="does not say image_processor_type"):
            spec_of_processor({"size": 224}, "file", model)


def test_harmless_fields_change_nothing() -> None:
    settings: dict[str, Any] = dict.fromkeys(
        HARMLESS - {"image_processor_type", "feature_extractor_type"}, True
    )
    off = {"do_pad": False, "do_grayscale": False, "do_flip_channel_order": None}
    assert spec_of_processor(settings | off, "file", "deit") == spec_of_processor(
        {}, "file", "deit"
    )


# Random files on odd photos


def odd_photos(folder: Path) -> list[Path]:
    """Ten photos that a careless reader gets wrong."""
    grey = np.arange(60 * 90, dtype=np.int64).reshape(60, 90) * 7 % 256
    turned = Image.Exif()
    turned[0x0112] = 6
    clear = noise(50, 70, 5).quantize(8)
    clear.info["transparency"] = bytes([0, 128, 255])
    photos: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "one.png": (noise(1, 1, 1), {}),
        "wide.png": (noise(200, 9, 2), {}),
        "tall.png": (noise(9, 200, 3), {}),
        "palette.png": (noise(64, 48, 4).quantize(16), {}),
        "clear.png": (clear, {"transparency": clear.info["transparency"]}),
        "la.png": (Image.fromarray(np.dstack([grey, grey.T.reshape(60, 90)]).astype(np.uint8)), {}),
        "rgba.png": (noise(91, 57, 6).convert("RGBA").rotate(30), {}),
        "cmyk.jpg": (noise(80, 60, 7).convert("CMYK"), {}),
        "turned.jpg": (noise(120, 80, 8), {"exif": turned}),
        "bits.png": (noise(90, 77, 9).convert("1"), {}),
    }
    paths = []
    for name, (image, options) in photos.items():
        image.save(folder / name, **options)
        paths.append(folder / name)
    return paths


def random_settings(generator: np.random.Generator) -> dict[str, Any]:
    """Fields of all kinds: usual ones often, odd and impossible ones now and then."""
    side, crop = (int(value) for value in generator.integers((20, 16), 61))
    sizes: list[Any] = [
        side, side, [side, side], {"height": side, "width": side}, {"height": side, "width": side},
        {"shortest_edge": side}, {"shortest_edge": side}, {"height": side, "width": side + 3},
        {"longest_edge": side}, {"shortest_edge": side, "longest_edge": 2 * side}, None, 400,
    ]  # fmt: skip
    choices: dict[str, list[Any]] = {
        "size": sizes,
        "crop_size": [crop, crop, [crop, crop], {"height": crop, "width": crop}, [crop, crop + 1]],
        "do_center_crop": [True, True, False, None],
        "do_resize": [True, True, True, False],
        "do_rescale": [True, True, True, True, False],
        "do_normalize": [True, True, False],
        "resample": [0, 1, 2, 3, 3, 3, 4],
        "rescale_factor": [1 / 255] * 9 + [1 / 127.5],
        "image_mean": [[0.485, 0.456, 0.406], [0.5] * 3, 0.45],
        "image_std": [[0.229, 0.224, 0.225], [0.5] * 3, 0.25],
        "default_to_square": [True, False],
        "do_convert_rgb": [True, False, None],
        "do_pad": [False, True],
        "crop_pct": [0.875, 0.9, 1.0],
        "do_flip_channel_order": [False, True],
        "data_format": ["channels_first"],
    }
    often = {"size": 0.9, "crop_size": 0.9, "do_center_crop": 0.7}
    rare = dict.fromkeys(("do_pad", "crop_pct", "do_flip_channel_order", "do_rescale"), 0.1)
    return {
        name: values[generator.integers(len(values))]
        for name, values in choices.items()
        if generator.random() < (often | rare).get(name, 0.4)
    }


def answers(processor: Any, photos: list[Path]) -> list[np.ndarray] | None:
    """transformers' pixels of each photo, read by its own `load_image`; None where it refuses one."""
    try:
        return [processor(str(path), return_tensors="np")["pixel_values"] for path in photos]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


@pytest.mark.filterwarnings("ignore:Palette images:UserWarning")  # of transformers' own reading
def test_random_files_on_odd_photos(tmp_path: Path) -> None:
    """Equal or refused; never different. Enough must be equal for the test to mean something."""
    photos = odd_photos(tmp_path)
    generator = np.random.default_rng(20)
    equal = dict.fromkeys(PROCESSOR_DEFAULTS, 0)
    refused = set()
    kinds = itertools.cycle(PROCESSOR_DEFAULTS)
    while sum(equal.values()) < 40:
        kind = next(kinds)
        settings = random_settings(generator)
        try:
            spec = spec_of_processor(named(kind, settings), "file", None)
        except EdgeDeitError as error:
            refused.add(str(error).removeprefix("file: ").split()[0])
            continue
        expected = answers(referee(kind, settings), photos)
        assert expected is not None, (kind, settings)
        for path, tensor in zip(photos, expected, strict=True):
            actual = load_pixels(path, spec)
            assert actual.shape == tensor.shape, (kind, settings, path.name)
            assert np.abs(actual - tensor).max() <= 1e-6, (kind, settings, path.name)
        equal[kind] += 1
    assert min(equal.values()) >= 2
    assert {"size", "rescale_factor", "resample", "do_rescale"} <= refused
