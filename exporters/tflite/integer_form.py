"""The deployment form rewritten for integer arithmetic throughout; the function stays the same.

* Prefix tokens (class, distillation) and patches are two residual streams: late patches are several times
  larger than the class token, and one range for both would leave the latter few steps. The streams meet
  where the norm has given all tokens one size.
* The MLP reads the streams one after the other: behind GELU too, the class token's range is another.
* Small probabilities (`SMALL`) and what larger ones have beyond go through the values apart, so that each
  part can have steps of its own; with one step of 1/256 for both, most of the small ones round to 0.
* So do small results of GELU and what larger ones have beyond, each through `fc2`: most lie below a
  tenth of the greatest (`KNEE_STEPS`).
* In the last block only prefix tokens reach the classes: queries, `proj` and the MLP skip the patches.
* Keys and values are centred over the calibration photos. softmax does not see a constant added to all
  keys, and a constant added to all values passes through it into `proj`'s bias. Both tensors then need no
  zero point, and only then does XNNPACK take BATCH_MATMUL; LiteRT's own is far slower.
* Values are centred over the tokens too, and their mean is added behind the attention: probabilities below
  1/512 round to 0, and what they lose is then no longer a part of the mean value.
* Patches are centred before their positions are added, which then hold the mean.
* Pixels are read as the 256 grey levels that they are: integers of 8 bits hold them exactly.
* What else conditioning adds for `int8` (the coarse part of the patch embedding, token scales) is folded
  back: there it lies in float, here it would be further integer tensors, each with its noise.

Shapes: N tokens, T prefix tokens, P patches, D width, h heads, d = D / h, p patch size, K classes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_deit.model.form import DeployAttention, DeployBlock, DeployDeiT, DeployMlp
from edge_deit.model.hooks import watching
from edge_deit.quantization.narrow import token_scaled, unscale_tokens

__all__ = ["SMALL", "IntegerDeiT", "fit_to_photos", "fold_back"]

SMALL: Final = 1 / 16
"""Probabilities up to here have steps of their own, 16 times as fine as the others'."""

KNEE_STEPS: Final = 32
"""GELU's results up to as many of the 255 steps of the whole range have steps of their own."""

_LEAST_GELU: Final = -0.17
_EMBEDDING: Final = "patch_embed"


class IntegerDeiT(nn.Module):
    """(1, 3, H, W) pixels -> (1, K) logits, or (1, N, D) tokens; bytes and probabilities as the form has.

    Layers keep the deployment form's names and weights; the argument is not changed.
    """

    token_table: Tensor

    def __init__(self, form: DeployDeiT) -> None:
        super().__init__()
        plain = fold_back(form)
        self.config = plain.config
        self.read_tokens = plain.read_tokens
        self.image, self.probabilities = plain.image, plain.probabilities
        self.grey_levels = plain.grey_levels
        self.patch_embed = plain.patch_embed
        self.register_buffer("token_table", plain.token_table)
        self.blocks = plain.blocks
        self.norm = plain.norm
        if self.config.num_classes:
            self.head = plain.head
        else:
            self.scale, self.shift = plain.scale, plain.shift
        self.knees = [[math.inf, math.inf] for _ in self.blocks]
        """Of each block's GELU, for prefix tokens and for patches: where its results are split."""

    def forward(self, pixels: Tensor) -> Tensor:
        count = self.config.num_prefix_tokens
        if self.image is not None:
            pixels = self.image(pixels)
        if self.grey_levels is not None:
            pixels = self.grey_levels(pixels)
        image = self.patch_embed(pixels).flatten(2).transpose(1, 2)  # (1, P, D)
        prefix = self.token_table[:, :count]  # (1, T, D)
        patches = image + self.token_table[:, count:]  # (1, P, D)
        last = len(self.blocks) - 1 if self.config.num_classes else -1
        for index, block in enumerate(self.blocks):
            assert isinstance(block, DeployBlock)
            knees = self.knees[index]
            both = torch.cat([block.norm1(prefix), block.norm1(patches)], dim=1)  # (1, N, D)
            if index == last:
                prefix = prefix + _attend(block.attn, both[:, :count], both)
                prefix = prefix + _mlp(block.mlp, block.norm2(prefix), knees[0])
                break
            change = _attend(block.attn, both, both)
            prefix, patches = prefix + change[:, :count], patches + change[:, count:]
            prefix = prefix + _mlp(block.mlp, block.norm2(prefix), knees[0])
            patches = patches + _mlp(block.mlp, block.norm2(patches), knees[1])
        if not self.config.num_classes:
            normed = torch.cat([self.norm(prefix), self.norm(patches)], dim=1)
            return normed * self.scale + self.shift  # (1, N, D)
        read = self.norm(prefix[:, : self.read_tokens])  # (1, 1 or 2, D)
        logits: Tensor = self.head(read.flatten(1))
        return logits.softmax(dim=-1) if self.probabilities else logits  # (1, K)


