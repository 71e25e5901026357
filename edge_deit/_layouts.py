"""Key maps: other publishers' tensor names -> the names of `edge_deit.model`.

timm and the original release need none. Hugging Face has two layouts: that of the files on the hub
(`encoder.layer.N.attention.attention.query`), and that of the modules of transformers 5
(`layers.N.attention.q_proj`); both keep query, key and value apart.
"""

from __future__ import annotations

import re
from typing import Final

import torch
from torch import Tensor

from edge_deit.errors import EdgeDeitError

__all__ = ["DROPPED", "from_hugging_face", "is_hugging_face"]

DROPPED: Final = re.compile(r"^(pooler\.|decoder\.|embeddings\.mask_token$)")
"""Tensors outside the encoder: the pooler and the masked-image head, which DeiT here does not have."""

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


def is_hugging_face(keys: set[str]) -> bool:
    """Whether the names are Hugging Face's."""
    return any("embeddings.cls_token" in key for key in keys)


def from_hugging_face(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename and fuse query, key and value; names that no map knows stay as they are."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        short = re.sub(r"^(deit|vit)\.", "", key)
        if not DROPPED.match(short):
            renamed[_rename(short) or key] = value
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
    fused = {}
    for key, value in state.items():
        match = re.match(r"^(blocks\.\d+\.attn)\.([qkv])\.(weight|bias)$", key)
        if match is None:
            fused[key] = value
        elif match[2] == "q":
            names = [f"{match[1]}.{part}.{match[3]}" for part in "qkv"]
            if lost := [name for name in names if name not in state]:
                raise EdgeDeitError(f"the checkpoint lacks {lost[0]} beside {key}")
            fused[f"{match[1]}.qkv.{match[3]}"] = torch.cat([state[name] for name in names])
    return fused
