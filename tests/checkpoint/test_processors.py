"""Where a checkpoint's preprocessing comes from: its files, its name, what is asked for; never a guess."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_deit.checkpoint.processors import (
    PreprocessChoice,
    apply_choice,
    describe,
    spec_for_file,
    spec_from_folder,
    spec_named,
)
from edge_deit.checkpoint.recipes import find_recipe
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import IMAGENET_MEAN, PreprocessSpec, default_spec

VIT: dict[str, Any] = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 224, "width": 224},
    "resample": 3,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
VIT_SPEC = PreprocessSpec("exact", 224, 224, "floor")
TIMM: dict[str, Any] = {
    "tag": "fb_in1k", "custom_load": False, "input_size": [3, 224, 224], "fixed_input_size": True,
    "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center", "num_classes": 1000,
    "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "pool_size": None,
    "first_conv": "patch_embed.proj", "classifier": "head", "test_input_size": None,
}  # fmt: skip
HALF = (0.5, 0.5, 0.5)
PLAIN = {"model_type": "vit"}


def put(folder: Path, name: str, data: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(data))
    return folder


# A folder


def test_every_file_of_hugging_face(tmp_path: Path) -> None:
    one = put(tmp_path / "one", "preprocessor_config.json", VIT)
    new = {"processor_class": "ViTProcessor", "image_processor": VIT}
    two = put(tmp_path / "two", "processor_config.json", new)
    nested = put(tmp_path / "three", "preprocessor_config.json", new)
    for folder in (one, two, nested):
        assert spec_from_folder(folder, PLAIN, 224) == (VIT_SPEC, ())
    put(two, "preprocessor_config.json", VIT | {"_processor_class": "ViTProcessor"})
    assert spec_from_folder(two, PLAIN, 224) == (VIT_SPEC, ())  # both say the same
    put(one, "processor_config.json", {"processor_class": "CLIPProcessor"})  # holds no pixels' rule
    assert spec_from_folder(one, PLAIN, 224) == (VIT_SPEC, ())


def test_the_class_comes_from_the_model_where_no_file_names_it(tmp_path: Path) -> None:
    folder = put(tmp_path, "preprocessor_config.json", {"size": 224})
    assert spec_from_folder(folder, {"model_type": "vit"}, 224)[0].resample == "bilinear"
    spec, _ = spec_from_folder(folder, {"model_type": "deit"}, 224)
    assert (spec.resample, spec.resize, spec.crop_size) == ("bicubic", "exact", 224)
    with pytest.raises(EdgeDeitError, match="does not say image_processor_type"):
        spec_from_folder(folder, {}, 224)


def test_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(VIT).encode())
    assert spec_from_folder(tmp_path, PLAIN, 224)[0] == VIT_SPEC


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("preprocessor_config.json", "{", "not readable"),
        ("preprocessor_config.json", "[]", "no JSON object"),
        ("processor_config.json", '{"image_processor": 5}', "image_processor is no JSON object"),
        ("processor_config.json", "\x00", "not readable"),
    ],
)
def test_broken_files(name: str, content: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(EdgeDeitError, match=rf"{name}.*{expected}"):
        spec_from_folder(tmp_path, PLAIN, 224)


def test_files_that_differ_are_refused(tmp_path: Path) -> None:
    folder = put(tmp_path, "preprocessor_config.json", VIT | {"resample": 2})
    put(folder, "processor_config.json", {"image_processor": VIT})
    with pytest.raises(EdgeDeitError, match=r"processor_config\.json and .* differ in resample;"):
        spec_from_folder(folder, PLAIN, 224)
    (folder / "preprocessor_config.json").unlink()
    timm = {"architecture": "vit_base_patch16_224", "pretrained_cfg": TIMM | {"mean": HALF}}
    with pytest.raises(EdgeDeitError, match=r"pretrained_cfg differ in resize, .*, mean;"):
        spec_from_folder(folder, timm, 224)


def test_nothing_known_is_refused_with_the_options(tmp_path: Path) -> None:
    for config in (
        PLAIN,
        {"model_type": "deit"},
        {"_name_or_path": "me/mine"},
        {"architecture": 5},
    ):
        with pytest.raises(EdgeDeitError) as caught:
            spec_from_folder(tmp_path, config, 224)
        message = str(caught.value)
        assert "\n" not in message
        for option in ("--preprocessing timm|deit|huggingface|FILE", "--mean", "--interpolation"):
            assert option in message


KNOWN: dict[str, tuple[int, PreprocessSpec]] = {
    "facebook/deit-tiny-patch16-224": (224, PreprocessSpec("exact", 256, 224, "floor")),
    "facebook/deit-base-distilled-patch16-384": (384, PreprocessSpec("exact", 438, 384, "floor")),
    "google/vit-base-patch16-224": (
        224,
        PreprocessSpec("exact", 224, 224, "floor", "bilinear", HALF, HALF),
    ),
    "timm/deit_tiny_patch16_224.fb_in1k": (224, default_spec(224)),
    "timm/deit_base_distilled_patch16_384.fb_in1k": (384, default_spec(384, 1.0)),
    "deit_small_distilled_patch16_224": (224, default_spec(224)),
    "timm/deit3_small_patch16_224.fb_in1k": (224, default_spec(224)),
    "timm/deit3_small_patch16_224.fb_in22k_ft_in1k": (224, default_spec(224, 1.0)),
    "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k": (
        224,
        replace(default_spec(224), mean=HALF, std=HALF),
    ),
    "vit_base_patch16_384": (384, replace(default_spec(384, 1.0), mean=HALF, std=HALF)),
    "timm/vit_small_patch16_224.dino": (224, default_spec(224)),
    "timm/vit_small_patch14_dinov2.lvd142m": (518, default_spec(518, 1.0)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_published_checkpoints_are_known_by_name(name: str, tmp_path: Path) -> None:
    size, expected = KNOWN[name]
    cache = tmp_path / f"models--{name.replace('/', '--')}" / "snapshots" / "0123"
    found = [
        spec_from_folder(tmp_path, {"_name_or_path": name}, size),
        spec_from_folder(tmp_path, {"architecture": name}, size),
        spec_from_folder(cache, PLAIN, size),
    ]
    for spec, lines in found:
        assert spec == expected
        (line,) = lines
        assert line.startswith("assumed: preprocessing is ")
        assert name in line
        assert describe(spec) in line
    assert spec_named(name, size) == (expected, ())


@pytest.mark.parametrize(
    "name", ["vit_base_patch16_224_miil.in21k", "deit_tiny", "", "a/b", "deit"]
)
def test_other_names_are_not_known(name: str) -> None:
    assert find_recipe(name) is None


# timm


def test_timm_folders(tmp_path: Path) -> None:
    config = {"architecture": "deit_tiny_patch16_224", "num_classes": 1000, "pretrained_cfg": TIMM}
    assert spec_from_folder(tmp_path, config, 224) == (default_spec(224), ())
    flat = {"architecture": "deit_tiny_patch16_224", "num_features": 192} | TIMM
    assert spec_from_folder(tmp_path, flat, 224) == (default_spec(224), ())


TIMM_CHANGES: dict[str, tuple[dict[str, Any], PreprocessSpec]] = {
    "mean": ({"mean": HALF, "std": HALF}, replace(default_spec(224), mean=HALF, std=HALF)),
    "squash": ({"crop_mode": "squash"}, PreprocessSpec("exact", 248, 224)),
    "all": ({"crop_pct": 1.0}, PreprocessSpec("shortest", 224, 224)),
    "whole": ({"crop_pct": 1}, PreprocessSpec("shortest", 224, 224)),
    "share": ({"crop_pct": 0.95}, PreprocessSpec("shortest", 235, 224)),
    "bilinear": ({"interpolation": "bilinear"}, replace(default_spec(224), resample="bilinear")),
    "lanczos": ({"interpolation": "lanczos"}, replace(default_spec(224), resample="lanczos")),
    "384": ({"input_size": [3, 384, 384], "crop_pct": 1.0}, default_spec(384, 1.0)),
}


@pytest.mark.parametrize("name", TIMM_CHANGES)
def test_timm_fields(name: str, tmp_path: Path) -> None:
    changes, expected = TIMM_CHANGES[name]
    config = {"architecture": "x", "pretrained_cfg": TIMM | changes}
    assert spec_from_folder(tmp_path, config, expected.crop_size) == (expected, ())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"crop_mode": "border"}, "crop_mode is 'border'"),
        ({"crop_mode": "centre"}, "crop_mode is 'centre'"),
        ({"interpolation": "random"}, "interpolation is 'random'"),
        ({"interpolation": ["bicubic"]}, "interpolation is"),
        ({"input_size": [3, 224, 192]}, "input_size is"),
        ({"input_size": [1, 224, 224]}, "input_size is"),
        ({"input_size": 224}, "input_size is 224"),
        ({"crop_pct": 0}, "crop_pct is 0"),
        ({"crop_pct": "0.9"}, "crop_pct is '0.9'"),
        ({"mean": 0.5}, "mean is 0.5"),
        ({"std": [1, 1, 0]}, "std is"),
        ({"std": [1, 1, float("inf")]}, "std is"),
        ({"crop_border_pixels": 4}, "crop_border_pixels is 4"),
        ({"resize_mode": "pad"}, "resize_mode is 'pad'"),
    ],
)
def test_timm_is_refused_by_name(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    config = {"architecture": "x", "pretrained_cfg": TIMM | changes}
    with pytest.raises(EdgeDeitError, match=rf"config\.json \(pretrained_cfg\): {expected}"):
        spec_from_folder(tmp_path, config, 224)


def test_what_timm_leaves_out_is_its_default_and_said(tmp_path: Path) -> None:
    spec, lines = spec_from_folder(tmp_path, {"pretrained_cfg": {"input_size": [3, 224, 224]}}, 224)
    assert spec == PreprocessSpec("shortest", 256, 224)  # crop_pct 0.875
    (line,) = lines
    assert line.startswith("assumed: ")
    assert "does not say mean, std, crop_pct, interpolation; timm's defaults" in line


# Weights alone


@pytest.mark.parametrize(
    ("path", "options", "expected", "said"),
    [
        ("a/x.safetensors", {}, IMAGENET_MEAN, "though nothing says that it is one"),
        ("a/x.safetensors", {"distilled": True}, IMAGENET_MEAN, "as it has a distillation token"),
        ("a/x.pth", {"model": "deit_small"}, IMAGENET_MEAN, "as --model is deit_small"),
        ("a/DeiT-mine.pth", {}, IMAGENET_MEAN, "as its name is DeiT-mine"),
        ("deit_tiny_patch16_224/model.safetensors", {}, IMAGENET_MEAN, "deit_tiny_patch16_224"),
        ("a/vit_tiny_patch16_224.augreg_in21k.pth", {}, HALF, "timm's for vit_tiny_patch16_224"),
        ("vit_base_patch16_224/model.safetensors", {}, HALF, "timm's for vit_base_patch16_224"),
        (
            "vit_base_patch16_224/model.pth",
            {"distilled": True},
            IMAGENET_MEAN,
            "distillation token",
        ),
    ],
)
def test_weights_alone_are_assumed_and_said(
    path: str, options: dict[str, Any], expected: tuple[float, ...], said: str, tmp_path: Path
) -> None:
    spec, lines = spec_for_file(tmp_path / path, 224, **options)
    assert spec == replace(default_spec(224), mean=expected, std=spec.std)
    (line,) = lines
    assert line.startswith("assumed: preprocessing is timm's ")
    assert said in line
    assert line.endswith("--preprocessing changes it")


def test_weights_alone_at_384_pixels() -> None:
    assert spec_for_file(Path("x.pth"), 384)[0] == default_spec(384, 1.0)


# Asked for


def test_named_rules() -> None:
    assert spec_named("timm", 224) == (default_spec(224), ())
    assert spec_named("timm", 384) == (default_spec(384, 1.0), ())
    assert spec_named("deit", 224) == (PreprocessSpec("shortest", 256, 224), ())
    assert spec_named("huggingface", 224) == (PreprocessSpec("exact", 256, 224, "floor"), ())


def test_named_files(tmp_path: Path) -> None:
    own = PreprocessSpec("exact", 70, 64, "floor", "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    files: dict[str, tuple[Any, PreprocessSpec]] = {
        "own.json": (own.to_json(), own),
        "manifest.json": ({"format": 1, "preprocessing": own.to_json()}, own),
        "preprocessor.json": (VIT, VIT_SPEC),
        "processor_config.json": ({"image_processor": VIT}, VIT_SPEC),
        "timm.json": ({"architecture": "x", "pretrained_cfg": TIMM}, default_spec(224)),
        "bare.json": (TIMM | {"architecture": "x"}, default_spec(224)),
    }
    for name, (data, expected) in files.items():
        put(tmp_path, name, data)
        assert spec_named(str(tmp_path / name), 224) == (expected, ())
    put(tmp_path, "config.json", {"model_type": "vit"})
    silent = put(tmp_path, "silent.json", {"do_resize": True}) / "silent.json"
    assert spec_named(str(silent), 224)[0].resample == "bilinear"  # ViT's, by the config beside it
    assert spec_named(str(tmp_path), 224) == (VIT_SPEC, ())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{}", "says nothing of preprocessing"),
        ('{"image_processor": []}', "says nothing of preprocessing"),
        ('{"do_resize": true}', "does not say image_processor_type"),
        ('{"resize": "none", "crop_size": 3, "mean": [0, 0, 0]}', r"file\.json: .*lacks .*std"),
        (json.dumps(default_spec(64).to_json() | {"resize": "up"}), r"file\.json: resize is 'up'"),
        ("nonsense", "not readable"),
    ],
)
def test_named_files_are_refused(content: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(content)
    with pytest.raises(EdgeDeitError, match=expected):
        spec_named(str(path), 224)


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeDeitError, match="'torchvision' is neither timm, deit or huggingface"):
        spec_named("torchvision", 224)
    with pytest.raises(EdgeDeitError, match=r"config\.json does not exist"):
        spec_named(str(tmp_path), 224)


def test_choice_from_text() -> None:
    assert PreprocessChoice.from_text() is None
    choice = PreprocessChoice.from_text(
        "timm", mean="0.5", std="0.1, 0.2,0.3", resize="256x256", crop=224, interpolation="nearest"
    )
    assert choice == PreprocessChoice("timm", HALF, (0.1, 0.2, 0.3), "exact", 256, 224, "nearest")
    short = PreprocessChoice.from_text(resize="248")
    assert short == PreprocessChoice(resize="shortest", resize_size=248)
    assert PreprocessChoice.from_text(resize="none") == PreprocessChoice(resize="none")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mean": "a"}, "--mean is 'a'"),
        ({"mean": "0.5,0.5"}, "--mean is '0.5,0.5'"),
        ({"std": ""}, "--std is ''"),
        ({"resize": "256x224"}, "--resize is '256x224'"),
        ({"resize": "9x9x9"}, "--resize is '9x9x9'"),
        ({"resize": "-3"}, "--resize is '-3'"),
        ({"resize": "big"}, "--resize is 'big'"),
        ({"resize": ""}, "--resize is ''"),
        ({"resize": "1" * 5000}, "--resize is '1111"),
    ],
)
def test_choice_is_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(EdgeDeitError, match=expected):
        PreprocessChoice.from_text(**options)


def unknown() -> tuple[PreprocessSpec, tuple[str, ...]]:
    raise EdgeDeitError("nothing is known")


def test_choice_holds_over_what_is_found() -> None:
    found = (default_spec(224), ("assumed: this",))
    assert apply_choice(None, 224, lambda: found) == found
    assert apply_choice(PreprocessChoice("deit"), 224, unknown) == spec_named("deit", 224)
    spec, lines = apply_choice(PreprocessChoice(mean=HALF), 224, lambda: found)
    assert (spec, lines) == (replace(default_spec(224), mean=HALF), ("assumed: this",))
    mixed = PreprocessChoice("huggingface", resample="bilinear", crop_size=200)
    assert apply_choice(mixed, 224, unknown)[0] == PreprocessSpec(
        "exact", 256, 200, "floor", "bilinear"
    )


def test_a_complete_choice_needs_nothing_else() -> None:
    choice = PreprocessChoice.from_text(
        mean="0.5", std="0.5", resize="248", interpolation="bilinear"
    )
    spec, _ = apply_choice(choice, 224, unknown)
    assert spec == PreprocessSpec("shortest", 248, 224, "half-even", "bilinear", HALF, HALF)
    uncut = PreprocessChoice.from_text(mean="0.5", std="0.5", resize="none")
    assert apply_choice(uncut, 64, unknown)[0].crop_size == 64
    for partial in ({"mean": "0.5", "std": "0.5", "resize": "248"}, {"std": "0.5"}):
        with pytest.raises(EdgeDeitError, match="nothing is known"):
            apply_choice(PreprocessChoice.from_text(**partial), 224, unknown)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"interpolation": "box"}, "resample is 'box'"),
        ({"crop": 0}, "crop_size is 0"),
        ({"resize": "0"}, "resize_size is 0"),
        ({"std": "0"}, "std all positive"),
        ({"mean": "nan"}, "finite"),
    ],
)
def test_impossible_choices_are_refused(options: dict[str, Any], expected: str) -> None:
    choice = PreprocessChoice.from_text("timm", **options)
    with pytest.raises(EdgeDeitError, match=expected):
        apply_choice(choice, 224, unknown)
