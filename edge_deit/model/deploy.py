"""The deployment form: the same function as the float DeiT, written the way phone runtimes like it.

An exact rewrite for a fixed image size and a fixed number of photos, one as a rule:

* the attention scale 1 / sqrt(d) is folded into the query's weights, q, k and v are three Linears,
  heads are the batch of a rank-3 matrix product, softmax is a plain softmax;
* the projection that removes the mean over D, I - 1 1^T / D, is folded into every writer of the
  residual stream (patch embedding, tokens and positions, `proj`, `fc2`), so the stream always has mean
  zero and LayerNorm reduces to x * rsqrt(mean(x^2) + eps);
* that mean is a Linear(D, 1) with weight 1/D and bias eps, an operator every backend has;
* LayerNorm's scale and shift are folded into the Linear that reads it, LayerScale into the one that writes;
* prefix tokens are added through the position table: patches are padded with zero rows in front and
  one table that already holds token + position is added, so there is no concatenation (but in ONNX);
* both heads of a distilled model are one Linear over its two tokens;
* the masked-image decoder, a convolution of one pixel, is a Linear over the patches' tokens;
* of the last block's output only the tokens that the heads read are computed.

No tensor has a rank above 4. `tests/model/test_deploy.py` proves the equality over random configurations.

The modules are in `model.form`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_deit.model.deit import Attention, Block, DeiT, LayerScale
from edge_deit.model.form import DeployAttention, DeployBlock, DeployDeiT

__all__ = ["deploy"]


def deploy(model: DeiT) -> DeployDeiT:
    """Rewrite a float DeiT into its deployment form; the argument is not changed.

    Weights are folded in float64, so that the rewrite itself adds no rounding to speak of.
    """
    config = model.config
    form = DeployDeiT(config).double()
    source = DeiT(config).double()
    source.load_state_dict(model.state_dict())
    with torch.no_grad():
        _fold_embedding(form, source)
        for target, block in zip(form.blocks, source.blocks, strict=True):
            assert isinstance(target, DeployBlock)
            assert isinstance(block, Block)
            _fold_block(target, block)
        _fold_head(form, source)
    return form.float().eval()


def _centre(weight: Tensor) -> Tensor:
    """Remove the mean over the first dimension, the one that writes to the residual stream."""
    return weight - weight.mean(dim=0, keepdim=True)


def _bias(layer: nn.Linear | nn.Conv2d) -> Tensor:
    return layer.bias if layer.bias is not None else layer.weight.new_zeros(len(layer.weight))


def _write(layer: nn.Linear | nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    layer.weight.copy_(weight)
    assert layer.bias is not None
    layer.bias.copy_(bias)


def _write_after_norm(layer: nn.Linear, weight: Tensor, bias: Tensor, norm: nn.LayerNorm) -> None:
    """W (g * n + s) + b = (W g) n + (W s + b)."""
    _write(layer, weight * norm.weight, weight @ norm.bias + bias)


def _fold_embedding(form: DeployDeiT, source: DeiT) -> None:
    proj = source.patch_embed.proj
    _write(form.patch_embed, _centre(proj.weight), _centre(_bias(proj)))
    table = source.pos_embed.clone()
    table[:, : form.config.num_prefix_tokens] += source.prefix()
    form.token_table.copy_(table - table.mean(dim=-1, keepdim=True))
    if form.config.decoder_stride:
        token = source.mask_token[0]
        form.mask_token.copy_(token - token.mean(dim=-1, keepdim=True))


def _fold_block(target: DeployBlock, block: Block) -> None:
    _fold_attention(target.attn, block.attn, block.norm1)
    _write_branch(target.attn.proj, block.attn.proj, block.ls1)
    _write_after_norm(target.mlp.fc1, block.mlp.fc1.weight, _bias(block.mlp.fc1), block.norm2)
    _write_branch(target.mlp.fc2, block.mlp.fc2, block.ls2)


def _write_branch(target: nn.Linear, layer: nn.Linear, scale: nn.Module) -> None:
    """g * (W x + b) = (diag(g) W) x + g * b, centred; g is 1 without LayerScale."""
    weight, bias = layer.weight, _bias(layer)
    if isinstance(scale, LayerScale):
        weight, bias = scale.gamma[:, None] * weight, scale.gamma * bias
    _write(target, _centre(weight), _centre(bias))


def _fold_attention(target: DeployAttention, attn: Attention, norm: nn.LayerNorm) -> None:
    weights, biases = attn.qkv.weight.chunk(3), _bias(attn.qkv).chunk(3)
    scales = (target.head_dim**-0.5, 1.0, 1.0)
    layers = (target.q, target.k, target.v)
    for layer, weight, bias, scale in zip(layers, weights, biases, scales, strict=True):
        _write_after_norm(layer, scale * weight, scale * bias, norm)


def _fold_head(form: DeployDeiT, source: DeiT) -> None:
    if form.config.decoder_stride:
        rows = source.decoder.weight[:, :, 0, 0]
        _write_after_norm(form.decoder.linear, rows, _bias(source.decoder), source.norm)
        return
    if not form.config.num_classes:
        form.scale.copy_(source.norm.weight)
        form.shift.copy_(source.norm.bias)
        return
    heads = [source.head, source.head_dist] if form.config.distillation_head else [source.head]
    scale, shift = source.norm.weight, source.norm.bias
    weight = torch.cat([head.weight * scale / len(heads) for head in heads], dim=1)
    bias = torch.stack([head.weight @ shift + head.bias for head in heads]).mean(dim=0)
    _write(form.head, weight, bias)
