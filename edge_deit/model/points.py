"""Points that exist in every form of a DeiT, in the order of the graph.

* `embedding`: the residual stream in front of the first block, (N, D);
* `blocks.I.attention`: the attention's probabilities, (h, N, N);
* `blocks.I.attn`: the residual stream after the attention, (N, D);
* `blocks.I.mlp`: the residual stream after the block, (N, D);
* `logits` (K,), or `features` (N, D) of a model without classes: the output.

The last block of a model with classes computes only the R tokens that the heads read; there N rows become
R.

Shapes: N tokens, R tokens that are read, D width, h heads, d = D / h, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edge_deit.model.config import DeiTConfig
from edge_deit.model.deit import DeiT
from edge_deit.model.hooks import watching

__all__ = ["LayerReader", "Points", "float_points", "point_names", "shaped"]


Points = dict[str, np.ndarray]
"""Point -> its values for one photo, shaped as the module's text says."""


@dataclass(frozen=True)
class LayerReader:
    """An artefact that shows what is inside it.

    `read` takes pixels (1, 3, H, W), float32, normalised, and returns the values at all points; `method` is
    one line that says how they were had. `up_to_a_constant`: the logits are logarithms of probabilities.
    """

    method: str
    read: Callable[[np.ndarray], Points]
    up_to_a_constant: bool = False


def point_names(config: DeiTConfig) -> tuple[str, ...]:
    """All points of a model, in the order of the graph.

    >>> point_names(DeiTConfig(depth=1))
    ('embedding', 'blocks.0.attention', 'blocks.0.attn', 'blocks.0.mlp', 'logits')
    """
    kinds = ("attention", "attn", "mlp")
    blocks = (f"blocks.{index}.{kind}" for index in range(config.depth) for kind in kinds)
    return "embedding", *blocks, "logits" if config.num_classes else "features"


def shaped(tensors: Mapping[str, np.ndarray], config: DeiTConfig) -> Points:
    """Points in this module's order and shapes.

    Tensors may have leading dimensions of 1, and all tokens where only those that are read are compared. Of
    several photos the first counts.
    """
    points, last = {}, f"blocks.{config.depth - 1}."
    for name in point_names(config):
        values = tensors[name]
        if name == "logits":
            points[name] = values.reshape(-1)[: config.num_classes]
            continue
        if name.endswith(".attention"):
            values = values.reshape(-1, *values.shape[-2:])[: config.num_heads]
        else:
            values = values.reshape(-1, config.embed_dim)[: config.num_tokens]
        if config.num_classes and (
            name.startswith(last) or (name, config.depth) == ("embedding", 1)
        ):
            values = values[..., : _read_tokens(config), :]
        points[name] = values
    return points


def _read_tokens(config: DeiTConfig) -> int:
    return 2 if config.distillation_head else 1  # R


def float_points(model: DeiT, pixels: Tensor) -> Points:
    """The float model's values at all points for one photo (1, 3, H, W); the stream has mean zero."""
    heads, values = model.config.num_heads, dict[str, np.ndarray]()

    def keep(name: str, layer: nn.Module, x: Tensor, y: Tensor) -> None:
        if name.endswith(".attention"):
            value = _probabilities(y[0], heads)
        else:
            value = _centred(y[0] if name.endswith(".mlp") else x[0])
        values[name] = value.double().numpy()

    with watching(_modules(model), keep), torch.inference_mode():
        values[point_names(model.config)[-1]] = model(pixels).double().numpy()
    return shaped(values, model.config)


def _modules(model: DeiT) -> dict[str, nn.Module]:
    """Point -> the module at it: `mlp` is what a block returns, other streams are what a norm reads."""
    found = {"embedding": model.get_submodule("blocks.0.norm1")}
    for block in (f"blocks.{index}" for index in range(model.config.depth)):
        found[f"{block}.attention"] = model.get_submodule(f"{block}.attn.qkv")
        found[f"{block}.attn"] = model.get_submodule(f"{block}.norm2")
        found[f"{block}.mlp"] = model.get_submodule(block)
    return found


def _centred(stream: Tensor) -> Tensor:
    return stream - stream.mean(dim=-1, keepdim=True)  # (N, D)


def _probabilities(qkv: Tensor, heads: int) -> Tensor:
    """softmax(q k^T / sqrt(d)): (N, 3 D) -> (h, N, N)."""
    q, k, _ = qkv.view(len(qkv), 3, heads, -1).permute(1, 2, 0, 3)  # (h, N, d) each
    scores: Tensor = q @ k.mT / math.sqrt(q.shape[-1])  # (h, N, N)
    return scores.softmax(dim=-1)
