"""Layers whose weights are rounded for kernels that add neighbouring products in 16 bits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_deit.quantization.rounding import LEAST_DAMPING, pair_scale, round_in_pairs

__all__ = ["PairedLayer", "round_layer"]


@dataclass(frozen=True)
class PairedLayer:
    """The integers (O, C) of a Linear, int8, and the bias (O,) that goes with them."""

    integers: Tensor
    bias: Tensor

    def weight(self, unrounded: Tensor) -> Tensor:
        """The weights (O, C) that the integers stand for, given the `unrounded` ones, float32."""
        return self.integers * pair_scale(unrounded.detach())[:, None]


def round_layer(
    layer: nn.Module, moments: Tensor | None, damping: float = LEAST_DAMPING
) -> PairedLayer | None:
    """The layer in pairs, its bias as it is; None for a convolution, whose kernels pair otherwise."""
    if not isinstance(layer, nn.Linear):
        return None
    with torch.no_grad():
        integers = round_in_pairs(layer.weight, moments, damping)
        return PairedLayer(integers, layer.bias.detach().clone())