def _attend(attn: DeployAttention, queries: Tensor, tokens: Tensor) -> Tensor:
    """What `queries` (1, Q, D) take from `tokens` (1, N, D), after `proj`: (1, Q, D)."""
    q, k, v = (
        layer(x).view(-1, attn.num_heads, attn.head_dim).transpose(0, 1)
        for layer, x in ((attn.q, queries), (attn.k, tokens), (attn.v, tokens))
    )  # (h, Q, d), (h, N, d), (h, N, d)
    weights = torch.bmm(q, k.transpose(1, 2)).softmax(dim=-1)  # (h, Q, N)
    small = weights.clamp(max=SMALL)
    mean = v.mean(dim=1, keepdim=True)  # (h, 1, d)
    around = v - mean
    heads = torch.bmm(small, around) + torch.bmm(weights - small, around) + mean
    heads = heads.transpose(0, 1)  # (Q, h, d)
    out: Tensor = attn.proj(heads.reshape(1, -1, attn.num_heads * attn.head_dim))
    return out


def _mlp(mlp: DeployMlp, x: Tensor, knee: float) -> Tensor:
    hidden = F.gelu(mlp.fc1(x))
    if math.isinf(knee):
        out: Tensor = mlp.fc2(hidden)
        return out
    small = hidden.clamp(max=knee)
    out = mlp.fc2(small) + F.linear(hidden - small, mlp.fc2.weight)
    return out


def fold_back(form: DeployDeiT) -> DeployDeiT:
    """The same function without coarse part and token scales; the argument is not changed."""
    plain = copy.deepcopy(form).double()
    with torch.no_grad():
        if plain.coarse_embed is not None:
            _fold_coarse(plain)
        for name in token_scaled(plain):
            unscale_tokens(plain, name)
    return plain.float().eval()


def _fold_coarse(form: DeployDeiT) -> None:
    """A mean over squares is a convolution whose weights are equal within each square."""
    assert form.coarse_embed is not None
    square = form.config.patch_size // form.coarse_embed.conv.kernel_size[0]
    weight = form.coarse_embed.conv.weight / square**2  # (D, 3, p / square, p / square)
    form.patch_embed.weight.add_(weight.repeat_interleave(square, 2).repeat_interleave(square, 3))
    form.coarse_embed = None


def fit_to_photos(model: IntegerDeiT, photos: Iterable[Tensor]) -> None:
    """Centre patches, keys and values, and place the knees of GELU, on photos (1, 3, H, W); in place.

    Means over photos and tokens leave the biases of `patch_embed`, `k` and `v`.
    """
    seen = _Seen(model.config.num_prefix_tokens)
    layers = {
        name: module
        for name, module in model.named_modules()
        if name == _EMBEDDING or name.endswith((".attn.k", ".attn.v", ".mlp.fc1"))
    }
    with watching(layers, seen.add), torch.inference_mode():
        for photo in photos:
            model(photo)
    with torch.no_grad():
        patch, bias = seen.mean(_EMBEDDING), model.patch_embed.bias
        assert bias is not None
        bias.sub_(patch)
        model.token_table[:, model.config.num_prefix_tokens :].add_(patch)
        for index, block in enumerate(model.blocks):
            assert isinstance(block, DeployBlock)
            attn = block.attn
            value = seen.mean(f"blocks.{index}.attn.v")
            attn.k.bias.sub_(seen.mean(f"blocks.{index}.attn.k"))
            attn.v.bias.sub_(value)
            attn.proj.bias.add_((attn.proj.weight.double() @ value.double()).float())
            fc1 = f"blocks.{index}.mlp.fc1"
            model.knees[index] = [
                _knee(seen.greatest.get((fc1, part), 0.0)) for part in (True, False)
            ]


def _knee(greatest: float) -> float:
    """As many steps of the range of GELU's results, whose greatest is that of what it reads."""
    return KNEE_STEPS / 255 * (max(greatest, 0.0) - _LEAST_GELU)


@dataclass
class _Seen:
    """Layers' results: sums and counts of rows, and the greatest value of prefix tokens and of others."""

    prefix: int
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    greatest: dict[tuple[str, bool], float] = field(default_factory=dict)

    def add(self, name: str, layer: nn.Module, x: Tensor, y: Tensor) -> None:
        """Take in one call: (1, N, C), or (1, C, rows, columns) of a convolution."""
        rows = y.flatten(2).mT[0] if y.ndim == 4 else y[0]
        self.sums[name] = self.sums.get(name, torch.zeros(rows.shape[1])) + rows.double().sum(0)
        self.counts[name] = self.counts.get(name, 0) + len(rows)
        key = name, len(rows) == self.prefix
        self.greatest[key] = max(self.greatest.get(key, -math.inf), float(rows.max()))

    def mean(self, name: str) -> Tensor:
        """Over the rows: (C,)."""
        return (self.sums[name] / self.counts[name]).float()
