"""Linears with weights in groups, as XNNPACK's kernels for 4-bit weights take them.

A layer's input is quantized at run time, one range a token (qd8); its weights are 4-bit with a bfloat16
scale for each group of input channels (qb4w), or 8-bit with a scale for each output channel (qc8w). The
operators are those that XNNPACK's partitioner knows.

Source: executorch/backends/xnnpack/operators/quant_params.py.

Shapes: O output channels, C input channels, G groups.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edge_deit.exporters.patch_rows import with_patch_rows
from edge_deit.model.form import DeployDeiT
from edge_deit.quantization.packed import GroupedWeight, PackedWeight

__all__ = ["with_packed"]

_INT8 = torch.iinfo(torch.int8)


class _PackedLinear(nn.Module):
    """x (..., C) -> (..., O)."""

    bias: Tensor

    def __init__(self, packed: GroupedWeight, bias: Tensor) -> None:
        super().__init__()
        import torchao.quantization  # noqa: F401 # registers the operators

        self.bits, self.group = packed.bits, packed.group
        scales = packed.scales if packed.bits < 8 else packed.scales[:, 0]
        self.register_buffer("integers", packed.integers)
        self.register_buffer("scales", scales.contiguous())
        self.register_buffer("zeros", torch.zeros_like(scales, dtype=torch.int32))
        self.register_buffer("bias", bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        operators = torch.ops.quantized_decomposed
        scale, zero = operators.choose_qparams_per_token_asymmetric(x, torch.int8)
        ends = _INT8.min, _INT8.max
        x = operators.quantize_per_token(x, scale, zero, *ends, torch.int8)
        x = operators.dequantize_per_token(x, scale, zero, *ends, torch.int8, torch.float32)
        return nn.functional.linear(x, self._weight(), self.bias)

    def _weight(self) -> Tensor:
        operators = torch.ops.quantized_decomposed
        given = self.integers, self.scales, self.zeros
        if self.bits == 8:
            ends = -_INT8.max, _INT8.max
            wide: Tensor = operators.dequantize_per_channel(*given, 0, *ends, torch.int8)
            return wide
        most = 2 ** (self.bits - 1)
        grouped: Tensor = operators.dequantize_per_channel_group(
            *given, -most, most - 1, torch.int8, self.group, torch.float32
        )
        return grouped


def with_packed(model: nn.Module, packed: Mapping[str, PackedWeight]) -> nn.Module:
    """A copy whose layers have the packed weights; the patch embedding becomes a Linear over patches."""
    assert isinstance(model, DeployDeiT)
    made = with_patch_rows(model) if "patch_embed" in packed else copy.deepcopy(model)
    for name, weight in packed.items():
        assert isinstance(weight, GroupedWeight)
        place = f"{name}.rows" if name == "patch_embed" else name
        parent, _, child = place.rpartition(".")
        layer = _PackedLinear(weight, made.get_submodule(place).get_parameter("bias"))
        setattr(made.get_submodule(parent), child, layer)
    return made.eval()
