"""Token merging: a deployment form that goes on with fewer tokens, training-free, in a phone's operators.

Behind the attention of some blocks the patches are divided in turn into A and B. Each token of A has one of
B whose key is most like its own, and those of A with the most alike ones become part of these: a weighted
mean, by the number of patches that each token stands for. Later attention counts a token as often as it has
patches, by the logarithm of that number. The class token and its neighbours take no part.
Source: Bolya et al., "Token Merging: Your ViT But Faster" (arXiv 2210.09461).

Delegates have neither sort nor gather nor scatter, so there are none: the most similar token is the softmax
of steep scores, ranks are sums of steep differences cut to 0 and 1, tokens are chosen by products with
one-hot rows. All shapes are fixed, and each number fits half precision.

Shapes: N tokens, T prefix tokens, a and b tokens in A and B, m of A are merged, D width, h heads,
d = D / h.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_deit.model.config import DeiTConfig
from edge_deit.model.form import DeployBlock, DeployDeiT

__all__ = ["MergingBlock", "TokenMerging", "even_schedule", "merged_form", "most_merged"]

_PLACES: Final = (4 / 12, 6 / 12, 8 / 12)
"""Blocks that merge, as shares of the depth: few, as each costs a little, and none among the first."""

_STEEP: Final = 8192.0
"""Of scores in front of a softmax: one 0.001 below the greatest counts 3600 times less."""

_STEP: Final = 4096.0
"""Its square makes the smallest difference that float32 has between 0.5 and 1 a whole."""

_LEAST: Final = 1e-6

_PROTECTION: Final = 0.05
"""What the class token's attention to a token, as a multiple of the mean, takes from its likeness."""


class _Parts(NamedTuple):
    """A tensor's rows of the tokens: those in front (1, T, C), A (1, a, C) and B (1, b, C)."""

    front: Tensor
    a: Tensor
    b: Tensor


