"""Hugging Face's JSON files, `config.json` and `preprocessor_config.json` -> our own descriptions."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, Final, Literal

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.config import DeiTConfig

__all__ = ["config_from_json", "labels_from_json", "spec_from_folder"]

_RESAMPLE: Final = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_COMMON: Final = {
    "do_resize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "deit": _COMMON | {"size": 256, "resample": 3, "do_center_crop": True, "crop_size": 224},
    "vit": _COMMON | {"size": 224, "resample": 2, "do_center_crop": False},
}  # what DeiTImageProcessor and ViTImageProcessor fill in where a file is silent


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


# preprocessor_config.json


def spec_from_folder(folder: Path, image_size: int) -> PreprocessSpec:
    """What `preprocessor_config.json` says, completed by the defaults of the class that it names.

    Without the file, the defaults of the model's own processor class count, scaled from 224 to
    `image_size`.

    Raises:
        EdgeDeitError: a step that is not supported.
    """
    path = folder / "preprocessor_config.json"
    kind = str(_read(folder / "config.json").get("model_type"))
    data = _DEFAULTS[kind]
    if path.is_file():
        given = _read(path)
        data = _class_defaults(given, kind) | given
    else:
        data = data | {"size": round(data["size"] * image_size / 224), "crop_size": image_size}
    try:
        return _spec(data, path, image_size)
    except KeyError as error:
        raise EdgeDeitError(f"{path} does not say {error}; add it") from error


def _class_defaults(data: dict[str, Any], kind: str) -> dict[str, Any]:
    """Defaults of the named class; a class that is not known has none, so that nothing is guessed."""
    name = data.get("image_processor_type", data.get("feature_extractor_type"))
    if name is None:
        return _DEFAULTS[kind]
    stem = re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", str(name))
    return _DEFAULTS.get(stem.lower(), {})


def _spec(data: dict[str, Any], path: Path, image_size: int) -> PreprocessSpec:
    factor = data["rescale_factor"] if data["do_rescale"] else 1.0
    if not isinstance(factor, float) or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise EdgeDeitError(f"{path}: rescale_factor is {factor!r}; only 1/255 is supported")
    if data.get("do_pad"):
        raise EdgeDeitError(f"{path}: do_pad is not supported; set it to false")
    resize: Literal["shortest", "exact", "none"] = "none"
    size, resample = image_size, "bicubic"
    if data["do_resize"]:
        if data["resample"] not in _RESAMPLE:
            raise EdgeDeitError(
                f"{path}: resample is {data['resample']!r}; one of {_RESAMPLE} is supported"
            )
        resample = _RESAMPLE[data["resample"]]
        resize, size = _resize(data["size"], path)
    crop = _square(data["crop_size"], "crop_size", path) if data["do_center_crop"] else size
    if resize == "shortest" and not data["do_center_crop"]:
        raise EdgeDeitError(f"{path}: size keeps the aspect and nothing is cropped; not a square")
    normalise = data["do_normalize"]
    return PreprocessSpec(
        resize=resize,
        resize_size=size,
        crop_size=crop,
        crop_rounding="floor",
        resample=resample,
        mean=_triple(data["image_mean"], path) if normalise else (0.0, 0.0, 0.0),
        std=_triple(data["image_std"], path) if normalise else (1.0, 1.0, 1.0),
    )


def _resize(size: Any, path: Path) -> tuple[Literal["shortest", "exact"], int]:
    if isinstance(size, dict) and set(size) == {"shortest_edge"}:
        return "shortest", _square(size["shortest_edge"], "shortest_edge", path)
    return "exact", _square(size, "size", path)


def _triple(values: Any, path: Path) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise EdgeDeitError(f"{path}: image_mean and image_std need three numbers each") from error
    return red, green, blue
