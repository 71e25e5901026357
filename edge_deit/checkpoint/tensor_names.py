"""Other publishers' tensor names -> the names used here, and the shape that tensors tell.

timm and the original releases need little of a map. Hugging Face has two layouts: that of the files on the
hub (`encoder.layer.N.attention.attention.query`), and that of the modules of transformers 5
(`layers.N.attention.q_proj`); both keep query, key and value apart.

Publishers leave tokens without a position out of the position table; here they have a row of zeros.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from edge_deit.checkpoint.families import family_of_tensors, refuse_tensors
from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.config import DeiTConfig

__all__ = [
    "config_from_tensors",
    "decoder_tensors",
    "from_hugging_face",
    "from_timm",
    "is_hugging_face",
    "to_hugging_face",
]

_DROPPED: Final = re.compile(r"^(pooler\.|decoder\.|embeddings\.mask_token$)")
# outside the encoder: the pooler, and what masked images need (`decoder_tensors`)

_DECODER: Final = {
    "embeddings.mask_token": "mask_token",
    "decoder.0.weight": "decoder.weight",
    "decoder.0.bias": "decoder.bias",
}

_TOP: Final = {
    "embeddings.cls_token": "cls_token",
    "embeddings.distillation_token": "dist_token",
    "embeddings.register_tokens": "reg_token",
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
    "norm1": "norm1",
    "norm2": "norm2",
}
_BARE: Final = {"layer_scale1.lambda1": "ls1.gamma", "layer_scale2.lambda1": "ls2.gamma"}
_TIMM: Final = (  # of the original DeiT-III and DINOv2
    (re.compile(r"^(blocks\.\d+)\.gamma_([12])$"), r"\1.ls\2.gamma"),
    (re.compile(r"^register_tokens$"), "reg_token"),
)
_PREFIX: Final = ("cls_token", "dist_token", "reg_token")
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
        short = re.sub(r"^(deit|vit|dinov2|dinov2_with_registers)\.", "", key)
        if _DROPPED.match(short):
            continue
        name = _rename(short) or key
        if name in renamed:
            raise EdgeDeitError(f"the checkpoint has {name} twice, the second time as {key}")
        renamed[name] = value
    return _all_positions(_fuse(renamed), without=("reg_token",))


def decoder_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The masked-image decoder and its mask token under our own names; none where there is no decoder."""
    found = {}
    for key, value in state.items():
        short = re.sub(r"^(deit|vit)\.", "", key)
        if short in _DECODER:
            found[_DECODER[short]] = value
    return found if any(name.startswith("decoder.") for name in found) else {}


def _rename(key: str) -> str | None:
    if key in _TOP:
        return _TOP[key]
    stem, _, kind = key.rpartition(".")
    if stem in _TOP:
        return f"{_TOP[stem]}.{kind}"
    if (layer := _LAYER.match(stem)) and layer[2] in _BLOCK:
        return f"blocks.{layer[1]}.{_BLOCK[layer[2]]}.{kind}"
    if (layer := _LAYER.match(key)) and layer[2] in _BARE:
        return f"blocks.{layer[1]}.{_BARE[layer[2]]}"
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


def to_hugging_face(state: Mapping[str, Tensor], model: str, head: str) -> dict[str, Tensor]:
    """The reverse of `from_hugging_face`, with the names of the files on the hub.

    `model` is what the names begin with (`vit`, `deit`), `head` what the classifier is called.
    """
    tops = {ours: theirs for theirs, ours in reversed(_TOP.items())} | {"head": head}
    blocks = {ours: theirs for theirs, ours in reversed(_BLOCK.items())}
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        stem, _, kind = key.rpartition(".")
        if stem in ("head", "head_dist"):
            found[f"{tops[stem]}.{kind}"] = value
        elif key in tops:
            found[f"{model}.{tops[key]}"] = value
        elif stem in tops:
            found[f"{model}.{tops[stem]}.{kind}"] = value
        else:
            _, index, layer = stem.split(".", 2)
            parts = {layer: value}
            if layer == "attn.qkv":
                parts = dict(zip(("attn.q", "attn.k", "attn.v"), value.chunk(3), strict=True))
            for name, part in parts.items():
                found[f"{model}.encoder.layer.{index}.{blocks[name]}.{kind}"] = part
    return found


# Positions


