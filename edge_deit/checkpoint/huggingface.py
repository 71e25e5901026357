"""Hugging Face's `config.json` -> our own description."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.config import DeiTConfig

__all__ = ["config_from_json", "labels_from_json"]


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EdgeDeitError(f"{path} is not readable: {error}") from error
    if not isinstance(data, dict):
        raise EdgeDeitError(f"{path} holds no JSON object")
    return data


def _square(value: Any, name: str, path: Path) -> int:
    """224, [224, 224] or {"height": 224, "width": 224} -> 224."""
    sides: Any = value
    if isinstance(value, dict):
        sides = [value["height"], value["width"]] if set(value) == {"height", "width"} else []
    elif not isinstance(value, list):
        sides = [value, value]
    if len(sides) != 2 or sides[0] != sides[1] or type(sides[0]) is not int or sides[0] < 1:
        raise EdgeDeitError(f"{path}: {name} is {value!r}; only squares are supported")
    return int(sides[0])


# config.json


def config_from_json(path: Path, keys: set[str]) -> DeiTConfig:
    """The model's shape; which heads there are is read from the tensors' original names.

    Raises:
        EdgeDeitError: another kind of model, or a form of it that is not supported.
    """
    data = _read(path)
    kind = data.get("model_type")
    if kind not in ("deit", "vit"):
        hint = (
            "; for a timm repository, give its model.safetensors" if "architecture" in data else ""
        )
        raise EdgeDeitError(f"{path}: model_type is {kind!r}; deit and vit are supported{hint}")
    if data.get("hidden_act", "gelu") != "gelu":
        raise EdgeDeitError(f"{path}: hidden_act is {data['hidden_act']!r}; only gelu is supported")
    teacher = "cls_classifier.weight" in keys
    try:
        classes = 0
        if teacher or "classifier.weight" in keys:
            classes = len(data.get("id2label") or ()) or int(data.get("num_labels", 2))
        return DeiTConfig(
            image_size=_square(data.get("image_size", 224), "image_size", path),
            patch_size=_square(data.get("patch_size", 16), "patch_size", path),
            in_channels=data.get("num_channels", 3),
            embed_dim=int(data.get("hidden_size", 768)),
            depth=int(data.get("num_hidden_layers", 12)),
            num_heads=int(data.get("num_attention_heads", 12)),
            mlp_dim=int(data.get("intermediate_size", 3072)),
            num_classes=classes,
            distilled=kind == "deit",
            distillation_head=teacher and kind == "deit",
            qkv_bias=bool(data.get("qkv_bias", True)),
            layer_norm_eps=float(data.get("layer_norm_eps", 1e-12)),
        )
    except (TypeError, ValueError) as error:
        raise EdgeDeitError(f"{path} is not readable: {error}") from error


def labels_from_json(path: Path, classes: int) -> tuple[str, ...]:
    """Class names of `id2label`, in order; empty when there are none."""
    labels = _read(path).get("id2label") or {}
    try:
        return tuple(str(labels[str(index)]) for index in range(classes)) if labels else ()
    except (KeyError, TypeError) as error:
        raise EdgeDeitError(f"{path}: id2label lacks class {error}") from error
