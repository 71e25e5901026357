"""Other publishers' tensor names -> the names used here, and the shape that tensors tell.

timm and the original release need no map. Hugging Face has two layouts: that of the files on the hub
(`encoder.layer.N.attention.attention.query`), and that of the modules of transformers 5
(`layers.N.attention.q_proj`); both keep query, key and value apart.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.config import DeiTConfig

__all__ = ["config_from_tensors", "from_hugging_face", "is_hugging_face"]

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


def config_from_tensors(path: Path, state: dict[str, Tensor]) -> DeiTConfig:
    """The shape that timm's and the original's tensors tell; `num_heads`, which they do not, is 1.

    Raises:
        EdgeDeitError: not a DeiT.
    """
    needed = {"patch_embed.proj.weight": 4, "pos_embed": 3, "blocks.0.mlp.fc1.weight": 2}
    for key, rank in needed.items():
        if key not in state:
            first = ", ".join(sorted(state)[:3])
            raise EdgeDeitError(f"{path} is no DeiT: it lacks {key}; its first tensors are {first}")
        if state[key].ndim != rank or 0 in state[key].shape:
            raise EdgeDeitError(f"{path} is no DeiT: {key} has shape {tuple(state[key].shape)}")
    dim, channels, patch, _ = state["patch_embed.proj.weight"].shape
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
        num_heads=1,
        mlp_dim=state["blocks.0.mlp.fc1.weight"].shape[0],
        num_classes=0 if head is None or head.ndim != 2 else head.shape[0],
        distilled=distilled,
        distillation_head=distilled and head is not None and "head_dist.weight" in state,
        qkv_bias="blocks.0.attn.qkv.bias" in state,
    )
