"""What config.json and metadata say: shape, heads, names of classes; read, or refused by name."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import random_model
from edge_deit.checkpoint.load import load_model
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.data.preprocess import default_spec
from edge_deit.model.config import DeiTConfig
from weights_examples import SHAPE, hub_state, plain_state, refused, same, timm_folder, vit_folder

NAMES = {str(index): f"name {index}" for index in range(4)}
WIDE = replace(SHAPE, embed_dim=128, mlp_dim=64, depth=1)


# Hugging Face


def test_a_folder(tmp_path: Path) -> None:
    state = plain_state()
    loaded = load_model(str(vit_folder(tmp_path / "a", state)))
    assert same(loaded, state)
    assert loaded.config == replace(SHAPE, family="vit")
    assert loaded.labels == tuple(NAMES.values())
    assert loaded.assumptions == ()


@pytest.mark.parametrize(
    "prefix", ["vit.", "", "model.vit.", "module.vit.", "_orig_mod.model.vit."]
)
def test_prefixes_in_a_folder(prefix: str, tmp_path: Path) -> None:
    """A wrapper stands before the classifier too; the base model's own prefix does not."""
    state, folder = plain_state(), vit_folder(tmp_path / "a")
    outer = prefix.removesuffix("vit.")
    tensors = {
        f"{outer}{name}" if name.startswith("classifier") else name: value
        for name, value in hub_state(state, prefix).items()
    }
    save_file(tensors, folder / "model.safetensors")
    assert same(load_model(str(folder)), state)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"id2label": NAMES | {"1": "name 0"}}, r"calls 2 classes 'name 0' \(0, 1\)"),
        ({"id2label": {k: NAMES[k] for k in "013"}}, r"lacks class 2 \(1 of 4\)"),
        ({"id2label": NAMES | {"4": "more"}}, "has '4'; the classes are 0 to 3"),
        ({"id2label": NAMES | {"one": "more"}}, "has 'one'"),
        ({"id2label": NAMES | {"01": "more"}}, "has '01'"),
        ({"id2label": NAMES | {"2": ""}}, "calls class 2 '', which is no name"),
        ({"id2label": NAMES | {"2": "  "}}, "which is no name"),
        ({"id2label": NAMES | {"2": None}}, "calls class 2 None"),
        ({"id2label": NAMES | {"2": True}}, "calls class 2 True"),
        ({"id2label": NAMES | {"2": ["a"]}}, "which is no name"),
        ({"id2label": list(NAMES.values())}, "not a table of names"),
        ({"id2label": "abcd"}, "not a table of names"),
        ({"num_labels": 3}, "num_labels is 3, the classifier has 4 rows"),
        ({"num_labels": True}, "num_labels is True"),
        ({"num_labels": 4.0}, "num_labels is 4.0"),
        ({"label2id": {"name 0": 1}}, "calls class 0 'name 0', label2id says that it is class 1"),
        ({"label2id": {"name 0": "2"}}, "label2id says that it is class '2'"),
        ({"label2id": [1]}, "label2id is"),
        ({"problem_type": "multi_label_classification"}, "do not exclude one another"),
        ({"problem_type": "regression"}, "its outputs are values"),
        ({"problem_type": "ranking"}, "no kind of classifier known"),
        ({"quantization_config": {"bits": 8}}, "quantization_config is set"),
        (
            {"auto_map": {"AutoModel": "code.Model"}},
            "auto_map is set: its model is code of its own",
        ),
        ({"pruned_heads": {"1": [0]}}, "pruned_heads is set"),
        ({"hidden_size": "64"}, "hidden_size is '64'; a whole number"),
        ({"hidden_size": 64.0}, "hidden_size is 64.0"),
        ({"hidden_size": None, "num_attention_heads": True}, "num_attention_heads is True"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": [2]}, "num_hidden_layers is"),
        ({"intermediate_size": 95}, "mlp.fc1.weight has shape"),
        ({"qkv_bias": "false"}, "qkv_bias is 'false'; true or false"),
        ({"qkv_bias": 0}, "qkv_bias is 0"),
        ({"layer_norm_eps": "1e-6"}, "layer_norm_eps is '1e-6'"),
        ({"layer_norm_eps": 0}, "layer_norm_eps is 0"),
        ({"image_size": True}, "image_size is True; only squares"),
        ({"image_size": 40}, "pos_embed has shape"),
        ({"patch_size": 0}, "patch_size is 0"),
        ({"patch_size": 5}, "not a multiple of patch_size"),
        ({"num_channels": 1}, "only RGB"),
        ({"hidden_act": "quick_gelu"}, "hidden_act is 'quick_gelu'"),
        ({"model_type": ["vit"]}, "model_type is"),
    ],
)
def test_config_is_refused(change: dict[str, Any], expected: str, tmp_path: Path) -> None:
    message = refused(vit_folder(tmp_path / "a", **change))
    assert re.search(expected, message)
    assert str(tmp_path) in message