def _all_positions(state: dict[str, Tensor], without: tuple[str, ...]) -> dict[str, Tensor]:
    """Give the prefix tokens `without` a position rows of zeros, behind those that have one."""
    counts, table = _prefix_counts(state), state.get("pos_embed")
    rows = sum(count for name, count in counts.items() if name in without)
    if not rows or table is None or table.ndim != 3:
        return state
    have = sum(counts.values()) - rows
    zeros = table.new_zeros(1, rows, table.shape[2])
    return {**state, "pos_embed": torch.cat([table[:, :have], zeros, table[:, have:]], dim=1)}


def _prefix_counts(state: dict[str, Tensor]) -> dict[str, int]:
    """Tokens in front of the patches, by tensor; what has another rank is refused later."""
    found = {name: state[name] for name in _PREFIX if name in state}
    return {name: value.shape[1] for name, value in found.items() if value.ndim == 3}


# timm and the original releases


def from_timm(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename what DeiT-III and DINOv2 call otherwise, and complete the positions.

    The token that only pretraining reads (`mask_token`) is left out. Which prefix tokens have a position
    follows from the table's rows, as patches fill a square: all of them, none (timm, DeiT-III), or all but
    the registers (DINOv2).

    Raises:
        EdgeDeitError: a table that fits more than one of these.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key
        for pattern, ours in _TIMM:
            name = pattern.sub(ours, name)
        if key != "mask_token":
            renamed[name] = value
    table, counts = renamed.get("pos_embed"), _prefix_counts(renamed)
    if table is None or table.ndim != 3:
        return renamed
    fits: dict[int, tuple[str, ...]] = {}
    for without in ((), ("reg_token",), _PREFIX):
        rows = sum(count for name, count in counts.items() if name not in without)
        patches = table.shape[1] - rows
        if patches > 0 and math.isqrt(patches) ** 2 == patches:
            fits.setdefault(rows, without)
    if len(fits) > 1:
        either = " or ".join(map(str, sorted(fits)))
        raise EdgeDeitError(
            f"{path}: {either} of the {table.shape[1]} rows of pos_embed may belong to class and register "
            "tokens; give a folder with config.json"
        )
    return _all_positions(renamed, next(iter(fits.values()), ()))


def config_from_tensors(path: Path, state: dict[str, Tensor]) -> DeiTConfig:
    """The shape that tensors under our own names tell; `num_heads`, which they do not, is 1.

    Raises:
        EdgeDeitError: not a DeiT.
    """
    refuse_tensors(path, state)
    needed = {"patch_embed.proj.weight": 4, "pos_embed": 3, "blocks.0.mlp.fc1.weight": 2}
    for key, rank in needed.items():
        if key not in state:
            first = ", ".join(sorted(state)[:3])
            raise EdgeDeitError(f"{path} is no DeiT: it lacks {key}; its first tensors are {first}")
        if state[key].ndim != rank or 0 in state[key].shape:
            raise EdgeDeitError(f"{path} is no DeiT: {key} has shape {tuple(state[key].shape)}")
    dim, channels, patch, _ = state["patch_embed.proj.weight"].shape
    distilled = "dist_token" in state
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    patches = state["pos_embed"].shape[1] - (2 if distilled else 1) - registers
    blocks = {match[1] for key in state if (match := re.match(r"blocks\.(\d+)\.", key))}
    head = state.get("head.weight")
    return DeiTConfig(
        image_size=patch * max(1, math.isqrt(max(0, patches))),
        patch_size=patch,
        in_channels=channels,
        embed_dim=dim,
        depth=len(blocks),
        num_heads=1,
        mlp_dim=_mlp_dim(path, state),
        num_classes=0 if head is None or head.ndim != 2 else head.shape[0],
        distilled=distilled,
        distillation_head=distilled and head is not None and "head_dist.weight" in state,
        qkv_bias="blocks.0.attn.qkv.bias" in state,
        layer_scale="blocks.0.ls1.gamma" in state,
        register_tokens=registers,
        family=family_of_tensors(state),
    )


def _mlp_dim(path: Path, state: dict[str, Tensor]) -> int:
    """Hidden width; twice as many rows in fc1 as columns in fc2 are timm's packed SwiGLU."""
    inner, outer = (state.get(f"blocks.0.mlp.{name}.weight") for name in ("fc1", "fc2"))
    assert inner is not None
    if outer is not None and outer.ndim == 2 and inner.shape[0] == 2 * outer.shape[1]:
        raise EdgeDeitError(
            f"{path} is no DeiT or a relative that is taken: blocks.0.mlp.fc1.weight has "
            f"{inner.shape[0]} rows for {outer.shape[1]} columns of fc2, which is SwiGLU"
        )
    return inner.shape[0]
