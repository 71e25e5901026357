"""Integer layers in a graph for Core AI: int8 weights, inputs that pass through uint8; weights in tables.

They are made of the converter's own operators, so that the file holds the integers themselves:
`coreai::constexpr_blockwise_shift_scale` for weights, `coreai::quantize` and `coreai::dequantize` for
inputs, `coreai::lut_to_dense` for weights that are indices into a table.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_deit.common.errors import EdgeDeitError
from edge_deit.quantization.packed import PackedWeight, TableWeight
from edge_deit.quantization.scheme import LayerRanges, Range

__all__ = ["with_integer_layers", "with_tables"]

_LEVELS: Final = 255  # of uint8
_STEPS: Final = 127  # of int8 on each side
_MIN_SCALE: Final = 2.0**-14  # the smallest normal float16, in which a file may hold scales


def with_integer_layers(
    model: nn.Module,
    layers: list[str],
    float_inputs: list[str],
    ranges: Mapping[str, LayerRanges],
    dtype: torch.dtype,
) -> nn.Module:
    """A copy of `model`, floats in `dtype`, whose `layers` are integer; of `float_inputs` the weights are.

    Raises:
        EdgeDeitError: a layer without a range.
    """
    import coreai_torch._compression.custom_layers  # noqa: F401 # declares the operators

    if lost := [name for name in layers if name not in ranges]:
        raise EdgeDeitError(f"no ranges for {', '.join(lost[:3])}: give --calibration photos")
    made = copy.deepcopy(model)
    for name in [*layers, *float_inputs]:
        layer = made.get_submodule(name)
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        ends = None if name in float_inputs else ranges[name].input
        made.set_submodule(name, _Integer(layer, ends, dtype))
    return made.to(dtype).eval()


def with_tables(model: nn.Module, packed: Mapping[str, PackedWeight]) -> nn.Module:
    """A copy of `model` in which the layers of `packed` read their weights from tables."""
    import coreai_torch._compression.custom_layers  # noqa: F401 # declares the operators

    made = copy.deepcopy(model)
    for name, weight in packed.items():
        layer = made.get_submodule(name)
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        assert isinstance(weight, TableWeight)
        made.set_submodule(name, _Tabled(layer, weight))
    return made.eval()


class _Tabled(nn.Module):
    """A Linear or convolution whose weights are looked up: `lut` has a size of 1 for each of their axes."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, weight: TableWeight) -> None:
        super().__init__()
        shape = layer.weight.shape
        tables, entries = weight.tables.shape
        lut = weight.tables.reshape(tables, *[1] * (len(shape) - 1), entries, 1)
        self.register_buffer("indices", weight.indices.reshape(shape))
        self.register_buffer("lut", lut)
        self.bias = layer.bias
        self.stride = layer.stride if isinstance(layer, nn.Conv2d) else None

    def forward(self, x: Tensor) -> Tensor:
        operators: Any = torch.ops.coreai
        weight = operators.lut_to_dense(self.indices, self.lut, 0)
        if self.stride is None:
            return F.linear(x, weight, self.bias)
        return F.conv2d(x, weight, self.bias, cast("tuple[int, int]", self.stride))


class _Integer(nn.Module):
    """A Linear or convolution with its weights as int8 (K, ...) and a scale for each of the K channels.

    Without `ends` its input stays float.
    """

    def __init__(
        self, layer: nn.Linear | nn.Conv2d, ends: Range | None, dtype: torch.dtype
    ) -> None:
        super().__init__()
        weight = layer.weight.detach().double()
        others = tuple(range(1, weight.ndim))
        steps = (weight.abs().amax(others, keepdim=True) / _STEPS).clamp_min(_MIN_SCALE)
        integers = (weight / steps).round().clamp(-_STEPS, _STEPS)
        self.register_buffer("integers", integers.to(torch.int8))
        self.register_buffer("steps", steps.to(dtype))
        self.rounds = ends is not None
        if ends is not None:
            step = max((ends[1] - ends[0]) / _LEVELS, _MIN_SCALE)
            zero = round(-ends[0] / step)
            self.register_buffer("input_step", torch.tensor(step, dtype=dtype))
            self.register_buffer("input_zero", torch.tensor(zero, dtype=torch.uint8))
        self.bias = layer.bias
        self.stride = layer.stride if isinstance(layer, nn.Conv2d) else None

    def forward(self, x: Tensor) -> Tensor:
        operators: Any = torch.ops.coreai
        if self.rounds:
            levels = operators.quantize(x, self.input_step, torch.uint8, self.input_zero)
            x = operators.dequantize(levels, self.input_step, self.input_zero)
        weight = operators.constexpr_blockwise_shift_scale(self.integers, self.steps)
        if self.stride is None:
            return F.linear(x, weight, self.bias)
        return F.conv2d(x, weight, self.bias, cast("tuple[int, int]", self.stride))