@pytest.mark.parametrize(
    ("change", "labels"),
    [
        ({"id2label": None}, ("0", "1", "2", "3")),
        ({"id2label": {}, "num_labels": 4}, ("0", "1", "2", "3")),
        ({"id2label": {str(i): 10 * i for i in range(4)}}, ("0", "10", "20", "30")),
        ({"label2id": {name: index for index, name in NAMES.items()}}, tuple(NAMES.values())),
        ({"label2id": {"other": 7}}, tuple(NAMES.values())),
        ({"problem_type": "single_label_classification"}, tuple(NAMES.values())),
    ],
)
def test_names_that_are_taken(
    change: dict[str, Any], labels: tuple[str, ...], tmp_path: Path
) -> None:
    assert load_model(str(vit_folder(tmp_path / "a", **change))).labels == labels


def test_imagenet_has_two_cranes(tmp_path: Path) -> None:
    state = plain_state(replace(SHAPE, num_classes=1000))
    names = {str(index): f"name {index}" for index in range(1000)}
    twins = {"134": "crane", "517": "crane", "638": "maillot", "639": "maillot"}
    loaded = load_model(str(vit_folder(tmp_path / "a", state, id2label=names | twins)))
    assert loaded.labels[134] == loaded.labels[517] == "crane"
    for wrong in ({"134": "crane", "518": "crane"}, {"0": "tench", "1": "tench"}):
        folder = vit_folder(tmp_path / "a", state, id2label=names | wrong)
        assert "give each a name of its own" in refused(folder)


def test_a_file_of_a_folder_is_read_with_its_config(tmp_path: Path) -> None:
    folder = vit_folder(tmp_path / "a")
    assert load_model(str(folder / "model.safetensors")).labels == tuple(NAMES.values())
    shutil.copy(folder / "model.safetensors", folder / "mine.safetensors")
    assert "give its folder" in refused(folder / "mine.safetensors")


# timm


def test_a_timm_folder(tmp_path: Path) -> None:
    state = plain_state()
    for name in ("model.safetensors", "pytorch_model.bin"):
        folder = timm_folder(tmp_path / name, state)
        if name.endswith(".bin"):
            (folder / "model.safetensors").unlink()
            torch.save(state, folder / name)
        for weights in (folder, folder / name):
            loaded = load_model(str(weights))
            assert same(loaded, state)
            assert loaded.config == SHAPE
            spec = loaded.preprocess
            assert (spec.resize_size, spec.resample, spec.mean) == (40, "bilinear", (0.1, 0.2, 0.3))
            assert loaded.assumptions == ()


@pytest.mark.parametrize(
    ("change", "labels"),
    [
        ({}, ("0", "1", "2", "3")),
        ({"label_names": ["a", "b", "c", "d"]}, ("a", "b", "c", "d")),
        ({"labels": ["a", "b", "c", "d"]}, ("a", "b", "c", "d")),
        ({"label_names": {"3": "d", "2": "c", "1": "b", "0": "a"}}, ("a", "b", "c", "d")),
        (
            {"label_names": ["a", "b", "c", "d"], "label_descriptions": {"a": "the first"}},
            ("a", "b", "c", "d"),
        ),
    ],
)
def test_timm_names(change: dict[str, Any], labels: tuple[str, ...], tmp_path: Path) -> None:
    assert load_model(str(timm_folder(tmp_path / "a", **change))).labels == labels


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"num_classes": 5}, "num_classes is 5, the classifier has 4 rows"),
        ({"num_classes": True}, "num_classes is True"),
        ({"label_names": ["a", "b", "c"]}, r"label_names lacks class 3 \(1 of 4\)"),
        ({"label_names": ["a", "b", "c", "d", "e"]}, "label_names has '4'"),
        ({"label_names": ["a", "b", "c", "a"]}, "label_names calls 2 classes 'a'"),
        ({"label_names": "abcd"}, "label_names is 'abcd', not a table"),
        (
            {"label_names": [*"abcd"], "label_descriptions": {"e": "?"}},
            "label_descriptions has 'e'",
        ),
        ({"label_names": [*"abcd"], "label_descriptions": ["e"]}, "label_descriptions is"),
        ({"pretrained_cfg": [1]}, "pretrained_cfg is"),
        ({"model_args": [1]}, "model_args is"),
        ({"model_args": {"num_heads": True}}, "num_heads is True"),
        ({"model_args": {"num_heads": 0}}, "num_heads is 0"),
        ({"model_args": None}, "deit_tiny_patch16_224 has width 192, the tensors have 64"),
    ],
)
def test_timm_config_is_refused(change: dict[str, Any], expected: str, tmp_path: Path) -> None:
    message = refused(timm_folder(tmp_path / "a", **change))
    assert re.search(expected, message)
    assert str(tmp_path) in message


