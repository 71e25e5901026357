"""Makes a deployment form easy to quantize, and finds its ranges, on the calibration photos.

1. The patch embedding reads grey levels, and its coarse part stays float (`quantization.narrow`).
2. Rotation (`quantization.rotate`).
3. Scales between v and `proj` (`quantization.equalise`).
4. A range for each layer's input and output (`quantization.survey`, `quantization.ranges`), once as things
   are and once with tokens of one magnitude; a layer keeps the token scale where that takes enough noise
   away.
5. Weights on the int8 grid, errors carried on (`quantization.rounding`); once more on a grid for kernels
   that add neighbouring products in 16 bits (`quantization.pairs`).
6. Bias correction (`quantization.bias`).

Steps 1 to 4 do not change the function. Every target gets the same conditioned weights and ranges, on the
grid that its kernels need.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import torch
from torch import Tensor

from edge_deit.data.calibration import CalibrationSet
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.quantization.bias import correct_biases
from edge_deit.quantization.cores import Cores
from edge_deit.quantization.equalise import equalise, equalised_layers
from edge_deit.quantization.narrow import (
    GREY_LEVELS,
    scale_tokens,
    split_coarse,
    unscale_tokens,
    use_grey_levels,
)
from edge_deit.quantization.observe import LayerView, importance_pass
from edge_deit.quantization.pairs import PairedLayer, round_layer
from edge_deit.quantization.pinning import Pinning, measure_pinning
from edge_deit.quantization.ranges import ChosenRange, choose_range
from edge_deit.quantization.rotate import rotate
from edge_deit.quantization.rounding import pair_scale
from edge_deit.quantization.scheme import LayerRanges
from edge_deit.quantization.survey import survey

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
    `paired` are the integer layers for kernels that add neighbouring products in 16 bits.
    """

    form: DeployDeiT
    unrounded: DeployDeiT
    ranges: dict[str, LayerRanges]
    exponents: dict[str, float] = field(default_factory=dict)
    token_scaled: tuple[str, ...] = ()
    methods: dict[str, tuple[str, str]] = field(default_factory=dict)
    noise: dict[str, tuple[float, float]] = field(default_factory=dict)
    pinning: Pinning | None = None
    paired: dict[str, PairedLayer] = field(default_factory=dict)

    def with_layers(
        self,
        layers: Collection[str],
        dynamic: Collection[str] = (),
        float_inputs: Collection[str] = (),
        *,
        token_ranges: bool = False,
        in_pairs: bool = False,
    ) -> DeployDeiT:
        """The form whose named layers are on the int8 grid and whose others are as they were.

        Biases make up for what fixed ranges cut off; those of layers in `dynamic` and `float_inputs` have
        nothing to make up for. A token scale stays where it is of use: in an integer layer, unless that is
        in `float_inputs`, or in `dynamic` and its runtime finds a range for each token (`token_ranges`).
        With `in_pairs` the layers in `paired` are taken from there.
        """
        model = copy.deepcopy(self.unrounded)
        for name in layers:
            state = self.form.get_submodule(name).state_dict()
            if in_pairs and (found := self.paired.get(name)) is not None:
                unrounded = self.unrounded.get_submodule(name).get_parameter("weight")
                state = {"weight": found.weight(unrounded), "bias": found.bias}
            if name in dynamic or name in float_inputs:
                state["bias"] = self.unrounded.get_submodule(name).get_parameter("bias")
            model.get_submodule(name).load_state_dict(state)
        for name in self.token_scaled:
            own = name in float_inputs or (token_ranges and name in dynamic)
            if own or name not in layers:
                unscale_tokens(model, name)
        return model

    def pair_steps(self, layers: Collection[str]) -> dict[str, Tensor]:
        """The step of each output channel (O,) of those layers that are in `paired`."""
        return {
            name: pair_scale(self.unrounded.get_submodule(name).get_parameter("weight").detach())
            for name in layers
            if name in self.paired
        }


def passes(photos: int) -> int:
    """How often `condition` calls `on_photo` for so many photos."""
    return max(2, min(photos, _EQUALISE_PHOTOS)) + photos + min(photos, _BIAS_PHOTOS)