class TokenMerging(nn.Module):
    """Merges `merged` of `tokens` tokens into others; the first `prefix` of them take no part."""

    earlier: Tensor
    places: Tensor
    ones: Tensor
    ones_a: Tensor
    ones_b: Tensor
    ones_d: Tensor

    heads_of: Tensor
    protection: Tensor

    def __init__(self, tokens: int, prefix: int, merged: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.register_buffer("heads_of", torch.eye(heads).repeat_interleave(head_dim, 1))  # (h, D)
        self.register_buffer("protection", torch.full((1, heads), _PROTECTION * tokens / heads))
        self.prefix, self.merged, self.heads = prefix, merged, heads
        self.a = (tokens - prefix) // 2
        self.b = tokens - prefix - self.a
        row = torch.arange(self.a, dtype=torch.float32)
        earlier = (row[None] < row[:, None]).float()[None]  # (1, a, a)
        self.register_buffer("earlier", earlier * 2 - 1)
        self.register_buffer("places", row[merged:].view(1, -1, 1))  # (1, a - m, 1)
        self.register_buffer("ones", torch.ones(1, tokens, 1))
        for name, count in (("ones_a", self.a), ("ones_b", self.b), ("ones_d", head_dim)):
            self.register_buffer(name, torch.ones(1, count))

    def forward(
        self, x: Tensor, queries: Tensor, keys: Tensor, sizes: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Tokens (1, N, D) and sizes (1, N, 1), None for all 1, with fewer tokens.

        `queries` and `keys` (1, N, D) are those of the attention in front.
        """
        parts = self._parts(x)
        size = self._parts(self.ones if sizes is None else sizes)
        best, rank = self._ranked(queries, keys)  # (1, a, b), (1, a, 1)
        before_end = torch.relu(float(self.merged) - rank)  # (1, a, 1)
        share = torch.clamp(before_end, -1.0, 1.0)  # 1 where it is merged
        given = share if sizes is None else share * size.a
        moves = (best * given).transpose(1, 2)  # (1, b, a), patches that B gets from A
        chosen = torch.relu(1.0 - torch.abs(rank.view(1, 1, -1) - self.places))  # (1, a - m, a)
        size_b = size.b + F.linear(moves, self.ones_a)  # (1, b, 1)
        held = parts.b if sizes is None else parts.b * size.b
        b = (held + torch.bmm(moves, parts.a)) / size_b
        a = torch.bmm(chosen, parts.a)  # (1, a - m, D)
        size_a = size.a[:, self.merged :] if sizes is None else torch.bmm(chosen, size.a)
        return torch.cat([parts.front, a, b], dim=1), torch.cat([size.front, size_a, size_b], dim=1)

    def _parts(self, x: Tensor) -> _Parts:
        """Patches in turn, without a step: neighbours are one row of twice the width."""
        front, rest = x[:, : self.prefix], x[:, self.prefix :]
        paired = rest[:, : 2 * self.a] if self.b > self.a else rest  # no slice of all
        pairs = paired.reshape(1, self.a, -1)
        a, b = pairs[..., : x.shape[-1]], pairs[..., x.shape[-1] :]
        if self.b > self.a:
            b = torch.cat([b, rest[:, 2 * self.a :]], dim=1)
        return _Parts(front, a, b)

    def _steep_b(self, x: Tensor) -> Tensor:
        """B of x (1, N, C) with its axes exchanged, times a factor: (1, C, b).

        Of a product that exchanges them itself LiteRT makes a layer, with weights that its delegate does
        not take. The factor stands where it does so that no view has strides: ExecuTorch's takes none.
        """
        columns = x[:, self.prefix :].transpose(1, 2)  # (1, C, a + b)
        paired = columns[..., : 2 * self.a] if self.b > self.a else columns
        pairs = paired.reshape(1, -1, 2)
        b = (pairs[..., 1:] * _STEEP).reshape(1, -1, self.a)
        if self.b == self.a:
            return b
        return torch.cat([b, columns[..., 2 * self.a :] * _STEEP], dim=2)

    def _protected(self, queries: Tensor, keys: Tensor) -> Tensor:
        """How much the class token attends to each token: (1, N, 1), from 0 to 1."""
        scores = F.linear(queries[:, :1] * keys, self.heads_of)  # (1, N, h)
        attention = scores.transpose(1, 2).softmax(dim=-1).transpose(1, 2)
        return torch.clamp(F.linear(attention, self.protection), -1.0, 1.0)

    def _ranked(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The token of B most like each of A, as shares (1, a, b), and the ranks of A (1, a, 1)."""
        width = keys.shape[-1] // self.heads
        metric = keys[..., :width]
        for start in range(width, keys.shape[-1], width):
            metric = metric + keys[..., start : start + width]  # (1, N, d)
        metric = metric * torch.rsqrt(F.linear(metric * metric, self.ones_d) + _LEAST)
        scores = torch.bmm(self._parts(metric).a, self._steep_b(metric))  # (1, a, b)
        best = scores.softmax(dim=-1)
        kept = self._parts(self._protected(queries, keys)).a  # (1, a, 1)
        likeness = F.linear(best * scores, self.ones_b) - kept * _STEEP  # (1, a, 1)
        above = (likeness.view(1, 1, -1) - likeness) * (_STEP / _STEEP)  # (1, a, a)
        before = torch.clamp(torch.clamp(above, -1.0, 1.0) * (2 * _STEP) + self.earlier, -1.0, 1.0)
        return best, F.linear(before, self.ones_a) * 0.5 + 0.5 * self.a


class MergingBlock(nn.Module):
    """A block of the deployment form over tokens that stand for several patches each."""

    def __init__(self, block: DeployBlock, merging: TokenMerging | None) -> None:
        super().__init__()
        self.read_tokens = block.read_tokens
        self.norm1, self.attn = block.norm1, block.attn
        self.norm2, self.mlp = block.norm2, block.mlp
        self.merging = merging

    def forward(self, stream: Tensor | tuple[Tensor, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        """Tokens (1, N, D) or (N, D), with sizes (1, N, 1) where not all are 1; what is returned too."""
        x, sizes = (stream, None) if isinstance(stream, Tensor) else stream
        normed = self.norm1(x)
        readers = normed
        if self.read_tokens is not None:
            x, readers = (t[..., : self.read_tokens, :] for t in (x, normed))
        queries, keys = self.attn.q(readers), self.attn.k(normed)
        bias = None if sizes is None else _logarithm(sizes).view(1, 1, -1)
        x = x + self.attn(normed, readers, (queries, keys, bias))
        if self.merging is not None:
            whole = [t[None] if x.dim() == 2 else t for t in (x, queries, keys)]
            merged, sizes = self.merging(*whole, sizes)
            x = merged[0] if x.dim() == 2 else merged
        x = x + self.mlp(self.norm2(x))
        return x if sizes is None or self.read_tokens is not None else (x, sizes)


def _logarithm(sizes: Tensor) -> Tensor:
    """The logarithm of whole numbers, to 0.001 up to 20: four times that of the fourth root, as a series.

    XNNPACK has no logarithm in half precision.
    """
    root = torch.sqrt(torch.sqrt(sizes))
    z = (root - 1.0) / (root + 1.0)
    square = z * z
    return z * (((square * (8 / 7) + 8 / 5) * square + 8 / 3) * square + 8.0)


def merged_form(form: DeployDeiT, schedule: Sequence[int]) -> DeployDeiT:
    """A copy of `form` that merges `schedule[i]` tokens in block i."""
    made, config = copy.deepcopy(form), form.config
    tokens, begun = config.num_tokens, False
    for index, merged in enumerate(schedule):
        begun = begun or merged > 0
        if not begun:
            continue
        merging = None
        if merged:
            heads = config.num_heads
            merging = TokenMerging(
                tokens, config.num_prefix_tokens, merged, heads, config.embed_dim // heads
            )
        tokens -= merged
        block = made.blocks[index]
        assert isinstance(block, DeployBlock)
        made.blocks[index] = MergingBlock(block, merging)
    return made.eval()


def most_merged(config: DeiTConfig) -> int:
    """The most tokens that may be merged: fewer than half of the patches, none without two blocks."""
    return 0 if config.depth < 2 else max(0, config.num_patches // 2 - 1)


def even_schedule(config: DeiTConfig, total: int) -> tuple[int, ...]:
    """Tokens to merge in each block: `total`, divided evenly among up to three blocks.

    >>> even_schedule(DeiTConfig(), 79)
    (0, 0, 0, 0, 27, 0, 26, 0, 26, 0, 0, 0)
    """
    last = config.depth - 2  # the last block has but the tokens that are read
    blocks = sorted({min(last, int(config.depth * place)) for place in _PLACES})
    each, more = divmod(total, len(blocks))
    counts = {block: each + (rank < more) for rank, block in enumerate(blocks)}
    return tuple(counts.get(block, 0) for block in range(config.depth))