# Attention heads


def test_heads_of_bare_tensors(tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    save_file(plain_state(WIDE), path)
    loaded = load_model(str(path))
    assert loaded.config.num_heads == 2
    (line,) = [line for line in loaded.assumptions if "heads" in line]
    assert line.startswith("assumed: 2 attention heads for width 128, 64 values each")
    assert "--heads N changes it" in line
    loaded = load_model(str(path), num_heads=4)
    assert loaded.config.num_heads == 4
    assert not [line for line in loaded.assumptions if "heads" in line]
    assert "128 is not a multiple of num_heads 3" in refused(path, num_heads=3)


def test_heads_that_a_variant_tells(tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    save_file(random_model(DeiTConfig(image_size=32, num_classes=5)).state_dict(), path)
    loaded = load_model(str(path), "deit_tiny", image_size=32)
    assert loaded.config.num_heads == 3
    assert not [line for line in loaded.assumptions if "heads" in line]
    message = refused(path, "deit_tiny", image_size=32, num_heads=6)
    assert "num_heads is 6, 3 is expected" in message


def test_heads_that_a_file_states_are_not_changed(tmp_path: Path) -> None:
    """Twelve heads where the usual number is two."""
    state = plain_state(WIDE)
    folder = vit_folder(
        tmp_path / "hub", state, hidden_size=128, num_attention_heads=8, intermediate_size=64,
        num_hidden_layers=1,
    )  # fmt: skip
    timm = timm_folder(tmp_path / "timm", state, model_args={"num_heads": 8})
    own = tmp_path / "own.safetensors"
    model = random_model(replace(WIDE, num_heads=8))
    save_checkpoint(own, model, default_spec(32), (), half=False)
    for weights in (folder, timm, own):
        for asked in (None, 8):
            loaded = load_model(str(weights), num_heads=asked)
            assert loaded.config.num_heads == 8
            assert not [line for line in loaded.assumptions if "heads" in line]
        assert "has 8 attention heads, 2 are asked for (--heads)" in refused(weights, num_heads=2)


# Image size


def test_another_image_size_is_asked_for_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    save_file(random_model(DeiTConfig(image_size=48, num_classes=5)).state_dict(), path)
    message = refused(path, "deit_tiny")
    assert "it takes 48 pixels a side, deit_tiny takes 224" in message
    assert "--image-size 224 to interpolate" in message
    assert load_model(str(path)).config.image_size == 48
    for size in (48, 64, 224):
        assert load_model(str(path), "deit_tiny", image_size=size).config.image_size == size


# Our own description


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"num_heads": True}, "num_heads is True; a whole number"),
        ({"depth": 2.0}, "depth is 2.0; a whole number"),
        ({"distilled": 0}, "distilled is 0; true or false"),
        ({"qkv_bias": None}, "qkv_bias is None"),
        ({"layer_norm_eps": "1e-6"}, "layer_norm_eps is '1e-6'; a number"),
        ({"num_classes": "4"}, "num_classes is '4'"),
        ({"embed_dim": 10**12}, "embed_dim is 1000000000000; at most"),
        ({"depth": 10**9}, "depth is 1000000000; at most 1000"),
    ],
)
def test_types_of_our_own(change: dict[str, Any], expected: str, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    fields = {name: getattr(SHAPE, name) for name in SHAPE.__dataclass_fields__} | change
    metadata = {
        "edge_deit_config": json.dumps(fields),
        "edge_deit_preprocess": json.dumps(default_spec(32).to_json()),
        "edge_deit_labels": "[]",
    }
    save_file(plain_state(), path, metadata=metadata)
    assert f"{path} describes itself wrongly: {expected}" in refused(path)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ('"abcd"', "a table and a list are expected"),
        ('["a", "b", "c", "a"]', "calls 2 classes 'a'"),
        ('["a", "b", "c", null]', "calls class 3 None"),
        ('{"0": "a"}', "a table and a list are expected"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_labels_of_our_own(labels: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, random_model(SHAPE), default_spec(32), (), half=False)
    metadata = {
        "edge_deit_config": json.dumps(
            {name: getattr(SHAPE, name) for name in SHAPE.__dataclass_fields__}
        ),
        "edge_deit_preprocess": json.dumps(default_spec(32).to_json()),
        "edge_deit_labels": labels,
    }
    save_file(load_file(path), path, metadata=metadata)
    assert expected in refused(path)
