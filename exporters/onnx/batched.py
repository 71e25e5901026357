"""The deployment form for B photos at once, a free number or a fixed one, tokens as one matrix (B N, D).

Every Linear stays one product of matrices with bias (Gemm), as in the form for one photo; only the
attention tells the photos apart. Submodules keep their names.

Shapes: B photos, N tokens, R tokens that are read, T prefix tokens, P patches, D width, h heads, d = D / h,
K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_deit.model.form import DeployAttention, DeployBlock, DeployDeiT, scaled

__all__ = ["BatchedDeiT"]


class _Attention(nn.Module):
    """`DeployAttention` for B photos."""

    def __init__(self, form: DeployAttention) -> None:
        super().__init__()
        self.num_heads, self.head_dim = form.num_heads, form.head_dim
        self.q, self.k, self.v, self.proj = form.q, form.k, form.v, form.proj
        self.token_scale = form.token_scale

    def _split(self, x: Tensor, tokens: int) -> Tensor:
        return x.view(-1, tokens, self.num_heads, self.head_dim).transpose(1, 2)  # (B, h, N, d)

    def forward(self, x: Tensor, readers: Tensor, tokens: int, read: int) -> Tensor:
        """What the tokens `readers` (B R, D) take from the tokens x (B N, D): (B R, D)."""
        q = self._split(self.q(readers), read)
        k, v = self._split(self.k(x), tokens), self._split(self.v(x), tokens)
        weights = (q @ k.mT).softmax(dim=-1)  # (B, h, R, N)
        mixed = (weights @ v).transpose(1, 2).reshape(readers.shape)  # (B R, D)
        return scaled(self.proj, mixed, self.token_scale)


class _Block(nn.Module):
    """`DeployBlock` for B photos."""

    def __init__(self, form: DeployBlock) -> None:
        super().__init__()
        self.read_tokens = form.read_tokens
        self.norm1, self.norm2 = form.norm1, form.norm2
        self.attn, self.mlp = _Attention(form.attn), form.mlp

    def forward(self, x: Tensor, tokens: int) -> Tensor:
        normed = self.norm1(x)  # (B N, D)
        readers, read = normed, tokens
        if self.read_tokens is not None:
            read = self.read_tokens
            x, readers = (_first(t, tokens, read) for t in (x, normed))
        x = x + self.attn(normed, readers, tokens, read)  # (B R, D)
        x = x + self.mlp(self.norm2(x))  # (B R, D)
        return x


def _first(x: Tensor, tokens: int, count: int) -> Tensor:
    """The first tokens of each photo: (B N, D) -> (B R, D)."""
    return x.view(-1, tokens, x.shape[1])[:, :count].reshape(-1, x.shape[1])


class BatchedDeiT(nn.Module):
    """`DeployDeiT` for B photos: (B, 3, H, W) pixels -> (B, K) logits, or (B, N, D) tokens.

    As there, `image` and `probabilities` say that the photos come as bytes, and what is returned.
    """

    token_table: Tensor

    def __init__(self, form: DeployDeiT) -> None:
        super().__init__()
        self.config, self.read_tokens = form.config, form.read_tokens
        self.patch_embed, self.coarse_embed = form.patch_embed, form.coarse_embed
        self.grey_levels, self.image = form.grey_levels, form.image
        self.probabilities = form.probabilities
        self.register_buffer("token_table", form.token_table)
        self.blocks = nn.ModuleList()
        for block in form.blocks:
            assert isinstance(block, DeployBlock)
            self.blocks.append(_Block(block))
        self.norm = form.norm
        if form.config.num_classes:
            self.head = form.head
        else:
            self.scale, self.shift = form.scale, form.shift

    def forward(self, pixels: Tensor) -> Tensor:
        tokens, dim = self.config.num_tokens, self.config.embed_dim
        x = self.embed(pixels).reshape(-1, dim)  # (B N, D)
        for block in self.blocks:
            x = block(x, tokens)
        normed = self.norm(x)
        if not self.config.num_classes:
            features: Tensor = normed * self.scale + self.shift
            return features.view(-1, tokens, dim)  # (B, N, D)
        logits: Tensor = self.head(normed.view(-1, self.read_tokens * dim))
        return logits.softmax(dim=-1) if self.probabilities else logits  # (B, K)

    def embed(self, pixels: Tensor) -> Tensor:
        """Residual stream in front of the first block: (B, 3, H, W) -> (B, N, D)."""
        if self.image is not None:
            pixels = self.image(pixels)
        if self.grey_levels is not None:
            pixels = self.grey_levels(pixels)
        image = self.patch_embed(pixels)  # (B, D, H / p, W / p)
        if self.coarse_embed is not None:
            image = image + self.coarse_embed(pixels)
        prefix = self.config.num_prefix_tokens
        patches = image.flatten(2).transpose(1, 2) + self.token_table[:, prefix:]  # (B, P, D)
        front = self.token_table[:, :prefix].expand(patches.shape[0], -1, -1)  # (B, T, D)
        return torch.cat([front, patches], dim=1)