def condition_without_photos(
    form: DeployDeiT, spec: PreprocessSpec, *, seed: int = 0
) -> Conditioned:
    """What can be done for ranges that are found at run time: rotation, and weights on the grid."""
    plain = copy.deepcopy(form)
    use_grey_levels(plain, spec)
    plain = rotate(plain, seed)
    views = {name: LayerView() for name in quantizable_layers(plain)}
    with Cores() as cores:
        rounded, paired = _rounded(plain, views, cores)
    return Conditioned(rounded, plain, {}, paired=paired)


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
        EdgeDeitError: the output is not finite on some photo.
    """
    with Cores() as cores:
        return _condition(form, photos, spec, seed, on_photo, cores)


def _condition(
    form: DeployDeiT,
    photos: CalibrationSet,
    spec: PreprocessSpec,
    seed: int,
    on_photo: Callable[[], None],
    cores: Cores,
) -> Conditioned:
    plain = copy.deepcopy(form)
    use_grey_levels(plain, spec)
    split_coarse(plain)
    plain = rotate(plain, seed)
    some = list(islice(photos, _EQUALISE_PHOTOS))
    halves: tuple[dict[str, LayerView], dict[str, LayerView]] = ({}, {})
    layers = equalised_layers(plain)
    for views, photos_of in zip(halves, (some[::2], some[1::2] or some), strict=True):
        importance_pass(
            plain, photos_of, views, layers=layers, seed=seed, on_photo=on_photo, cores=cores
        )
    exponents = equalise(plain, *halves)
    found = survey(plain, photos, on_photo, seed=seed, cores=cores)
    choices = _choices(found.plain, found.power, cores)
    kept = []
    for name, with_scale in _choices(found.scaled, found.power, cores).items():
        if sum(choices[name].noise) - sum(with_scale.noise) > _WORTH_A_TOKEN_SCALE:
            scale_tokens(plain, name)
            kept.append(name)
            choices[name] = with_scale
    ranges = {name: chosen.ranges for name, chosen in choices.items()}
    pinning = measure_pinning([one.view for one in choices.values()], photos.photo_sha256)
    rounded, paired = _rounded(plain, found.plain, cores)
    some_photos = islice(photos, _BIAS_PHOTOS)
    correct_biases(plain, rounded, ranges, some_photos, on_photo, paired=paired, cores=cores)
    return Conditioned(
        rounded,
        plain,
        ranges,
        exponents,
        tuple(kept),
        {name: chosen.methods for name, chosen in choices.items()},
        {name: chosen.noise for name, chosen in choices.items()},
        pinning,
        paired,
    )


@dataclass(frozen=True)
class _Choice:
    """A layer's ranges, how they were found, and their share of noise power in the output."""

    view: LayerView
    ranges: LayerRanges
    methods: tuple[str, str]
    noise: tuple[float, float]


def _choose(name: str, view: LayerView, power: float) -> _Choice:
    """`power` is that of the output, summed over the photos."""
    grey = ChosenRange(GREY_LEVELS, "grey levels", 0.0)
    source = grey if name == "patch_embed" else choose_range(view.input)
    result = choose_range(view.output)
    return _Choice(
        view,
        LayerRanges(source.range, result.range),
        (source.method, result.method),
        (source.noise / power, result.noise / power),
    )


def _choices(views: dict[str, LayerView], power: float, cores: Cores) -> dict[str, _Choice]:
    found = cores.map(lambda name: _choose(name, views[name], power), views)
    return dict(zip(views, found, strict=True))


def _rounded(
    form: DeployDeiT, views: dict[str, LayerView], cores: Cores
) -> tuple[DeployDeiT, dict[str, PairedLayer]]:
    """The form with weights on the int8 grid, and its integer layers in pairs."""
    rounded = copy.deepcopy(form)

    @torch.no_grad()
    def settle(name: str) -> PairedLayer | None:
        layer, view = rounded.get_submodule(name), views[name]
        weight, paired = round_layer(layer, view.moments, view.damping)
        layer.get_parameter("weight").copy_(weight)
        view.moments = None  # a wide model has a gigabyte of them
        return paired

    found = zip(views, cores.map(settle, views), strict=True)
    return rounded, {name: layer for name, layer in found if layer is not None}
