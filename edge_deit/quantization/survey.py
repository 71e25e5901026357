"""One pass over all photos for the ranges: each layer as it is, and with tokens of one magnitude.

A token scale (`quantization.narrow`) does not change the function, so what a layer would see with it
follows from what it sees without: tokens x / r, outputs (y - b) / r, and gradients r times as large. The
second moments are the same in both, and only the layer as it is has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_deit.model.form import DeployDeiT, TokenScale, quantizable_layers
from edge_deit.quantization.cores import ALONE, Cores
from edge_deit.quantization.histogram import Histogram
from edge_deit.quantization.narrow import token_scalable
from edge_deit.quantization.observe import LayerView, TensorView, take_in
from edge_deit.quantization.seen import SeenLayer, look_at

__all__ = ["Survey", "survey"]


@dataclass(frozen=True)
class Survey:
    """What all photos show: every layer, those that can have a token scale with it, the output's power."""

    plain: dict[str, LayerView]
    scaled: dict[str, LayerView]
    power: float


def survey(
    form: DeployDeiT,
    photos: Iterable[Tensor],
    on_photo: Callable[[], None] = lambda: None,
    *,
    seed: int = 0,
    cores: Cores = ALONE,
) -> Survey:
    """Look at the photos, (1, 3, H, W) each.

    Raises:
        EdgeDeitError: the output is not finite.
    """
    plain = {name: _empty(name) for name in quantizable_layers(form)}
    scales = {name: _token_scale(form.get_submodule(name)) for name in token_scalable(form)}
    scaled = {name: _empty(name) for name in scales}
    power = 0.0
    for output, seen in look_at(form, photos, plain, seed, cores):
        power += float(output.square().sum())
        take_in(plain, seen, cores)
        cores.map(_take_in_scaled, [(scaled[name], seen[name], scales[name]) for name in scales])
        cores.map(_add_moments, [(plain[name], one) for name, one in seen.items()])
        on_photo()
    return Survey(plain, scaled, power)


def _empty(name: str) -> LayerView:
    before_gelu = Histogram(before_gelu=name.endswith("fc1"))
    return LayerView(TensorView(histogram=Histogram()), TensorView(histogram=before_gelu))


def _add_moments(shown: tuple[LayerView, SeenLayer]) -> None:
    view, one = shown
    view.add_moments(one.input, one.output_importance.sum(1, keepdim=True))


def _token_scale(layer: nn.Module) -> TokenScale:
    assert isinstance(layer, nn.Linear)
    return TokenScale(layer.in_features, layer.bias.detach())


@torch.no_grad()
def _take_in_scaled(shown: tuple[LayerView, SeenLayer, TokenScale]) -> None:
    """Show a view what its layer would see with its token scale."""
    view, one, scale = shown
    assert one.input_importance is not None
    direction, size = scale(one.input)  # (N, C), (N, 1)
    square = size.square()
    view.input.add(direction, one.input_importance * square)
    view.output.add((one.output - scale.bias) / size, one.output_importance * square)
