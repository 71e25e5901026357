"""Rotation of the deployment form: the same function in a basis without outlier channels.

A trained DeiT carries a few channels with values far beyond the others; one range a tensor then wastes
most of its 256 steps. In the deployment form the norm is x * rsqrt(mean(x^2) + eps), which commutes with
every orthogonal matrix Q, so the residual stream x can be replaced by x Q: writers are multiplied by Q,
readers by Q^T, and nothing is left to do at run time. Inside each head, q and k turn in the same way, since
(q R) (k R)^T = q k^T, and so do v and `proj`. A random Q spreads every outlier over all channels.

Sources: QuaRot, arXiv 2404.00456; SliceGPT, arXiv 2401.15024 (the invariance of RMSNorm).

Shapes: D width, h heads, d = D / h.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from edge_deit.model.form import DeployAttention, DeployBlock, DeployDeiT

__all__ = ["random_rotation", "rotate"]


def random_rotation(size: int, generator: torch.Generator) -> Tensor:
    """A random orthogonal matrix (size, size), float64: the Q of a Gaussian matrix's QR.

    >>> q = random_rotation(4, torch.Generator().manual_seed(0))
    >>> torch.allclose(q @ q.T, torch.eye(4, dtype=torch.float64))
    True
    """
    gaussian = torch.randn(size, size, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    rotation: Tensor = q * r.diagonal().sign()
    return rotation


def rotate(form: DeployDeiT, seed: int = 0) -> DeployDeiT:
    """The same function as `form`, in rotated coordinates; the argument is not changed.

    The stream of a model without classes stays as it is, because its tokens are the output.
    """
    generator = torch.Generator().manual_seed(seed)
    rotated = copy.deepcopy(form).double()
    with torch.no_grad():
        if form.config.num_classes:
            _rotate_stream(rotated, random_rotation(form.config.embed_dim, generator))
        for block in rotated.blocks:
            assert isinstance(block, DeployBlock)
            _rotate_heads(block.attn, generator)
    return rotated.float()


def _rotate_stream(form: DeployDeiT, q: Tensor) -> None:
    """x -> x Q, (D, D)."""
    weights = [form.patch_embed.weight]  # (D, 3, p, p)
    if form.coarse_embed is not None:
        weights.append(form.coarse_embed.conv.weight)
    for weight in weights:
        weight.copy_((q.T @ weight.flatten(1)).reshape(weight.shape))
    assert form.patch_embed.bias is not None
    form.patch_embed.bias.copy_(form.patch_embed.bias @ q)
    form.token_table.copy_(form.token_table @ q)
    for block in form.blocks:
        assert isinstance(block, DeployBlock)
        for reader in (block.attn.q, block.attn.k, block.attn.v, block.mlp.fc1):
            reader.weight.copy_(reader.weight @ q)
        for writer in (block.attn.proj, block.mlp.fc2):
            _turn_output(writer, q)
        for scale in (block.attn.token_scale, block.mlp.token_scale):
            if scale is not None:
                scale.bias.copy_(scale.bias @ q)
    classes = len(form.head.weight)
    tokens = form.head.weight.reshape(classes, form.read_tokens, -1)  # (K, 1 or 2, D)
    form.head.weight.copy_((tokens @ q).flatten(1))


def _rotate_heads(attention: DeployAttention, generator: torch.Generator) -> None:
    """One rotation (d, d) a head for q and k, another for v and proj."""
    scores, values = (_turn_heads(attention, generator) for _ in range(2))  # (D, D) each
    _turn_output(attention.q, scores)
    _turn_output(attention.k, scores)
    _turn_output(attention.v, values)
    attention.proj.weight.copy_(attention.proj.weight @ values)


def _turn_heads(attention: DeployAttention, generator: torch.Generator) -> Tensor:
    """Block-diagonal (D, D), one rotation a head."""
    size = attention.head_dim
    whole = attention.proj.weight.new_zeros(attention.num_heads * size, attention.num_heads * size)
    for head in range(attention.num_heads):
        part = slice(head * size, (head + 1) * size)
        whole[part, part] = random_rotation(size, generator)
    return whole


def _turn_output(layer: nn.Linear, q: Tensor) -> None:
    layer.weight.copy_(q.T @ layer.weight)
    layer.bias.copy_(layer.bias @ q)
