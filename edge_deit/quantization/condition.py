"""Makes a deployment form easy to quantize, and finds its ranges, on the calibration photos.

1. The patch embedding reads grey levels, and its coarse part stays float (`quantization.narrow`).
2. Rotation (`quantization.rotate`).
3. Scales between v and `proj` (`quantization.equalise`).
4. A range for each layer's input and output (`quantization.ranges`), once as things are and once with
   tokens of one magnitude; a layer keeps the token scale where that takes enough noise away.
5. Weights on the int8 grid, errors carried on (`quantization.rounding`).
6. Bias correction: the mean error that rounding leaves in each output channel is taken from its bias.

Steps 1 to 4 do not change the function. Every target gets the same conditioned weights and ranges.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import torch
from torch import Tensor, nn

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.calibration import CalibrationSet
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.model.hooks import watching
from edge_deit.quantization.equalise import equalise
from edge_deit.quantization.fakequant import round_activation
from edge_deit.quantization.narrow import (
    GREY_LEVELS,
    scale_tokens,
    split_coarse,
    token_scalable,
    unscale_tokens,
    use_grey_levels,
)
from edge_deit.quantization.observe import Histogram, LayerView, importance_pass, rows
from edge_deit.quantization.pinning import Pinning, measure_pinning
from edge_deit.quantization.ranges import ChosenRange, choose_range
from edge_deit.quantization.rotate import rotate
from edge_deit.quantization.rounding import round_weights
from edge_deit.quantization.scheme import LayerRanges

__all__ = ["Conditioned", "condition", "condition_without_photos", "passes"]

_EQUALISE_PHOTOS: Final = 32
_BIAS_PHOTOS: Final = 32
_WORTH_A_TOKEN_SCALE: Final = 5e-5  # share of the output's power


@dataclass(frozen=True)
class Conditioned:
    """The conditioned form, its ranges, and how they came about.

    `form` has weights on the int8 grid, `unrounded` is the same before steps 5 and 6. `exponents` are
    those of the scaled layers, `token_scaled` the layers with tokens of one magnitude, `methods` say how
    each range was found, `noise` is each layer's predicted share of noise power in the output (from its
    input, from its output). `pinning` says how well the photos pin the ranges, None without photos.
    """

    form: DeployDeiT
    unrounded: DeployDeiT
    ranges: dict[str, LayerRanges]
    exponents: dict[str, float] = field(default_factory=dict)
    token_scaled: tuple[str, ...] = ()
    methods: dict[str, tuple[str, str]] = field(default_factory=dict)
    noise: dict[str, tuple[float, float]] = field(default_factory=dict)
    pinning: Pinning | None = None

    def with_layers(
        self, layers: Collection[str], dynamic: Collection[str] = (), *, token_ranges: bool = False
    ) -> DeployDeiT:
        """The form whose named layers are on the int8 grid and whose others are as they were.

        Biases make up for what fixed ranges cut off; those of layers in `dynamic` have nothing to make up
        for. A token scale stays where it is of use: in an integer layer, unless that is in `dynamic` and
        its runtime finds a range for each token (`token_ranges`).
        """
        model = copy.deepcopy(self.unrounded)
        for name in layers:
            state = self.form.get_submodule(name).state_dict()
            if name in dynamic:
                state["bias"] = self.unrounded.get_submodule(name).get_parameter("bias")
            model.get_submodule(name).load_state_dict(state)
        for name in self.token_scaled:
            if name not in layers or (token_ranges and name in dynamic):
                unscale_tokens(model, name)
        return model


def passes(photos: int) -> int:
    """How often `condition` calls `on_photo` for so many photos."""
    return max(2, min(photos, _EQUALISE_PHOTOS)) + 2 * photos


def condition_without_photos(
    form: DeployDeiT, spec: PreprocessSpec, *, seed: int = 0
) -> Conditioned:
    """What can be done for ranges that are found at run time: rotation, and weights on the grid."""
    plain = copy.deepcopy(form)
    use_grey_levels(plain, spec)
    plain = rotate(plain, seed)
    views = {name: LayerView.empty(0, 0) for name in quantizable_layers(plain)}
    return Conditioned(_round(plain, views), plain, {})


@dataclass(frozen=True)
class _Observed:
    """One form seen on all photos: views, chosen ranges, mean power of the output."""

    views: dict[str, LayerView]
    inputs: dict[str, ChosenRange]
    outputs: dict[str, ChosenRange]
    power: float

    def noise(self, name: str) -> tuple[float, float]:
        """Predicted share of noise power from a layer's input and from its output."""
        total = self.power * self.views[name].input.photos
        return self.inputs[name].noise / total, self.outputs[name].noise / total


