"""Exact changes of the deployment form that narrow what integer tensors have to hold.

* Grey levels: normalised pixels go back to the 256 grey levels from 0 to 1 that photos are made of, so that
  256 integers hold them without any error.
* Coarse part: most of a photo's contrast is in its coarse structure. The patch embedding is split in two:
  what it makes of means over small squares stays float (a few per mille of the work), and the integer
  convolution, whose weights then sum to zero over every square, is left with the fine structure, which has
  a fraction of the range.
* Token scale: `proj` and `fc2` read tokens of very different size, and some tokens are far larger than all
  others. Each token is divided by its root mean square before the layer and multiplied after it. This
  costs a few passes over the tokens, so conditioning does it only where it pays, and it is undone for a
  layer in float, or one whose runtime finds a range for each token anyway.

Shapes: D width, p patch size, C colour channels.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.file_form import read_grey_levels
from edge_deit.model.form import (
    CoarseEmbed,
    DeployAttention,
    DeployBlock,
    DeployDeiT,
    DeployMlp,
    TokenScale,
)
from edge_deit.model.merging import MergingBlock
from edge_deit.quantization.scheme import Range

__all__ = [
    "GREY_LEVELS",
    "scale_tokens",
    "split_coarse",
    "token_scalable",
    "token_scaled",
    "unscale_tokens",
    "use_grey_levels",
]

GREY_LEVELS: Final[Range] = (0.0, 1.0)
_SQUARE: Final = 4  # pixels, at least
_SCALABLE: Final = ("attn.proj", "mlp.fc2")


def use_grey_levels(form: DeployDeiT, spec: PreprocessSpec) -> None:
    """Let the patch embedding read grey levels u = x * std + mean, in place."""
    read_grey_levels(form, spec.mean, spec.std)


def split_coarse(form: DeployDeiT) -> None:
    """Take the means over squares of 4 x 4 pixels out of the patch embedding, in place.

    Where 4 does not divide the patch, squares are the next larger ones that do: 7 x 7 for 14 pixels.
    """
    size = form.config.patch_size
    square = next((side for side in range(_SQUARE, size) if size % side == 0), size)
    layer = form.patch_embed
    weight = layer.weight.double()  # (D, C, p, p)
    coarse = nn.functional.avg_pool2d(weight, square)  # (D, C, p / square, p / square)
    spread = coarse.repeat_interleave(square, 2).repeat_interleave(square, 3)
    embed = CoarseEmbed(form.config, square)
    with torch.no_grad():
        layer.weight.copy_(weight - spread)
        embed.conv.weight.copy_(coarse * square**2)
    form.coarse_embed = embed


def token_scalable(form: DeployDeiT) -> list[str]:
    """Names of the layers that can get a token scale."""
    return [f"blocks.{i}.{layer}" for i in range(len(form.blocks)) for layer in _SCALABLE]


def token_scaled(form: DeployDeiT) -> list[str]:
    """Names of the layers that have a token scale."""
    return [name for name in token_scalable(form) if _place(form, name)[0].token_scale is not None]


def scale_tokens(form: DeployDeiT, name: str) -> None:
    """Give the named layer tokens of one magnitude, in place.

    Raises:
        KeyError: not one of `token_scalable`.
    """
    part, layer = _place(form, name)
    part.token_scale = TokenScale(layer.in_features, layer.bias.detach().clone())
    with torch.no_grad():
        layer.bias.zero_()


def unscale_tokens(form: DeployDeiT, name: str) -> None:
    """Take the token scale of the named layer back, in place, if it has one: W (x / r) r + b = W x + b.

    Raises:
        KeyError: not one of `token_scalable`.
    """
    part, layer = _place(form, name)
    if part.token_scale is not None:
        with torch.no_grad():
            layer.bias.copy_(part.token_scale.bias)
        part.token_scale = None


def _place(form: DeployDeiT, name: str) -> tuple[DeployAttention | DeployMlp, nn.Linear]:
    """The part of a block that holds the token scale of the named layer, and the layer."""
    if name not in token_scalable(form):
        raise KeyError(f"{name} is none of the layers that can have a token scale")
    block = form.get_submodule(name.rsplit(".", 2)[0])
    assert isinstance(block, DeployBlock | MergingBlock)
    places: dict[str, tuple[DeployAttention | DeployMlp, nn.Linear]] = {
        "proj": (block.attn, block.attn.proj),
        "fc2": (block.mlp, block.mlp.fc2),
    }
    return places[name.rsplit(".", 1)[1]]
