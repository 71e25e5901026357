"""The deployment form with its channels first, as Apple's Neural Engine likes it: the same function.

Tokens are (1, D, 1, N) in place of (1, N, D), and each Linear is a convolution of one pixel. The Neural
Engine lays the last axis out in memory, so that long rows of tokens suit it, and no operator is left whose
only work is to turn the token axis. Layers keep their names and weights.

Source: Apple, "Deploying Transformers on the Apple Neural Engine", 2022 (principles 1 and 2).

Shapes: N tokens, R tokens that are read, P patches, D width, h heads, d = D / h.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters.target import ExportRequest
from edge_deit.model.form import (
    DeployAttention,
    DeployBlock,
    DeployDeiT,
    DeployMlp,
    RMSNorm,
    TokenScale,
)

__all__ = ["channels_first", "in_form"]


def in_form(request: ExportRequest) -> DeployDeiT | nn.Module:
    """The request's model, its channels first where the form is `ane`.

    Raises:
        EdgeDeitError: a model that takes a mask, or several photos, has no such form.
    """
    if request.form == "cpu":
        return request.model
    if request.mask is not None or len(request.example) > 1:
        raise EdgeDeitError(
            "the form ane is for one photo, without a mask: add --form cpu, or leave --batch out"
        )
    assert isinstance(request.model, DeployDeiT)
    return channels_first(request.model)


def channels_first(form: DeployDeiT) -> nn.Module:
    """A module of the same function as `form`, whose layers have the same names; `form` stays as it is."""
    return _ChannelsFirst(form).eval()


def _pixelwise(layer: nn.Linear) -> nn.Conv2d:
    """The convolution of one pixel that is this Linear."""
    made = nn.Conv2d(layer.in_features, layer.out_features, 1, bias=layer.bias is not None)
    made.weight = nn.Parameter(layer.weight.detach()[:, :, None, None])
    if layer.bias is not None:
        made.bias = nn.Parameter(layer.bias.detach())
    return made


class _Norm(nn.Module):
    """`RMSNorm` over the channels."""

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.mean_square = _pixelwise(norm.mean_square)

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = self.mean_square(x * x)  # (1, 1, 1, N)
        return x * mean.rsqrt()  # (1, D, 1, N)


class _TokenScale(nn.Module):
    """`TokenScale` over the channels."""

    bias: Tensor

    def __init__(self, scale: TokenScale) -> None:
        super().__init__()
        self.norm = _Norm(scale.norm)
        self.register_buffer("bias", scale.bias.detach()[None, :, None, None])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean: Tensor = self.norm.mean_square(x * x)  # (1, 1, 1, N)
        inverse = mean.rsqrt()
        return x * inverse, mean * inverse


def _token_scale(scale: TokenScale | None) -> _TokenScale | None:
    return None if scale is None else _TokenScale(scale)


def _scaled(layer: nn.Conv2d, x: Tensor, scale: _TokenScale | None) -> Tensor:
    if scale is None:
        plain: Tensor = layer(x)
        return plain
    direction, size = scale(x)
    out: Tensor = layer(direction) * size
    return out + scale.bias


class _Attention(nn.Module):
    """`DeployAttention`: a head is a run of channels, so splitting and joining move no value."""

    def __init__(self, attention: DeployAttention) -> None:
        super().__init__()
        self.num_heads, self.head_dim = attention.num_heads, attention.head_dim
        self.q, self.k = _pixelwise(attention.q), _pixelwise(attention.k)
        self.v, self.proj = _pixelwise(attention.v), _pixelwise(attention.proj)
        self.token_scale = _token_scale(attention.token_scale)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(self.num_heads, self.head_dim, -1)  # (h, d, N)

    def forward(self, x: Tensor, readers: Tensor) -> Tensor:
        q, k, v = self._split(self.q(readers)), self._split(self.k(x)), self._split(self.v(x))
        weights = q.transpose(1, 2).bmm(k).softmax(dim=-1)  # (h, R, N)
        heads = v.bmm(weights.transpose(1, 2))  # (h, d, R)
        return _scaled(self.proj, heads.reshape(readers.shape), self.token_scale)  # (1, D, 1, R)


class _Mlp(nn.Module):
    """`DeployMlp`."""

    def __init__(self, mlp: DeployMlp) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = _pixelwise(mlp.fc1), mlp.act, _pixelwise(mlp.fc2)
        self.token_scale = _token_scale(mlp.token_scale)

    def forward(self, x: Tensor) -> Tensor:
        return _scaled(self.fc2, self.act(self.fc1(x)), self.token_scale)  # (1, D, 1, N)


class _Block(nn.Module):
    """`DeployBlock`."""

    def __init__(self, block: DeployBlock) -> None:
        super().__init__()
        self.read_tokens = block.read_tokens
        self.norm1, self.attn = _Norm(block.norm1), _Attention(block.attn)
        self.norm2, self.mlp = _Norm(block.norm2), _Mlp(block.mlp)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)  # (1, D, 1, N)
        readers = normed
        if self.read_tokens is not None:
            x, readers = (t[..., : self.read_tokens] for t in (x, normed))
        x = x + self.attn(normed, readers)  # (1, D, 1, R)
        x = x + self.mlp(self.norm2(x))  # (1, D, 1, R)
        return x


class _ChannelsFirst(nn.Module):
    """`DeployDeiT`."""

    token_table: Tensor

    def __init__(self, form: DeployDeiT) -> None:
        super().__init__()
        self.config, self.probabilities = form.config, form.probabilities
        self.image, self.grey_levels = form.image, form.grey_levels
        self.patch_embed, self.coarse_embed = form.patch_embed, form.coarse_embed
        table = form.token_table.detach().transpose(1, 2)[:, :, None]  # (1, D, 1, N)
        self.register_buffer("token_table", table.contiguous())
        blocks = [_Block(one) for one in form.blocks if isinstance(one, DeployBlock)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = _Norm(form.norm)
        if form.config.num_classes:
            self.head = form.head
        else:
            self.scale, self.shift = form.scale, form.shift

    def embed(self, pixels: Tensor) -> Tensor:
        """Residual stream in front of the first block: (1, 3, H, W) -> (1, D, 1, N)."""
        for step in (self.image, self.grey_levels):
            if step is not None:
                pixels = step(pixels)
        image = self.patch_embed(pixels)  # (1, D, H / p, W / p)
        if self.coarse_embed is not None:
            image = image + self.coarse_embed(pixels)
        patches = image.reshape(1, self.config.embed_dim, 1, -1)  # (1, D, 1, P)
        # coremltools pads in single precision only, whatever the graph says
        padded = F.pad(patches.float(), (self.config.num_prefix_tokens, 0)).to(patches.dtype)
        return padded + self.token_table

    def read(self, x: Tensor) -> Tensor:
        """Output from the residual stream (1, D, 1, R) behind the last block."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (1, R, D)
        if not self.config.num_classes:
            features: Tensor = tokens * self.scale + self.shift
            return features
        logits: Tensor = self.head(tokens.reshape(1, -1))
        return logits.softmax(dim=-1) if self.probabilities else logits  # (1, K)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embed(pixels)
        for block in self.blocks:
            x = block(x)
        return self.read(x)
