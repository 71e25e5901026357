"""Integers that training with simulated rounding begins with and leaves: an export takes them as they are.

`int8` is a conditioned form whose weights, biases and ranges were learned; `int4` the form that a file
computes and its packed weights. Both are kept as tensors and a text, beside the float model that they come
from.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from edge_deit.common.fields import STRICT
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.config import DeiTConfig
from edge_deit.model.file_form import read_grey_levels
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.quantization.condition import Conditioned
from edge_deit.quantization.fakequant import fake_quantize
from edge_deit.quantization.groups import (
    group_of,
    in_whole_groups,
    pack_in_groups,
    short_scale,
)
from edge_deit.quantization.learner import LearnedRange, Learner
from edge_deit.quantization.mix import eight_at_first, first_to_keep, weigh_layers, with_weights
from edge_deit.quantization.packed import GroupedWeight
from edge_deit.quantization.pairs import PairedLayer
from edge_deit.quantization.reach import reach_of
from edge_deit.quantization.rotate import rotate
from edge_deit.quantization.rounding import fits_pairs, round_in_pairs
from edge_deit.quantization.scheme import LayerRanges
from edge_deit.quantization.stored import (
    check_values,
    conditioned_from_tensors,
    conditioned_to_tensors,
    fill,
    read_text,
)

__all__ = [
    "Trained",
    "TrainedGroups",
    "TrainedPrecision",
    "exact_form",
    "groups_to_begin_with",
    "learned_groups",
    "learned_integers",
    "simulated",
    "trained_from_tensors",
    "trained_to_tensors",
]

TrainedPrecision = Literal["int8", "int4"]

_WEIGHED_ON: Final = 16
_EMBEDDING: Final = "patch_embed"
_LONGEST: Final = 60  # characters of a method's name


@dataclass(frozen=True)
class TrainedGroups:
    """The form of an int4 file, its weights exactly the packed ones, and these."""

    form: DeployDeiT
    packed: dict[str, GroupedWeight]


Trained = Conditioned | TrainedGroups


# What int4 begins with


def exact_form(form: DeployDeiT, spec: PreprocessSpec, seed: int) -> DeployDeiT:
    """What int4 weights are rounded from: a copy that reads grey levels, rotated."""
    made = copy.deepcopy(form)
    read_grey_levels(made, spec.mean, spec.std)
    return rotate(made, seed).eval()


def groups_to_begin_with(
    form: DeployDeiT,
    photos: Sequence[Tensor],
    *,
    seed: int,
    on_photo: Callable[[], None] = lambda: None,
) -> dict[str, GroupedWeight]:
    """The packed weights of an exact form, the layers that suffer most in 8 bits; photos are (1, 3, H, W).

    It is what an export without limits takes, before scales and biases are tuned.
    """
    layers = quantizable_layers(form)
    weights = {name: form.get_submodule(name).get_parameter("weight") for name in layers}
    narrow = {n: w for n, w in weights.items() if in_whole_groups(form.get_submodule(n))}
    reach = reach_of(form, photos, seed=seed, on_photo=on_photo)
    four = pack_in_groups(narrow, dict.fromkeys(narrow, 4), reach)
    eight = pack_in_groups(weights, dict.fromkeys(layers, 8), {})
    order = first_to_keep(weigh_layers(form, four, eight, photos[:_WEIGHED_ON]))
    wide = {one.layer for one in order[: eight_at_first(order, four)]}
    return {
        name: four[name] if name in four and name not in wide else eight[name] for name in layers
    }


# What is left at the end


def learned_integers(learner: Learner, start: Conditioned) -> Conditioned:
    """What int8 files are made of, from a learner that `start` began."""
    unrounded = learner.plain(start.unrounded)
    form, paired = copy.deepcopy(unrounded), dict[str, PairedLayer]()
    ranges: dict[str, LayerRanges] = {}
    with torch.no_grad():
        for name in learner.names:
            layer, place = learner.layer(name), form.get_submodule(name)
            if isinstance(place, torch.nn.Linear):
                integers = round_in_pairs(place.weight, None)
                paired[name] = PairedLayer(integers, place.bias.detach().clone())
            place.get_parameter("weight").copy_(layer.rounded())
            assert isinstance(layer.source, LearnedRange)
            assert isinstance(layer.result, LearnedRange)
            ranges[name] = LayerRanges(layer.source.ends(), layer.result.ends())
    methods = dict.fromkeys(learner.names, ("learned", "learned"))
    methods[_EMBEDDING] = start.methods[_EMBEDDING][0], "learned"
    return Conditioned(
        form,
        unrounded,
        ranges,
        start.exponents,
        start.token_scaled,
        methods,
        start.noise,
        None,
        paired,
    )


def learned_groups(learner: Learner, start: DeployDeiT) -> TrainedGroups:
    """What int4 files are made of, from a learner that the exact form `start` began."""
    packed = {name: learner.layer(name).packed() for name in learner.names}
    return TrainedGroups(with_weights(learner.plain(start), packed), packed)


def simulated(found: Trained) -> DeployDeiT:
    """What a file computes, in float arithmetic: of int8 results are rounded too, of int4 tokens."""
    if isinstance(found, TrainedGroups):
        return with_weights(found.form, found.packed, found.packed).eval()
    layers = list(found.ranges)
    return fake_quantize(found.with_layers(layers), layers, found.ranges, outputs=True).eval()


# As tensors


@dataclass(frozen=True)
class _Bits:
    """The bits of each packed layer."""

    __pydantic_config__ = STRICT

    bits: dict[str, Literal[4, 8]]


def trained_to_tensors(found: Trained) -> tuple[TrainedPrecision, str, dict[str, Tensor]]:
    """Its precision, what of it is no tensor, as JSON, and its tensors by name."""
    if isinstance(found, Conditioned):
        return "int8", *conditioned_to_tensors(found)
    weights = {f"{name}.weight" for name in found.packed}
    tensors = {
        f"form.{name}": value.detach().contiguous()
        for name, value in found.form.state_dict().items()
        if name not in weights
    }
    for name, one in found.packed.items():
        tensors |= {f"integers.{name}": one.integers, f"scales.{name}": one.scales}
    bits = {name: one.bits for name, one in found.packed.items()}
    return "int4", json.dumps({"bits": bits}), tensors


def trained_from_tensors(
    precision: TrainedPrecision,
    text: str,
    tensors: Mapping[str, Tensor],
    config: DeiTConfig,
    spec: PreprocessSpec,
) -> Trained:
    """The reverse of `trained_to_tensors`, for the model that it belongs to.

    Raises:
        KeyError, ValueError, TypeError, RuntimeError: it is none, or belongs to another model.
    """
    found: Trained
    if precision == "int8":
        found = conditioned_from_tensors(text, tensors, config, spec)
        _check_conditioned(found)
    else:
        found = _groups_from_tensors(text, tensors, config, spec)
    if unknown := tensors.keys() - trained_to_tensors(found)[2].keys():
        raise ValueError(f"{min(unknown):.60} is unknown")
    return found


def _groups_from_tensors(
    text: str, tensors: Mapping[str, Tensor], config: DeiTConfig, spec: PreprocessSpec
) -> TrainedGroups:
    bits = read_text(_Bits, text).bits
    form = DeployDeiT(config)
    read_grey_levels(form, spec.mean, spec.std)
    if bits.keys() != set(quantizable_layers(form)):
        raise ValueError("its layers are another model's")
    packed = {}
    for name, count in bits.items():
        parts = (tensors.get(f"{kind}.{name}") for kind in ("integers", "scales"))
        packed[name] = _checked(name, form.get_submodule(name), count, *parts)
    state = {n.removeprefix("form."): v for n, v in tensors.items() if n.startswith("form.")}
    for name, one in packed.items():
        shape = form.get_submodule(name).get_parameter("weight").shape
        state[f"{name}.weight"] = one.weight().reshape(shape)
    fill(form, state)
    return TrainedGroups(form.eval(), packed)


def _check_conditioned(found: Conditioned) -> None:
    """Ranges that can be, and integers in pairs that kernels can add."""
    layers = quantizable_layers(found.form)
    named = *found.exponents, *found.noise, *found.token_scaled
    if not {*named} <= {*layers} or len({*found.token_scaled}) < len(found.token_scaled):
        raise ValueError("a layer is another model's, or named twice")
    if any(
        len(one) > _LONGEST or not one.isprintable() for m in found.methods.values() for one in m
    ):
        raise ValueError("a method that found a range has no name")
    if found.ranges.keys() != {*layers} or not found.methods.keys() <= {*layers}:
        raise ValueError("its ranges are not those of the model's layers")
    for name, ends in found.ranges.items():
        for low, high in (ends.input, ends.output):
            if not -math.inf < low <= 0 <= high < math.inf or low == high:
                raise ValueError(f"a range of {name} is none: {low:g} to {high:g}")
    linears = {n for n in layers if isinstance(found.form.get_submodule(n), torch.nn.Linear)}
    if found.paired.keys() != linears:
        raise ValueError("its integers in pairs are not those of the model's layers")
    for name, one in found.paired.items():
        layer = found.form.get_submodule(name)
        if one.integers.shape != layer.get_parameter("weight").shape:
            raise ValueError(f"the integers in pairs of {name} have another shape")
        check_values(f"paired.bias.{name}", one.bias, layer.get_parameter("bias").shape)
        if one.integers.dtype != torch.int8 or not fits_pairs(one.integers):
            raise ValueError(f"neighbouring integers of {name} are too large to be added")


def _checked(
    name: str, layer: torch.nn.Module, bits: int, integers: Tensor | None, scales: Tensor | None
) -> GroupedWeight:
    """Integers and scales that a file of ours has, for the layer."""
    if integers is None or scales is None:
        raise ValueError(f"the integers or scales of {name} are missing")
    if bits < 8 and not in_whole_groups(layer):
        raise ValueError(f"{name} cannot be in {bits} bits")
    rows, channels = layer.get_parameter("weight").flatten(1).shape
    if integers.dtype != torch.int8 or integers.shape != (rows, channels):
        raise ValueError(f"the integers of {name} have another type or shape")
    check_values(f"scales.{name}", scales, (rows, channels // group_of(channels, bits)))
    most = 2 ** (bits - 1) - 1
    if int(integers.min()) < -most - (bits < 8) or int(integers.max()) > most:
        raise ValueError(f"an integer of {name} needs more than {bits} bits")
    if not bool((scales > 0).all()):
        raise ValueError(f"a scale of {name} is not positive")
    if bits < 8 and not torch.equal(scales, short_scale(scales)):
        raise ValueError(f"a scale of {name} has more digits than files have")
    return GroupedWeight(bits, integers, scales)
