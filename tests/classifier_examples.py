"""Image classifiers that are no DeiT, as transformers writes them, with an image processor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from torch import nn

from edge_deit.common.quiet import quiet

__all__ = ["KINDS", "NAMES", "edit_json", "write_classifier"]

NAMES: Final = ("fox", "dog", "cat")
_VIT: Final[dict[str, Any]] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "image_size": 64, "patch_size": 16,
}  # fmt: skip
_STAGES: Final[dict[str, Any]] = {"hidden_sizes": [8, 16], "depths": [1, 1]}

KINDS: Final[Mapping[str, tuple[str, dict[str, Any], str]]] = {
    "RegNet": ("RegNet", {"embedding_size": 8, "groups_width": 8, **_STAGES}, "ConvNext"),
    "ResNet": ("ResNet", {"embedding_size": 8, "layer_type": "basic", **_STAGES}, "ConvNext"),
    "ConvNeXT": ("ConvNext", {"num_stages": 2, **_STAGES}, "ConvNext"),
    "BEiT": ("Beit", _VIT, "Beit"),
    "Swin": (
        "Swin",
        {
            "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4, "image_size": 64,
            "patch_size": 4,
        },
        "ViT",
    ),
    "DINOv2": (
        "Dinov2",
        {
            "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 64,
            "patch_size": 16,
        },
        "Bit",
    ),
    "ViT": ("ViT", _VIT, "ViT"),
    "MobileNetV2": ("MobileNetV2", {"depth_multiplier": 0.25, "image_size": 64}, "MobileNetV2"),
}  # fmt: skip
"""Name -> stem of transformers' classes, settings of the configuration, stem of the image processor."""


def write_classifier(
    folder: Path,
    kind: str = "ResNet",
    names: Sequence[str] = NAMES,
    side: int = 64,
    *,
    max_shard_size: str = "1GB",
) -> tuple[nn.Module, Any]:
    """Write a small random classifier; returns transformers' model and processor."""
    stem, settings, processing = KINDS[kind]
    labels = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    torch.manual_seed(0)
    with quiet():
        config = getattr(transformers, f"{stem}Config")(**settings, **labels)
        model = transformers.AutoModelForImageClassification.from_config(config)
        _disturb(model)
        model.eval().save_pretrained(folder, max_shard_size=max_shard_size)
        processor = getattr(transformers, f"{processing}ImageProcessorPil")(
            **_pixels(processing, side)
        )
        processor.save_pretrained(folder)
    return model, processor


def _disturb(model: nn.Module) -> None:
    """Random norms and statistics too, so that nothing is trivially zero or one."""
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.is_floating_point():
                value.add_(
                    0.1 * torch.rand_like(value) if "var" in name else 0.1 * torch.randn_like(value)
                )


def _pixels(processing: str, side: int) -> dict[str, Any]:
    square = {"height": side, "width": side}
    sizes: dict[str, Any] = {"size": square}
    if processing == "ConvNext":
        sizes = {"size": {"shortest_edge": side}, "crop_pct": 0.875}
    if processing in ("Bit", "MobileNetV2"):
        sizes = {"size": {"shortest_edge": side}, "do_center_crop": True, "crop_size": square}
    return {**sizes, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.25]}


def edit_json(path: Path, **changes: Any) -> None:
    """Change fields of a JSON object in a file; None takes one out."""
    data = json.loads(path.read_text(encoding="utf-8"))
    data.update(changes)
    kept = {name: value for name, value in data.items() if value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")
