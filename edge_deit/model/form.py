"""The modules of the deployment form: DeiT for a fixed number of photos, written as phone runtimes like it.

`model.deploy` says what was rewritten and fills in the weights. No tensor has a rank above 4.

Shapes: N tokens, R tokens that are read, T prefix tokens, p patch size, D width, M hidden width, h heads,
d = D / h, K classes. The residual stream is (1, N, D), or (N, D) where `flat_stream` is set. These are the
shapes for one photo; for B photos a leading 1 is B, and h is B h in the attention.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_deit.model.config import DeiTConfig
from edge_deit.model.decoder import Decoder

__all__ = [
    "CoarseEmbed",
    "DeployAttention",
    "DeployBlock",
    "DeployDeiT",
    "DeployMlp",
    "GreyLevels",
    "ImageInput",
    "RMSNorm",
    "TokenScale",
    "quantizable_layers",
    "scaled",
]

_Known = tuple[Tensor, Tensor, Tensor | None]  # q, k, what is added to all scores (1, 1, N)
_FLOAT_LAYERS = ("mean_square", "coarse_embed.conv")


class RMSNorm(nn.Module):
    """x * rsqrt(mean(x^2) + eps), the mean taken by a Linear of constant weight."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.mean_square = nn.Linear(dim, 1)
        with torch.no_grad():
            self.mean_square.weight.fill_(1 / dim)
            self.mean_square.bias.fill_(eps)

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = self.mean_square(x * x)  # (1, N, 1)
        return x * torch.rsqrt(mean)  # (1, N, D)


