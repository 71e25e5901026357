"""A deployment form that learns while its layers round: weights, ranges and scales follow the loss.

Rounding has no gradient to speak of, so the gradient passes through it as if it were not there, inside the
range; the ends of a range and the scale of a group have the gradient that follows from it. Weights in 8
bits have one scale a row, the greatest magnitude / 127, which the backends find again.

`int8` rounds each layer's weights, input and output, the latter two over fixed ranges, as those targets do
that round most. `int4` rounds weights in groups, and each token that a Linear reads over its own range.

Sources: straight-through gradients arXiv 1308.3432; learned steps arXiv 1902.08153 (LSQ); learned zero
points arXiv 2004.09576 (LSQ+).

Shapes: O output channels, C input channels, G groups, B photos, K classes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.quantization.condition import Conditioned
from edge_deit.quantization.fakequant import round_tokens
from edge_deit.quantization.groups import rounded_steps, short_scale
from edge_deit.quantization.packed import GroupedWeight
from edge_deit.quantization.ranges import STEPS, read_together
from edge_deit.quantization.rounding import GREATEST, int8_scale
from edge_deit.quantization.scheme import Range

__all__ = ["LearnedLayer", "LearnedRange", "Learner", "groups_learner", "integer_learner"]

_EMBEDDING: Final = "patch_embed"
_LEAST_END: Final = 1e-4  # of a range, as a share of its width
_NEAR: Final = 0.49  # of a step: so far from its integer a weight may begin


class LearnedRange(nn.Module):
    """256 integers over a range that is learned, asymmetric, with an exact zero."""

    def __init__(self, ends: Range) -> None:
        super().__init__()
        sizes = torch.tensor([-ends[0], ends[1]], dtype=torch.float32)
        self.logarithms = nn.Parameter(sizes.clamp_min(_LEAST_END * float(sizes.sum())).log())

    def grid(self) -> tuple[Tensor, Tensor]:
        """The step and the place of zero among the integers, (1,) each; the place is no integer yet."""
        sizes = self.logarithms.exp()
        low, high = sizes[:1], sizes[1:]
        step = (low + high) / STEPS
        return step, low / step

    def forward(self, x: Tensor) -> Tensor:
        step, zero = self.grid()
        if not math.isfinite(float(zero.detach())):
            return x * torch.nan  # the loss says that the learning rate is too high
        found: Tensor = torch._fake_quantize_learnable_per_tensor_affine(x, step, zero, 0, STEPS)
        return found

    def ends(self) -> Range:
        """The least and the greatest value that there is an integer for."""
        step, zero = (float(one.detach()) for one in self.grid())
        place = min(STEPS, int(zero + 0.5))  # as the rounding above takes it
        return -place * step, (STEPS - place) * step


class _RowWeight(nn.Module):
    """Weights (O, C, ...) in 8 bits, one scale a row: its greatest magnitude / 127."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.register_buffer("zeros", torch.zeros(len(weight), dtype=torch.int32))

    def forward(self) -> Tensor:
        scale = int8_scale(self.weight.detach())
        zeros = self.get_buffer("zeros")
        return torch.fake_quantize_per_channel_affine(
            self.weight, scale, zeros, 0, -GREATEST, GREATEST
        )


class _GroupWeight(nn.Module):
    """Weights (O, C, ...) in few bits with a learned scale for each group of input channels."""

    def __init__(self, weight: Tensor, packed: GroupedWeight) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bits = packed.bits
        self.logarithms = nn.Parameter(packed.scales.log())
        self.register_buffer("zeros", torch.zeros(packed.scales.numel()))

    def scales(self) -> Tensor:
        """(O, G), with the digits that a file has."""
        exact = self.logarithms.exp()
        return exact + (short_scale(exact) - exact).detach() if self.bits < 8 else exact

    def forward(self) -> Tensor:
        scales = self.scales()
        greatest = 2 ** (self.bits - 1) - 1
        least = -greatest - (self.bits < 8)
        rounded: Tensor = torch._fake_quantize_learnable_per_channel_affine(
            self.weight.reshape(scales.numel(), -1), scales.flatten(), self.get_buffer("zeros"),
            0, least, greatest,
        )  # fmt: skip
        return rounded.reshape(self.weight.shape)

    def packed(self) -> GroupedWeight:
        """What a file stores of them."""
        scales = self.scales().detach().cpu()
        if self.bits < 8:
            scales = short_scale(scales)  # the sum above has an error of its own
        parts = self.weight.detach().cpu().reshape(*scales.shape, -1)  # (O, G, C / G)
        integers = rounded_steps(parts / scales[..., None], self.bits)
        return GroupedWeight(
            self.bits, integers.reshape(len(scales), -1).to(torch.int8), scales.clone()
        )


class LearnedLayer(nn.Module):
    """A Linear or convolution whose weights round, and what it reads and writes too where it says so.

    `source` and `result` round its input and its output; None leaves them as they are.
    """

    def __init__(
        self,
        layer: nn.Module,
        weight: _RowWeight | _GroupWeight,
        source: nn.Module | None,
        result: nn.Module | None,
        *,
        learns_bias: bool = True,
    ) -> None:
        super().__init__()
        self.stride = layer.stride if isinstance(layer, nn.Conv2d) else None
        bias = layer.get_parameter("bias").detach().clone()
        self.bias = nn.Parameter(bias, requires_grad=learns_bias)
        self.rounded, self.source, self.result = weight, source, result

    def forward(self, x: Tensor) -> Tensor:
        if self.source is not None:
            x = self.source(x)
        weight = self.rounded()
        if self.stride is not None:
            out = F.conv2d(x, weight, self.bias, stride=self.stride)
        else:
            out = F.linear(x, weight, self.bias)
        return out if self.result is None else self.result(out)

    def packed(self) -> GroupedWeight:
        """What a file stores of weights in groups."""
        assert isinstance(self.rounded, _GroupWeight)
        return self.rounded.packed()


