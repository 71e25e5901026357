"""Hugging Face's `config.json` -> our own description."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from edge_deit.checkpoint.families import complete_fields
from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.config import DeiTConfig

__all__ = ["config_from_json", "decoder_stride", "head_problem"]

_SIZES: Final = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "num_channels": 3,
}  # with the defaults of DeiTConfig and ViTConfig in transformers
_MOST: Final = 1 << 20
_REFUSED: Final = {
    "quantization_config": "its weights are quantized; give those that they were made from",
    "auto_map": "its model is code of its own, which is never run",
    "pruned_heads": "heads were pruned, which is not supported",
}
_OTHER_HEADS: Final = {
    "multi_label_classification": "its classes do not exclude one another, so a softmax over them means "
    "nothing",
    "regression": "its outputs are values, not classes",
}
_CLASSIFIER: Final = re.compile(r"(^|\.)(cls_)?classifier\.weight$")


def config_from_json(
    path: Path, data: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]
) -> DeiTConfig:
    """The model's shape; which heads there are, and for how many classes, is read from the tensors.

    `data` is the content of `path`, `shapes` has the tensors' original names.

    Raises:
        EdgeDeitError: another kind of model, a form of it that is not supported, or a value of the wrong
            type.
    """
    family, data = complete_fields(path, data, shapes)
    kind = data["model_type"]
    if data.get("hidden_act", "gelu") != "gelu":
        raise EdgeDeitError(
            f"{path}: hidden_act is {data['hidden_act']!r:.40}; only gelu is supported"
        )
    for field, reason in _REFUSED.items():
        if data.get(field):
            raise EdgeDeitError(f"{path}: {field} is set: {reason}")
    sizes = {name: _whole(data, name, default, path) for name, default in _SIZES.items()}
    teacher = any(name.endswith("cls_classifier.weight") for name in shapes)
    heads = [
        shape for name, shape in shapes.items() if _CLASSIFIER.search(name) and len(shape) == 2
    ]
    fields: dict[str, Any] = {
        "image_size": _square(data, "image_size", 224, path),
        "patch_size": _square(data, "patch_size", 16, path),
        "in_channels": sizes["num_channels"],
        "embed_dim": sizes["hidden_size"],
        "depth": sizes["num_hidden_layers"],
        "num_heads": sizes["num_attention_heads"],
        "mlp_dim": sizes["intermediate_size"],
        "num_classes": heads[0][0] if heads else 0,
        "distilled": kind == "deit",
        "distillation_head": teacher and kind == "deit",
        "qkv_bias": _switch(data, "qkv_bias", path),
        "layer_norm_eps": _positive(data, "layer_norm_eps", 1e-12, path),
        "layer_scale": family == "dinov2",
        "register_tokens": data["num_register_tokens"],
        "family": family,
    }
    try:
        return DeiTConfig(**fields)
    except EdgeDeitError as error:
        raise EdgeDeitError(f"{path}: {error}") from error


def head_problem(data: Mapping[str, Any]) -> str | None:
    """Why the classifier of this configuration cannot be taken for one; None where it can."""
    kind = data.get("problem_type")
    if kind in (None, "single_label_classification"):
        return None
    reason = _OTHER_HEADS.get(str(kind), "that is no kind of classifier known here")
    return f"problem_type is {kind!r:.40}: {reason}"


def decoder_stride(path: Path, data: Mapping[str, Any]) -> int:
    """Side in pixels of what a masked-image decoder makes of a patch; 16 unless the configuration says it.

    Raises:
        EdgeDeitError: it is no whole number.
    """
    return _whole(data, "encoder_stride", 16, path)


def _square(data: Mapping[str, Any], name: str, default: int, path: Path) -> int:
    """224, [224, 224] or {"height": 224, "width": 224} -> 224."""
    value = data.get(name, default)
    sides: Any = value if isinstance(value, list) else [value, value]
    if isinstance(value, dict):
        sides = [value["height"], value["width"]] if set(value) == {"height", "width"} else []
    if len(sides) != 2 or sides[0] != sides[1] or type(sides[0]) is not int or sides[0] < 1:
        raise EdgeDeitError(f"{path}: {name} is {value!r:.60}; only squares are supported")
    return int(sides[0])


def _whole(data: Mapping[str, Any], name: str, default: int, path: Path) -> int:
    value = data.get(name, default)
    if type(value) is not int or not 1 <= value <= _MOST:
        raise EdgeDeitError(
            f"{path} is not readable: {name} is {value!r:.40}; a whole number from 1 to {_MOST} is expected"
        )
    return value


def _switch(data: Mapping[str, Any], name: str, path: Path) -> bool:
    value = data.get(name, True)
    if type(value) is not bool:
        raise EdgeDeitError(
            f"{path} is not readable: {name} is {value!r:.40}; true or false is expected"
        )
    return value


def _positive(data: Mapping[str, Any], name: str, default: float, path: Path) -> float:
    value = data.get(name, default)
    if type(value) not in (int, float) or value <= 0:
        raise EdgeDeitError(
            f"{path} is not readable: {name} is {value!r:.40}; a positive number is expected"
        )
    return float(value)