class TokenScale(nn.Module):
    """Splits tokens into direction and size: x = (x / rms) * rms, so that all have one magnitude.

    With it a Linear that reads x, W x + b = rms W (x / rms) + b, sees the same range in every token; its
    own bias is zero then, and b (D,) is `bias`.
    """

    bias: Tensor

    def __init__(self, dim: int, bias: Tensor, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm = RMSNorm(dim, eps)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean: Tensor = self.norm.mean_square(x * x)  # (1, N, 1)
        inverse = torch.rsqrt(mean)
        return x * inverse, mean * inverse  # (1, N, D), (1, N, 1)


class GreyLevels(nn.Module):
    """Normalised pixels back to grey levels from 0 to 1: x * std + mean, (1, C, 1, 1) each."""

    std: Tensor
    mean: Tensor

    def __init__(self, std: Tensor, mean: Tensor) -> None:
        super().__init__()
        self.register_buffer("std", std)
        self.register_buffer("mean", mean)

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels * self.std + self.mean


class ImageInput(nn.Module):
    """A photo's bytes as the patch embedding reads them: (1, H, W, 3) uint8 -> (1, 3, H, W), 0 to 255.

    With `planes` the runtime hands over planes (1, 3, H, W) of grey levels from 0 to 1 already, as Core ML
    does with an image.
    """

    def __init__(self, planes: bool) -> None:
        super().__init__()
        self.planes = planes

    def forward(self, image: Tensor) -> Tensor:
        if self.planes:
            return image
        levels = image if image.is_floating_point() else image.float()
        return levels.permute(0, 3, 1, 2)


class DeployAttention(nn.Module):
    """Attention with separate q, k, v; the scale is inside q. Conditioning may set `token_scale`."""

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.num_heads, self.head_dim = config.num_heads, dim // config.num_heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)
        self.token_scale: TokenScale | None = None

    def _split(self, x: Tensor) -> Tensor:
        if x.dim() == 3 and len(x) > 1:
            heads = x.view(len(x), -1, self.num_heads, self.head_dim).transpose(1, 2)
            return heads.flatten(0, 1)  # (B h, N, d)
        return x.view(-1, self.num_heads, self.head_dim).transpose(0, 1)  # (h, N, d)

    def _joined(self, heads: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of `_split`, as `shape` has it."""
        if len(heads) > self.num_heads:
            return heads.view(-1, self.num_heads, *heads.shape[1:]).transpose(1, 2).reshape(shape)
        return heads.transpose(0, 1).reshape(shape)

    def forward(self, x: Tensor, readers: Tensor, known: _Known | None = None) -> Tensor:
        """What the tokens `readers` (1, R, D) take from the tokens x (1, N, D): (1, R, D)."""
        queries, keys, bias = known or (self.q(readers), self.k(x), None)
        q, k, v = self._split(queries), self._split(keys), self._split(self.v(x))
        scores = torch.bmm(q, k.transpose(1, 2))  # (h, R, N)
        if bias is not None:
            scores = scores + (bias if bias.dtype == scores.dtype else bias.to(scores.dtype))
        weights = scores.softmax(dim=-1)
        mixed = self._joined(torch.bmm(weights, v), readers.shape)
        return scaled(self.proj, mixed, self.token_scale)  # (1, R, D)


def scaled(layer: nn.Linear, x: Tensor, scale: TokenScale | None) -> Tensor:
    """`layer` on x, or on tokens of one magnitude, with the bias added after their size is back."""
    if scale is None:
        plain: Tensor = layer(x)
        return plain
    direction, size = scale(x)
    out: Tensor = layer(direction) * size
    return out + scale.bias


class DeployMlp(nn.Module):
    """Two Linears with GELU between them. Conditioning may set `token_scale`."""

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, config.mlp_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(config.mlp_dim, config.embed_dim)
        self.token_scale: TokenScale | None = None

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.act(self.fc1(x))  # (1, N, M)
        return scaled(self.fc2, hidden, self.token_scale)  # (1, N, D)


class DeployBlock(nn.Module):
    """Pre-norm block over a residual stream of mean zero.

    With `read_tokens` R it computes only the first R tokens; all N are still attended to.
    """

    def __init__(self, config: DeiTConfig, read_tokens: int | None = None) -> None:
        super().__init__()
        self.read_tokens = read_tokens
        self.norm1 = RMSNorm(config.embed_dim, config.layer_norm_eps)
        self.attn = DeployAttention(config)
        self.norm2 = RMSNorm(config.embed_dim, config.layer_norm_eps)
        self.mlp = DeployMlp(config)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)  # (1, N, D)
        readers = normed
        if self.read_tokens is not None:
            x, readers = (t[..., : self.read_tokens, :] for t in (x, normed))
        x = x + self.attn(normed, readers)  # (1, R, D)
        x = x + self.mlp(self.norm2(x))  # (1, R, D)
        return x


class CoarseEmbed(nn.Module):
    """A float patch embedding of the photo's means over squares, for p-pixel patches."""

    def __init__(self, config: DeiTConfig, square: int) -> None:
        super().__init__()
        size = config.patch_size // square
        self.pool = nn.AvgPool2d(square)
        self.conv = nn.Conv2d(config.in_channels, config.embed_dim, size, stride=size, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        image: Tensor = self.conv(self.pool(pixels))
        return image  # (1, D, H / p, W / p)


class DeployDeiT(nn.Module):
    """DeiT in deployment form: (1, 3, H, W) pixels -> (1, K) logits, or (1, N, D) tokens.

    With a decoder it takes pixels and a mask (1, P), float, 1 where a patch is hidden and 0 elsewhere, and
    returns reconstructed pixels. Conditioning may set `grey_levels`, and `coarse_embed`, the part of the
    patch embedding that reads only means of small squares. An exporter may set `flat_stream`: tokens are
    then a matrix (N, D).
    `model.file_form` may set `image`: the input is a photo's bytes, and `probabilities`: the
    output is the softmax of the logits.
    """

    token_table: Tensor
    mask_token: Tensor

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        self.config = config
        dim, size = config.embed_dim, config.patch_size
        self.patch_embed = nn.Conv2d(config.in_channels, dim, size, stride=size)
        self.coarse_embed: CoarseEmbed | None = None
        self.grey_levels: GreyLevels | None = None
        self.register_buffer("token_table", torch.zeros(1, config.num_tokens, dim))
        self.flat_stream = False
        self.image: ImageInput | None = None
        self.probabilities = False
        self.read_tokens = 2 if config.distillation_head else 1
        self.blocks = nn.ModuleList(DeployBlock(config) for _ in range(config.depth - 1))
        self.blocks.append(DeployBlock(config, self.read_tokens if config.num_classes else None))
        self.norm = RMSNorm(dim, config.layer_norm_eps)
        if config.num_classes:
            self.head = nn.Linear(self.read_tokens * dim, config.num_classes)
        elif config.decoder_stride:
            self.register_buffer("mask_token", torch.zeros(1, dim))
            self.decoder = Decoder(config)
        else:
            self.scale = nn.Parameter(torch.ones(dim))
            self.shift = nn.Parameter(torch.zeros(dim))

    def embed(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        """Residual stream in front of the first block: (1, 3, H, W) -> (1, N, D) or (N, D)."""
        if self.image is not None:
            pixels = self.image(pixels)
        if self.grey_levels is not None:
            pixels = self.grey_levels(pixels)
        image = self.patch_embed(pixels)  # (1, D, H / p, W / p)
        if self.coarse_embed is not None:
            image = image + self.coarse_embed(pixels)
        if self.flat_stream:
            tokens = image.view(self.config.embed_dim, -1).transpose(0, 1)  # (P, D)
            return self._joined(self._hidden(tokens, mask))
        patches = self._hidden(image.flatten(2).transpose(1, 2), mask)  # (1, P, D)
        return F.pad(patches, (0, 0, self.config.num_prefix_tokens, 0)) + self.token_table

    def _hidden(self, patches: Tensor, mask: Tensor | None) -> Tensor:
        """Patches (1, P, D) or (P, D), the mask token in place of those that are hidden."""
        if mask is None:
            return patches
        share = mask.reshape(*patches.shape[:-1], 1)
        return patches * (1 - share) + self.mask_token * share

    def _joined(self, patches: Tensor) -> Tensor:
        """Tokens (N, D) from patches (P, D); the parts of the table are constants of their own."""
        table, prefix = self.token_table[0], self.config.num_prefix_tokens
        return torch.cat([table[:prefix], patches + table[prefix:]])

    def read(self, x: Tensor) -> Tensor:
        """Output from the residual stream behind the last block, (1, R, D) with classes, else (1, N, D)."""
        if self.config.decoder_stride:
            normed: Tensor = self.norm(x)[..., self.config.num_prefix_tokens :, :]
            pixels: Tensor = self.decoder(normed)
            return pixels
        if not self.config.num_classes:
            tokens: Tensor = self.norm(x) * self.scale + self.shift
            return tokens[None] if self.flat_stream else tokens  # (1, N, D)
        photos = 1 if self.flat_stream else len(x)
        logits: Tensor = self.head(self.norm(x).reshape(photos, -1))
        return logits.softmax(dim=-1) if self.probabilities else logits  # (1, K)

    def forward(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.embed(pixels, mask)  # (1, N, D) or (N, D)
        for block in self.blocks:
            x = block(x)
        return self.read(x)


def quantizable_layers(model: nn.Module) -> list[str]:
    """Names of the layers that integer precisions quantize, in the order of the graph.

    The Linear(D, 1) inside each norm is not among them: its output spans several decades, and its
    quantization alone destroys the model. `coarse_embed` exists to stay float.
    """
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and not name.endswith(_FLOAT_LAYERS)
    ]
