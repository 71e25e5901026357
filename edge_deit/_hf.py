"""Hugging Face's JSON files: config.json and preprocessor_config.json -> our own descriptions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from edge_deit.config import DeiTConfig
from edge_deit.errors import EdgeDeitError
from edge_deit.preprocess import PreprocessSpec

__all__ = ["config_from_json", "labels_from_json", "spec_from_folder"]

_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_HALF = [0.5, 0.5, 0.5]
_CLASS_DEFAULTS: dict[str, dict[str, Any]] = {
    "deit": {"size": {"height": 256, "width": 256}, "resample": 3, "do_center_crop": True},
    "vit": {"size": {"height": 224, "width": 224}, "resample": 2, "do_center_crop": False},
}
"""DeiTImageProcessor's and ViTImageProcessor's own defaults, for what a file leaves out."""


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EdgeDeitError(f"{path} is not readable: {error}") from error
    if not isinstance(data, dict):
        raise EdgeDeitError(f"{path} holds no JSON object")
    return data


def _square(value: Any, name: str, path: Path) -> int:
    """224, [224, 224] or {"height": 224, "width": 224} -> 224."""
    if isinstance(value, dict):
        value = [value.get("height"), value.get("width")]
    sides = list(value) if isinstance(value, list) else [value, value]
    if len(sides) != 2 or sides[0] != sides[1] or not isinstance(sides[0], int):
        raise EdgeDeitError(f"{path}: {name} is {value}; only squares are supported")
    return sides[0]


def config_from_json(path: Path, keys: set[str]) -> DeiTConfig:
    """The model's shape; which heads there are is read from the tensors' names.

    Raises:
        EdgeDeitError: another kind of model, or a form of it that is not supported.
    """
    data = _read(path)
    kind = data.get("model_type")
    if kind not in ("deit", "vit"):
        raise EdgeDeitError(f"{path}: model_type is {kind!r}; deit and vit are supported")
    if data.get("hidden_act", "gelu") != "gelu":
        raise EdgeDeitError(f"{path}: hidden_act is {data['hidden_act']!r}; only gelu is supported")
    teacher = "cls_classifier.weight" in keys
    classes = 0
    if teacher or "classifier.weight" in keys:
        labels = data.get("id2label")
        classes = len(labels) if labels else int(data.get("num_labels", 2))
    try:
        return DeiTConfig(
            image_size=_square(data.get("image_size", 224), "image_size", path),
            patch_size=_square(data.get("patch_size", 16), "patch_size", path),
            in_channels=data.get("num_channels", 3),
            embed_dim=data.get("hidden_size", 768),
            depth=data.get("num_hidden_layers", 12),
            num_heads=data.get("num_attention_heads", 12),
            mlp_dim=data.get("intermediate_size", 3072),
            num_classes=classes,
            distilled=kind == "deit",
            distillation_head=teacher,
            qkv_bias=data.get("qkv_bias", True),
            layer_norm_eps=data.get("layer_norm_eps", 1e-12),
        )
    except TypeError as error:
        raise EdgeDeitError(f"{path} is not readable: {error}") from error


def labels_from_json(path: Path, classes: int) -> tuple[str, ...]:
    """Class names of `id2label`, in order; empty when there are none."""
    labels = _read(path).get("id2label") or {}
    try:
        return tuple(str(labels[str(index)]) for index in range(classes)) if labels else ()
    except KeyError as error:
        raise EdgeDeitError(f"{path}: id2label lacks class {error}") from error


def spec_from_folder(folder: Path, image_size: int) -> PreprocessSpec:
    """What `preprocessor_config.json` says, completed by the processor class's own defaults.

    Raises:
        EdgeDeitError: a step that is not supported.
    """
    kind = str(_read(folder / "config.json").get("model_type"))
    path = folder / "preprocessor_config.json"
    data = _CLASS_DEFAULTS[kind] | (_read(path) if path.is_file() else {})
    if not data.get("do_rescale", True) or not math.isclose(
        data.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-4
    ):
        raise EdgeDeitError(f"{path}: only a rescale_factor of 1/255 is supported")
    resample = data.get("resample", 3)
    if resample not in _RESAMPLE:
        raise EdgeDeitError(f"{path}: resample {resample!r} is none of {sorted(_RESAMPLE)}")
    resize, size = _resize(data, path, image_size)
    crop = size
    if data.get("do_center_crop", False):
        crop = _square(data.get("crop_size", {"height": 224, "width": 224}), "crop_size", path)
    if not path.is_file():  # the class defaults are for 224; a model of another size scales them
        size, crop = round(size * image_size / 224), image_size
    normalise = data.get("do_normalize", True)
    return PreprocessSpec(
        resize=resize,
        resize_size=size,
        crop_size=crop,
        crop_rounding="floor",
        resample=_RESAMPLE[resample],
        mean=_triple(data.get("image_mean", _HALF), path) if normalise else (0.0, 0.0, 0.0),
        std=_triple(data.get("image_std", _HALF), path) if normalise else (1.0, 1.0, 1.0),
    )


def _triple(values: Any, path: Path) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise EdgeDeitError(f"{path}: image_mean and image_std need three numbers each") from error
    return red, green, blue


def _resize(data: dict[str, Any], path: Path, image_size: int) -> tuple[Any, int]:
    if not data.get("do_resize", True):
        return "none", image_size
    size = data["size"]
    if isinstance(size, dict) and "shortest_edge" in size:
        return "shortest", int(size["shortest_edge"])
    return "exact", _square(size, "size", path)