class _EachToken(nn.Module):
    """Each token over its own 256 integers; the gradient passes through."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (round_tokens(x) - x).detach()


class _FixedRange(LearnedRange):
    """A range that is known, such as that of grey levels: it does not learn."""

    def __init__(self, ends: Range) -> None:
        super().__init__(ends)
        self.logarithms.requires_grad_(False)
        self._ends = ends

    def forward(self, x: Tensor) -> Tensor:
        step = (self._ends[1] - self._ends[0]) / STEPS
        return torch.fake_quantize_per_tensor_affine(
            x, step, round(-self._ends[0] / step), 0, STEPS
        )

    def ends(self) -> Range:
        return self._ends


class Learner(nn.Module):
    """Pixels (B, 3, H, W) -> logits (B, K) of a form whose `layers` round.

    What learns is a parameter that wants a gradient.
    """

    def __init__(self, form: DeployDeiT, layers: Mapping[str, LearnedLayer]) -> None:
        super().__init__()
        self.form = copy.deepcopy(form).requires_grad_(False)
        self.names = tuple(layers)
        for name, layer in layers.items():
            self.form.set_submodule(name, layer)
        table = nn.Parameter(self.form.token_table.clone())
        del self.form._buffers["token_table"]
        self.form.token_table = table
        self.config = form.config

    @property
    def blocks(self) -> nn.ModuleList:
        """The form's blocks."""
        return self.form.blocks

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.form(pixels)
        return logits

    def layer(self, name: str) -> LearnedLayer:
        """The layer of that name in the form."""
        found = self.form.get_submodule(name)
        assert isinstance(found, LearnedLayer)
        return found

    def parameter_groups(self, weight_decay: float, scales: float) -> list[dict[str, Any]]:
        """For the optimizer: weights, which decay; biases and positions; ranges and scales.

        `scale` of a group is its factor of the learning rate, `scales` that of ranges and scales, which
        are learned as logarithms.
        """
        weights, others, logarithms = list[Tensor](), list[Tensor](), list[Tensor]()
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                continue
            kind = name.rpartition(".")[2]
            place = {"weight": weights, "logarithms": logarithms}.get(kind, others)
            place.append(parameter)
        found = [(weights, weight_decay, 1.0), (others, 0.0, 1.0), (logarithms, 0.0, scales)]
        return [{"params": p, "weight_decay": d, "scale": s} for p, d, s in found if p]

    def plain(self, like: DeployDeiT) -> DeployDeiT:
        """A form as `like` with the learned positions and biases, and weights before rounding."""
        made = copy.deepcopy(like)
        with torch.no_grad():
            made.token_table.copy_(self.form.token_table)
            for name in self.names:
                layer, place = self.layer(name), made.get_submodule(name)
                place.get_parameter("weight").copy_(layer.rounded.weight)
                place.get_parameter("bias").copy_(layer.bias)
        return made.eval()


def integer_learner(start: Conditioned) -> Learner:
    """What `int8` learns from a conditioned form that has ranges: all of its integer layers.

    Layers that read one tensor share its range. Those with tokens of one magnitude keep their bias, which
    is zero there.
    """
    layers, sources = {}, dict[str, LearnedRange]()
    for name in quantizable_layers(start.form):
        layer = start.form.get_submodule(name)
        exact = start.unrounded.get_submodule(name).get_parameter("weight").detach()
        rounded = layer.get_parameter("weight").detach()
        scale = int8_scale(rounded).view(-1, *[1] * (rounded.ndim - 1))
        ends = start.ranges[name]
        read = read_together(name)
        if read not in sources:  # grey levels are integers already
            sources[read] = (_FixedRange if name == _EMBEDDING else LearnedRange)(ends.input)
        layers[name] = LearnedLayer(
            layer,
            _RowWeight(_near(exact, rounded, scale)),
            sources[read],
            LearnedRange(ends.output),
            learns_bias=name not in start.token_scaled,
        )
    return Learner(start.form, layers)


def groups_learner(form: DeployDeiT, packed: Mapping[str, GroupedWeight]) -> Learner:
    """What `int4` learns from the exact form and its packed weights."""
    layers = {}
    for name, found in packed.items():
        layer = form.get_submodule(name)
        exact = layer.get_parameter("weight").detach()
        scale = found.scales.repeat_interleave(found.group, 1).reshape(exact.shape)
        weight = _GroupWeight(_near(exact, found.weight().reshape(exact.shape), scale), found)
        tokens = _EachToken() if isinstance(layer, nn.Linear) else None
        layers[name] = LearnedLayer(layer, weight, tokens, None)
    return Learner(form, layers)


def _near(exact: Tensor, rounded: Tensor, scale: Tensor) -> Tensor:
    """The exact weights, moved to where they round as `rounded` has it."""
    reach = _NEAR * scale
    return rounded + (exact - rounded).clamp(-reach, reach)
