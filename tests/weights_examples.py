"""Weights files and folders as publishers and trainers leave them, of one small model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from conftest import random_model
from edge_deit.checkpoint.load import Checkpoint, load_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deit import DeiT

__all__ = [
    "SHAPE",
    "State",
    "hub_state",
    "plain_state",
    "refused",
    "same",
    "timm_folder",
    "vit_folder",
]

State = dict[str, Tensor]

SHAPE: Final = DeiTConfig(
    image_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=1, mlp_dim=96, num_classes=4
)


def refused(weights: object, *arguments: Any, **options: Any) -> str:
    """The one line with which `load_model` refuses."""
    with pytest.raises(EdgeDeitError) as caught:
        load_model(str(weights), *arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def plain_state(config: DeiTConfig = SHAPE, seed: int = 0) -> State:
    """Tensors under timm's names."""
    return {name: value.clone() for name, value in random_model(config, seed).state_dict().items()}


def same(loaded: Checkpoint | DeiT, state: State) -> bool:
    """Whether the model has exactly these tensors."""
    model = loaded.model if isinstance(loaded, Checkpoint) else loaded
    found = model.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)


def hub_state(state: State, prefix: str = "vit.") -> State:
    """The same under the names of Hugging Face's ViT."""
    renamed = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.position_embeddings": state["pos_embed"],
    }
    for kind in ("weight", "bias"):
        renamed[f"embeddings.patch_embeddings.projection.{kind}"] = state[
            f"patch_embed.proj.{kind}"
        ]
        renamed[f"layernorm.{kind}"] = state[f"norm.{kind}"]
    pairs = {
        "norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense",
    }  # fmt: skip
    for block in {name.split(".")[1] for name in state if name.startswith("blocks.")}:
        for kind in ("weight", "bias"):
            parts = state[f"blocks.{block}.attn.qkv.{kind}"].chunk(3)
            for name, part in zip(("query", "key", "value"), parts, strict=True):
                renamed[f"encoder.layer.{block}.attention.attention.{name}.{kind}"] = part.clone()
            for ours, theirs in pairs.items():
                renamed[f"encoder.layer.{block}.{theirs}.{kind}"] = state[
                    f"blocks.{block}.{ours}.{kind}"
                ]
    heads = {f"classifier.{kind}": state[f"head.{kind}"] for kind in ("weight", "bias")}
    return {f"{prefix}{name}": value for name, value in renamed.items()} | heads


def vit_folder(folder: Path, state: State | None = None, **changes: Any) -> Path:
    """A Hugging Face folder of the shape; `changes` go into config.json, None takes a field out."""
    folder.mkdir(parents=True, exist_ok=True)
    state = state or plain_state()
    save_file(hub_state(state), folder / "model.safetensors")
    config = {
        "model_type": "vit", "image_size": 32, "patch_size": 8, "hidden_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 1, "intermediate_size": 96, "layer_norm_eps": 1e-6,
        "id2label": {str(index): f"name {index}" for index in range(len(state["head.weight"]))},
    } | changes  # fmt: skip
    config = {name: value for name, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    processor = {"image_processor_type": "ViTImageProcessor", "size": 32}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def timm_folder(folder: Path, state: State | None = None, **changes: Any) -> Path:
    """A timm folder of the shape; `changes` go into config.json, None takes a field out."""
    folder.mkdir(parents=True, exist_ok=True)
    state = state or plain_state()
    save_file(state, folder / "model.safetensors")
    config = {
        "architecture": "deit_tiny_patch16_224",
        "num_classes": len(state["head.weight"]),
        "num_features": 64,
        "model_args": {"embed_dim": 64, "depth": 2, "num_heads": 1, "patch_size": 8, "img_size": 32},
        "pretrained_cfg": {
            "input_size": [3, 32, 32], "interpolation": "bilinear", "crop_pct": 0.8, "crop_mode": "center",
            "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "num_classes": 1000,
            "first_conv": "patch_embed.proj", "classifier": "head",
        },
    } | changes  # fmt: skip
    config = {name: value for name, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def randomise(model: Any) -> Any:
    """A model of transformers with every parameter random: norms, biases, tokens and LayerScale too."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, value in model.named_parameters():
            random = torch.randn(value.shape, generator=generator)
            wide = value.ndim == 2 or "projection.weight" in name
            one = float("norm" in name or "lambda" in name)
            value.copy_(0.04 * random if wide else 0.3 * random + one)
    return model
