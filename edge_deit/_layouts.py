"""Other publishers' tensor names and JSON files -> the names and descriptions used here.

timm and the original release need no map. Hugging Face has two layouts: that of the files on the hub
(`encoder.layer.N.attention.attention.query`), and that of the modules of transformers 5
(`layers.N.attention.q_proj`); both keep query, key and value apart.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor

from edge_deit.config import DeiTConfig
from edge_deit.errors import EdgeDeitError
from edge_deit.preprocess import PreprocessSpec

__all__ = [
    "config_from_json",
    "config_from_tensors",
    "from_hugging_face",
    "is_hugging_face",
    "labels_from_json",
    "spec_from_folder",
]

_DROPPED: Final = re.compile(r"^(pooler\.|decoder\.|embeddings\.mask_token$)")
# outside the encoder: the pooler and the masked-image decoder, which no task here uses

_TOP: Final = {
    "embeddings.cls_token": "cls_token",
    "embeddings.distillation_token": "dist_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layernorm": "norm",
    "classifier": "head",
    "cls_classifier": "head",
    "distillation_classifier": "head_dist",
}
_BLOCK: Final = {
    "attention.attention.query": "attn.q",
    "attention.attention.key": "attn.k",
    "attention.attention.value": "attn.v",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.q_proj": "attn.q",
    "attention.k_proj": "attn.k",
    "attention.v_proj": "attn.v",
    "attention.o_proj": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_LAYER: Final = re.compile(r"^(?:encoder\.layer|layers)\.(\d+)\.(.+)$")

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


# Tensor names


def is_hugging_face(keys: set[str]) -> bool:
    """Whether the names are Hugging Face's."""
    return any(key.endswith("embeddings.cls_token") for key in keys)


def from_hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename and fuse query, key and value; names that no map knows stay as they are.

    Raises:
        EdgeDeitError: two tensors of one meaning, or a query without its key or value.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        short = re.sub(r"^(deit|vit)\.", "", key)
        if _DROPPED.match(short):
            continue
        name = _rename(short) or key
        if name in renamed:
            raise EdgeDeitError(f"the checkpoint has {name} twice, the second time as {key}")
        renamed[name] = value
    return _fuse(renamed)


def _rename(key: str) -> str | None:
    if key in _TOP:
        return _TOP[key]
    stem, _, kind = key.rpartition(".")
    if stem in _TOP:
        return f"{_TOP[stem]}.{kind}"
    if (layer := _LAYER.match(stem)) and layer[2] in _BLOCK:
        return f"blocks.{layer[1]}.{_BLOCK[layer[2]]}.{kind}"
    return None


def _fuse(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Three (D, D) matrices -> one (3 D, D), three (D) biases -> one (3 D)."""
    fused = {}
    for key, value in state.items():
        match = re.match(r"^(blocks\.\d+\.attn)\.([qkv])\.(weight|bias)$", key)
        if match is None:
            fused[key] = value
            continue
        names = [f"{match[1]}.{part}.{match[3]}" for part in "qkv"]
        if lost := [name for name in names if name not in state]:
            raise EdgeDeitError(f"the checkpoint lacks {lost[0]} beside {key}")
        if len({state[name].shape for name in names}) > 1:
            shapes = ", ".join(str(tuple(state[name].shape)) for name in names)
            raise EdgeDeitError(f"{', '.join(names)} differ in shape: {shapes}")
        if match[2] == "q":
            fused[f"{match[1]}.qkv.{match[3]}"] = torch.cat([state[name] for name in names])
    return fused


# timm and the original release


def config_from_tensors(
    path: Path, state: dict[str, Tensor], expected: DeiTConfig | None
) -> DeiTConfig:
    """The shape that timm's and the original's tensors tell; heads have 64 values unless told.

    Raises:
        EdgeDeitError: not a DeiT, or one whose number of heads cannot be known.
    """
    needed = {"patch_embed.proj.weight": 4, "pos_embed": 3, "blocks.0.mlp.fc1.weight": 2}
    for key, rank in needed.items():
        if key not in state:
            first = ", ".join(sorted(state)[:3])
            raise EdgeDeitError(f"{path} is no DeiT: it lacks {key}; its first tensors are {first}")
        if state[key].ndim != rank or 0 in state[key].shape:
            raise EdgeDeitError(f"{path} is no DeiT: {key} has shape {tuple(state[key].shape)}")
    dim, channels, patch, _ = state["patch_embed.proj.weight"].shape
    told = expected is not None and expected.embed_dim == dim
    if dim % 64 and not told:
        raise EdgeDeitError(
            f"{path} has width {dim}, no multiple of 64, so its number of heads is not known; give a "
            "file that `finetune` wrote, or a folder with config.json"
        )
    distilled = "dist_token" in state
    patches = state["pos_embed"].shape[1] - (2 if distilled else 1)
    blocks = {match[1] for key in state if (match := re.match(r"blocks\.(\d+)\.", key))}
    head = state.get("head.weight")
    return DeiTConfig(
        image_size=patch * max(1, math.isqrt(max(0, patches))),
        patch_size=patch,
        in_channels=channels,
        embed_dim=dim,
        depth=len(blocks),
        num_heads=expected.num_heads if expected is not None and told else dim // 64,
        mlp_dim=state["blocks.0.mlp.fc1.weight"].shape[0],
        num_classes=0 if head is None else head.shape[0],
        distilled=distilled,
        distillation_head=distilled and head is not None and "head_dist.weight" in state,
        qkv_bias="blocks.0.attn.qkv.bias" in state,
    )


# config.json


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
