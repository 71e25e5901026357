"""The float DeiT, read top to bottom; module names are those of the original checkpoints.

Shapes: B images, C = 3 channels, H = W image side, P patches, T prefix tokens (class, distillation,
registers), N = T + P tokens, p patch size, D embedding width, h heads, d = D / h, K classes.

Sources: Touvron et al., "Training data-efficient image transformers & distillation through
attention", arXiv 2012.12877; Dosovitskiy et al., arXiv 2010.11929. LayerScale: Touvron et al., arXiv
2103.17239, as in DeiT-III, arXiv 2204.07118. Registers: Darcet et al., arXiv 2309.16588. Masked images:
Xie et al., "SimMIM", arXiv 2111.09886, as in transformers' DeiTForMaskedImageModeling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_deit.model.config import DeiTConfig

__all__ = ["DeiT", "interpolate_positions"]


class PatchEmbed(nn.Module):
    """Cuts the image into square patches and projects each to D values."""

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        size = config.patch_size
        self.proj = nn.Conv2d(config.in_channels, config.embed_dim, size, stride=size)

    def forward(self, pixels: Tensor) -> Tensor:
        grid: Tensor = self.proj(pixels)  # (B, D, H / p, W / p)
        return grid.flatten(2).transpose(1, 2)  # (B, P, D)


class Attention(nn.Module):
    """Multi-head self-attention, softmax(q k^T / sqrt(d)) v (Vaswani et al., arXiv 1706.03762)."""

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim, bias=config.qkv_bias)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.num_heads, dim // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, h, N, d)
        heads = F.scaled_dot_product_attention(q, k, v)  # (B, h, N, d)
        merged = heads.transpose(1, 2).reshape(batch, tokens, dim)  # (B, N, D)
        projected: Tensor = self.proj(merged)
        return projected  # (B, N, D)


class Mlp(nn.Module):
    """Two Linears with the exact (erf) GELU between them."""

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, config.mlp_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(config.mlp_dim, config.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out  # (B, N, D)


class LayerScale(nn.Module):
    """Multiplies each channel of a branch by a weight of its own."""

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((config.embed_dim,), 1e-4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma  # (B, N, D)


class Block(nn.Module):
    """Pre-norm transformer block, with LayerScale where the configuration has it."""

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)
        self.mlp = Mlp(config)
        self.ls1 = LayerScale(config) if config.layer_scale else nn.Identity()
        self.ls2 = LayerScale(config) if config.layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))  # (B, N, D)
        x = x + self.ls2(self.mlp(self.norm2(x)))  # (B, N, D)
        return x


class DeiT(nn.Module):
    """DeiT with or without a distillation token, or a relative of the same graph.

    `forward` takes normalised pixels (B, 3, H, W) and returns logits (B, K); in a distilled model
    they are the mean of both heads, which is how DeiT is meant to be used at inference
    (arXiv 2012.12877, section 4). A model without classes returns its final normalised tokens
    (B, N, D), which is `last_hidden_state` of Hugging Face's DeiTModel. One with a decoder of stride s
    takes a mask (B, P) beside the pixels, 1 where a patch is hidden and 0 elsewhere, and returns all pixels
    anew, (B, 3, s H / p, s W / p); without a mask nothing is hidden.

    `pos_embed` has a row for each of the N tokens; those of tokens without a position
    (registers, DeiT-III's class token) are zero.
    """

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        if config.distilled:
            self.dist_token = nn.Parameter(torch.zeros(1, 1, dim))
        if config.register_tokens:
            self.reg_token = nn.Parameter(torch.zeros(1, config.register_tokens, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.num_tokens, dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        if config.num_classes:
            self.head = nn.Linear(dim, config.num_classes)
        if config.distillation_head:
            self.head_dist = nn.Linear(dim, config.num_classes)
        if config.decoder_stride:
            self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
            self.decoder = nn.Conv2d(dim, config.in_channels * config.decoder_stride**2, 1)
        self.apply(_initialise)
        for token in self._prefix_tokens():
            nn.init.trunc_normal_(token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def _prefix_tokens(self) -> list[Tensor]:
        tokens: list[Tensor] = [self.cls_token]
        if self.config.distilled:
            tokens.append(self.dist_token)
        if self.config.register_tokens:
            tokens.append(self.reg_token)
        return tokens

    def prefix(self) -> Tensor:
        """The tokens in front of the patches, (1, T, D)."""
        return torch.cat(self._prefix_tokens(), dim=1)

    def features(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        """Final normalised tokens: (B, 3, H, W) -> (B, N, D); `mask` (B, P) hides patches."""
        patches = self.patch_embed(pixels)  # (B, P, D)
        if mask is not None:
            hidden = mask.unsqueeze(-1).to(patches.dtype)  # (B, P, 1)
            patches = patches * (1 - hidden) + self.mask_token * hidden
        prefix = self.prefix().expand(len(patches), -1, -1)  # (B, T, D)
        x = torch.cat([prefix, patches], dim=1) + self.pos_embed  # (B, N, D)
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed  # (B, N, D)

    def heads(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Class-token logits and distillation logits, (B, K) each, for training.

        Raises:
            AttributeError: the model has no distillation head.
        """
        x = self.features(pixels)
        return self.head(x[:, 0]), self.head_dist(x[:, 1])

    def reconstruct(self, pixels: Tensor, mask: Tensor | None) -> Tensor:
        """Pixels of the whole photo from those that `mask` does not hide: (B, 3, s H / p, s W / p)."""
        config = self.config
        tokens = self.features(pixels, mask)[:, config.num_prefix_tokens :]  # (B, P, D)
        grid = tokens.mT.unflatten(2, (config.grid_size, config.grid_size))  # type: ignore[no-untyped-call]
        return F.pixel_shuffle(self.decoder(grid), config.decoder_stride)

    def forward(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.config.decoder_stride:
            return self.reconstruct(pixels, mask)
        if not self.config.num_classes:
            return self.features(pixels)  # (B, N, D)
        if self.config.distillation_head:
            cls_logits, dist_logits = self.heads(pixels)
            return (cls_logits + dist_logits) / 2  # (B, K)
        logits: Tensor = self.head(self.features(pixels)[:, 0])
        return logits  # (B, K)


def _initialise(module: nn.Module) -> None:
    """Truncated normal weights of deviation 0.02, zero biases, as the original trains from."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def interpolate_positions(
    positions: Tensor, prefix_tokens: int, grid_size: int, *, antialias: bool = False
) -> Tensor:
    """Resample position embeddings to another image size.

    (1, T + P, D) -> (1, T + grid_size^2, D). The rows of the prefix tokens stay; the others are
    resampled as an image, bicubic with a = -0.75 and half-pixel centres, which is what the original's
    fine-tuning at 384 and Hugging Face's `interpolate_pos_encoding` do. With `antialias` the image is
    smoothed where it shrinks, as DINOv2 with registers does.
    """
    prefix, patches = positions[:, :prefix_tokens], positions[:, prefix_tokens:]
    side = round(patches.shape[1] ** 0.5)
    if side == grid_size:
        return positions
    image = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)  # (1, D, side, side)
    size = (grid_size, grid_size)
    resized = F.interpolate(
        image, size=size, mode="bicubic", align_corners=False, antialias=antialias
    )
    return torch.cat([prefix, resized.flatten(2).transpose(1, 2)], dim=1)  # (1, T + P', D)
