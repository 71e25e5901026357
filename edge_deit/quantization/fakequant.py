"""The integer model in float arithmetic: what an artefact should compute, without any backend."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from edge_deit.model.form import DeployDeiT
from edge_deit.quantization.ranges import STEPS
from edge_deit.quantization.rounding import round_weights
from edge_deit.quantization.scheme import LayerRanges, Range

__all__ = ["FakeQuantLayer", "fake_quantize", "round_activation", "round_tokens"]


def round_activation(x: Tensor, ends: Range) -> Tensor:
    """x through 256 integers over the range, asymmetric, with an exact zero; same shape."""
    step = (ends[1] - ends[0]) / STEPS
    zero = round(-ends[0] / step)
    return torch.fake_quantize_per_tensor_affine(x, step, zero, 0, STEPS)


class FakeQuantLayer(nn.Module):
    """A Linear or convolution whose input, weights and (with `outputs`) output are rounded.

    Without `ranges` the input's range is that of each token at run time, as int8-dynamic has it.
    """

    def __init__(self, layer: nn.Module, ranges: LayerRanges | None, *, outputs: bool) -> None:
        super().__init__()
        self.layer, self.ranges, self.outputs = layer, ranges, outputs
        with torch.no_grad():
            weight = layer.get_parameter("weight")
            weight.copy_(round_weights(weight, None))

    def forward(self, x: Tensor) -> Tensor:
        if self.ranges is None:
            out: Tensor = self.layer(round_tokens(x))
            return out
        out = self.layer(round_activation(x, self.ranges.input))
        return round_activation(out, self.ranges.output) if self.outputs else out


def round_tokens(x: Tensor) -> Tensor:
    """Each row of the last dimension through its own 256 integers."""
    least = x.amin(-1, keepdim=True).clamp_max(0)
    greatest = x.amax(-1, keepdim=True).clamp_min(0)
    step = ((greatest - least) / STEPS).clamp_min(1e-12)
    zero = (-least / step).round()
    return ((x / step).round().add(zero).clamp(0, STEPS) - zero) * step


def fake_quantize(
    form: DeployDeiT,
    layers: Iterable[str],
    ranges: Mapping[str, LayerRanges],
    *,
    outputs: bool,
    dynamic: Iterable[str] = (),
) -> DeployDeiT:
    """A copy of `form` with the named layers rounded; those in `dynamic` have ranges at run time."""
    model = copy.deepcopy(form)
    for name, found in [(n, ranges[n]) for n in layers] + [(n, None) for n in dynamic]:
        parent, _, child = name.rpartition(".")
        layer = FakeQuantLayer(model.get_submodule(name), found, outputs=outputs)
        setattr(model.get_submodule(parent), child, layer)
    return model
