"""Scales and biases of packed weights, moved together until the model's features and logits fit again.

Rounding is settled layer by layer, and what its errors do together shows at the end only. So the scales of
the groups, the biases and the table of positions follow the gradient of the distance to the exact model: in
the logits, and in the stream behind each block, whose many tokens keep few photos from being learned by
heart. The integers stay. Photos are seen as they are or as mirrored cut-outs.

Source: learned step sizes, arXiv 1902.08153 (LSQ); the blocks' outputs as aim, arXiv 2102.05426 (BRECQ).

Shapes: O output channels, C input channels, G groups.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_deit.model.form import DeployDeiT
from edge_deit.quantization.groups import short_scale
from edge_deit.quantization.packed import GroupedWeight
from edge_deit.quantization.reach import cut_out

__all__ = ["STEPS", "tune"]

STEPS: Final = 100
_BATCH: Final = 8
_WARM: Final = 10  # steps until the rates are reached
_RATE_SCALES: Final = 1e-3  # of their logarithms
_RATE_OTHERS: Final = 5e-4
_MOMENTA: Final = (0.9, 0.99)
_AS_THEY_ARE: Final = 0.5  # share of batches that are not cut


class _TunedLayer(nn.Module):
    """A Linear or convolution with fixed integers, and scales and a bias to be tuned."""

    def __init__(self, layer: nn.Module, packed: GroupedWeight) -> None:
        super().__init__()
        weight = layer.get_parameter("weight")
        self.shape, self.short = weight.shape, packed.bits < 8
        self.stride = layer.stride if isinstance(layer, nn.Conv2d) else None
        groups = packed.scales.shape[1]
        self.register_buffer("integers", packed.integers.float().view(len(weight), groups, -1))
        self.logarithms = nn.Parameter(packed.scales.log())
        self.bias = nn.Parameter(layer.get_parameter("bias").detach().clone())

    def scales(self) -> Tensor:
        """(O, G), with the digits that a file has."""
        exact = self.logarithms.exp()
        return exact + (short_scale(exact) - exact).detach() if self.short else exact

    def forward(self, x: Tensor) -> Tensor:
        integers: Tensor = self.get_buffer("integers")
        weight = (integers * self.scales()[..., None]).reshape(self.shape)
        if self.stride is not None:
            return F.conv2d(x, weight, self.bias, stride=self.stride)
        return F.linear(x, weight, self.bias)


def tune(
    exact: DeployDeiT,
    packed: Mapping[str, GroupedWeight],
    photos: Tensor,
    *,
    seed: int = 0,
    steps: int = STEPS,
    on_step: Callable[[], None] = lambda: None,
) -> tuple[DeployDeiT, dict[str, GroupedWeight]]:
    """The form with tuned biases and the packed weights, and these; the arguments are not changed.

    `photos` are (M, 3, H, W), `exact` is the form before anything was rounded.
    """
    model = _with_layers(exact, packed)
    layers = {name: model.get_submodule(name) for name in packed}
    optimizer, table = _optimizer(model)
    generator = torch.Generator().manual_seed(seed)
    rates = [group["lr"] for group in optimizer.param_groups]
    waiting: list[int] = []
    with torch.enable_grad():
        for step in range(steps):
            if len(waiting) < _BATCH:
                waiting += torch.randperm(len(photos), generator=generator).tolist()
            chosen, waiting = waiting[:_BATCH], waiting[_BATCH:]
            share = min(1, (step + 1) / _WARM) * (1 + math.cos(math.pi * step / steps)) / 2
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share
            distance = _distance(exact, model, _looks(photos[chosen], generator))
            optimizer.zero_grad()
            distance.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            on_step()
    return _finished(exact, packed, layers, table.detach())


def _with_layers(exact: DeployDeiT, packed: Mapping[str, GroupedWeight]) -> DeployDeiT:
    model = copy.deepcopy(exact).requires_grad_(False)
    for name, weight in packed.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, _TunedLayer(exact.get_submodule(name), weight))
    return model


def _optimizer(model: DeployDeiT) -> tuple[torch.optim.Optimizer, Tensor]:
    """Adam for scales, biases and the table of positions, which it makes a parameter."""
    table = nn.Parameter(model.token_table.clone())
    del model._buffers["token_table"]
    model.token_table = table
    tuned = [one for one in model.modules() if isinstance(one, _TunedLayer)]
    groups = [
        {"params": [one.logarithms for one in tuned], "lr": _RATE_SCALES},
        {"params": [*(one.bias for one in tuned), table], "lr": _RATE_OTHERS},
    ]
    return torch.optim.Adam(groups, betas=_MOMENTA), table


def _looks(photos: Tensor, generator: torch.Generator) -> Tensor:
    if float(torch.rand((), generator=generator)) < _AS_THEY_ARE:
        return photos
    return torch.cat([cut_out(photo[None], generator) for photo in photos])


def _distance(exact: DeployDeiT, model: DeployDeiT, photos: Tensor) -> Tensor:
    """Noise power of the logits, and the mean of that of all tokens behind all blocks."""
    with torch.no_grad():
        aims, wanted = _features(exact, photos)
    found, output = _features(model, photos)
    logits = (output - wanted).square().sum() / wanted.square().sum()
    streams = [
        ((one - aim).square().sum(-1) / aim.square().sum(-1).clamp_min(1e-12)).mean()
        for one, aim in zip(found, aims, strict=True)
    ]
    return logits + torch.stack(streams).mean()


def _features(form: DeployDeiT, photos: Tensor) -> tuple[list[Tensor], Tensor]:
    """The stream behind each block (B, N, D), and the output."""
    stream, found = form.embed(photos), []
    for block in form.blocks:
        stream = block(stream)
        found.append(stream)
    return found, form.read(stream)


def _finished(
    exact: DeployDeiT,
    packed: Mapping[str, GroupedWeight],
    layers: Mapping[str, nn.Module],
    table: Tensor,
) -> tuple[DeployDeiT, dict[str, GroupedWeight]]:
    form, found = copy.deepcopy(exact), dict[str, GroupedWeight]()
    with torch.no_grad():
        form.token_table.copy_(table)
        for name, before in packed.items():
            layer = layers[name]
            assert isinstance(layer, _TunedLayer)
            scales = layer.scales().detach()
            found[name] = GroupedWeight(before.bits, before.integers, scales.clone())
            place = form.get_submodule(name)
            place.get_parameter("bias").copy_(layer.bias)
            weight = place.get_parameter("weight")
            weight.copy_(found[name].weight().reshape(weight.shape))
    return form, found
