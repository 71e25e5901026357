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

    Without `ranges` the input's range is that of each token at run time, as int8-dynamic has it, or, with
    `float_input`, nothing but the weights is rounded.
    """

    def __init__(
        self,
        layer: nn.Module,
        ranges: LayerRanges | None,
        *,
        outputs: bool,
        float_input: bool = False,
    ) -> None:
        super().__init__()
        self.layer, self.ranges, self.outputs = layer, ranges, outputs
        self.float_input = float_input
        with torch.no_grad():
            weight = layer.get_parameter("weight")
            weight.copy_(round_weights(weight, None))

    def forward(self, x: Tensor) -> Tensor:
        if self.ranges is None:
            out: Tensor = self.layer(x if self.float_input else self._round(x))
            return out
        out = self.layer(round_activation(x, self.ranges.input))
        return round_activation(out, self.ranges.output) if self.outputs else out

    def _round(self, x: Tensor) -> Tensor:
        """At run time: each token by itself, for a convolution the whole photo."""
        if isinstance(self.layer, nn.Conv2d):
            return round_tokens(x.flatten(1)).reshape(x.shape)
        return round_tokens(x)


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
    float_inputs: Iterable[str] = (),
) -> DeployDeiT:
    """A copy of `form` with the named layers rounded.

    Those in `dynamic` have ranges at run time, those in `float_inputs` integer weights only.
    """
    model = copy.deepcopy(form)
    others = [(name, False) for name in dynamic] + [(name, True) for name in float_inputs]
    for name in layers:
        layer = FakeQuantLayer(model.get_submodule(name), ranges[name], outputs=outputs)
        model.set_submodule(name, layer)
    for name, floats in others:
        inner = model.get_submodule(name)
        model.set_submodule(name, FakeQuantLayer(inner, None, outputs=outputs, float_input=floats))
    return model