def condition(
    form: DeployDeiT,
    photos: CalibrationSet,
    spec: PreprocessSpec,
    *,
    seed: int = 0,
    on_photo: Callable[[], None] = lambda: None,
) -> Conditioned:
    """Condition `form`, which is not changed; `on_photo` is called after each photo of each pass.

    Raises:
        EdgeDeitError: a layer's values are not finite on some photo.
    """
    plain = copy.deepcopy(form)
    use_grey_levels(plain, spec)
    split_coarse(plain)
    plain = rotate(plain, seed)
    some = list(islice(photos, _EQUALISE_PHOTOS))
    halves: tuple[dict[str, LayerView], dict[str, LayerView]] = ({}, {})
    importance_pass(plain, some[::2], halves[0], on_photo=on_photo)
    importance_pass(plain, some[1::2] or some, halves[1], on_photo=on_photo)
    exponents = equalise(plain, *halves)
    scaled = copy.deepcopy(plain)
    for name in token_scalable(scaled):
        scale_tokens(scaled, name)
    found = _observe(plain, photos, quantizable_layers(plain), on_photo)
    with_scale = _observe(scaled, photos, token_scalable(scaled), on_photo)
    kept = []
    for name in token_scalable(plain):
        if sum(found.noise(name)) - sum(with_scale.noise(name)) > _WORTH_A_TOKEN_SCALE:
            scale_tokens(plain, name)
            kept.append(name)
            found.views[name] = with_scale.views[name]
            found.inputs[name] = with_scale.inputs[name]
            found.outputs[name] = with_scale.outputs[name]
    ranges = {n: LayerRanges(found.inputs[n].range, found.outputs[n].range) for n in found.views}
    rounded = _round(plain, found.views)
    _correct_biases(plain, rounded, ranges, islice(photos, _BIAS_PHOTOS))
    return Conditioned(
        rounded,
        plain,
        ranges,
        exponents,
        tuple(kept),
        {name: (found.inputs[name].method, found.outputs[name].method) for name in ranges},
        {name: found.noise(name) for name in ranges},
        measure_pinning(found.views.values(), photos.photo_sha256),
    )


def _observe(
    form: DeployDeiT, photos: CalibrationSet, layers: list[str], on_photo: Callable[[], None]
) -> _Observed:
    views = _histogram_views(form, photos, layers)
    power = importance_pass(form, photos, views, layers=layers, moments=True, on_photo=on_photo)
    inputs = {name: choose_range(view.input) for name, view in views.items()}
    if "patch_embed" in inputs:
        inputs["patch_embed"] = ChosenRange(GREY_LEVELS, "grey levels", 0.0)
    outputs = {name: choose_range(view.output) for name, view in views.items()}
    return _Observed(views, inputs, outputs, power)


def _histogram_views(
    form: DeployDeiT, photos: CalibrationSet, layers: list[str]
) -> dict[str, LayerView]:
    """Empty views whose histograms span each tensor's extremes over the photos."""
    spans: dict[str, list[float]] = {}

    def keep(name: str, layer: nn.Module, x: Tensor, y: Tensor) -> None:
        new = [*x.aminmax(), *y.aminmax()]
        old = spans.get(name, [0.0, 0.0, 0.0, 0.0])
        pick = (min, max, min, max)
        spans[name] = [f(o, float(n)) for f, o, n in zip(pick, old, new, strict=True)]

    wanted = {name: form.get_submodule(name) for name in layers}
    with watching(wanted, keep), torch.inference_mode():
        for photo in photos:
            if not form(photo).isfinite().all():
                raise EdgeDeitError(
                    "the model's output is not finite on a calibration photo; check the weights"
                )
    views = {}
    for name, layer in wanted.items():
        weight = layer.get_parameter("weight").flatten(1)
        view = LayerView.empty(weight.shape[1], weight.shape[0])
        least_in, greatest_in, least_out, greatest_out = spans[name]
        view.input.histogram = Histogram(least_in, greatest_in)
        before_gelu = name.endswith("fc1")
        view.output.histogram = Histogram(least_out, greatest_out, before_gelu)
        views[name] = view
    return views


def _round(form: DeployDeiT, views: dict[str, LayerView]) -> DeployDeiT:
    rounded = copy.deepcopy(form)
    with torch.no_grad():
        for name, view in views.items():
            weight = rounded.get_submodule(name).get_parameter("weight")
            weight.copy_(round_weights(weight, view.moments))
    return rounded


def _correct_biases(
    exact: DeployDeiT,
    rounded: DeployDeiT,
    ranges: dict[str, LayerRanges],
    photos: Iterable[Tensor],
) -> None:
    """Take the mean output error of each layer, its input rounded too, from the rounded layer's bias."""
    errors: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def compare(name: str, layer: nn.Module, x: Tensor, y: Tensor) -> None:
        actual = rounded.get_submodule(name)(round_activation(x, ranges[name].input))
        error = rows(layer, actual - y, output=True).double()
        errors[name] = errors.get(name, torch.zeros(error.shape[1])) + error.sum(0)
        counts[name] = counts.get(name, 0) + len(error)

    layers = {name: exact.get_submodule(name) for name in ranges}
    with watching(layers, compare), torch.inference_mode():
        for photo in photos:
            exact(photo)
    with torch.no_grad():
        for name, error in errors.items():
            bias = rounded.get_submodule(name).get_parameter("bias")
            bias.sub_((error / counts[name]).float())
