"""Layers whose weights are rounded for kernels that add neighbouring products in 16 bits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_deit.quantization.rounding import (
    LEAST_DAMPING,
    pair_scale,
    round_both,
    round_in_pairs,
    round_weights,
)

__all__ = ["PairedLayer", "round_layer"]


@dataclass(frozen=True)
class PairedLayer:
    """The integers (O, C) of a Linear, int8, and the bias (O,) that goes with them."""

    integers: Tensor
    bias: Tensor

    def weight(self, unrounded: Tensor) -> Tensor:
        """The weights (O, C) that the integers stand for, given the `unrounded` ones, float32."""
        return self.integers * pair_scale(unrounded.detach())[:, None]


@torch.no_grad()
def round_layer(
    layer: nn.Module, moments: Tensor | None, damping: float = LEAST_DAMPING
) -> tuple[Tensor, PairedLayer | None]:
    """The weights on the int8 grid, and the layer in pairs, its bias as it is.

    A convolution, whose kernels pair otherwise, has no such layer.
    """
    weight = layer.get_parameter("weight")
    if not isinstance(layer, nn.Linear):
        return round_weights(weight, moments, damping), None
    if moments is None:
        plain, integers = round_weights(weight, None), round_in_pairs(weight, None)
    else:
        plain, integers = round_both(weight, moments, damping)
    return plain, PairedLayer(integers, layer.bias.detach().clone())
