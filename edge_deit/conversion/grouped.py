"""The form that an int4 file computes, and its packed weights: made when first asked for, and kept.

The steps: rotation; how far errors reach, on the calibration photos; every layer in 4 and in 8 bits; what
each layer in 4 bits does to the output; the mix; scales and biases tuned for that mix.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import torch
from torch import Tensor

from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.kept import kept
from edge_deit.data.listing import pick_evenly
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.quantization.groups import in_whole_groups, pack_in_groups
from edge_deit.quantization.mix import Weighed, weigh_layers, with_weights
from edge_deit.quantization.packed import GroupedWeight
from edge_deit.quantization.reach import passes, reach_of
from edge_deit.quantization.scheme import Scheme
from edge_deit.quantization.trained import TrainedGroups, exact_form
from edge_deit.quantization.tuning import STEPS, tune

__all__ = ["Choices", "choices_for", "pack_groups"]

_WEIGHED_ON: Final = 16
_WHAT: Final = "int4 weights"
_LOCK: Final = threading.RLock()
"""Files are made side by side, and all have the same weights."""


@dataclass(frozen=True)
class Choices:
    """The exact form, its layers in 4 and in 8 bits, and what each does in 4, the worst a byte first.

    Layers that are never in 4 bits, convolutions and those without whole groups, are not among `weighed`.
    """

    form: DeployDeiT
    four: Mapping[str, GroupedWeight]
    eight: Mapping[str, GroupedWeight]
    weighed: tuple[Weighed, ...]

    def packed(self, scheme: Scheme) -> dict[str, GroupedWeight]:
        """The scheme's layers, each in the bits that it has there."""
        found = {}
        for name in scheme.quantized_layers(self.form):
            wide = name in scheme.eight or name not in self.four
            found[name] = self.eight[name] if wide else self.four[name]
        return found


def choices_for(context: ExportContext) -> Choices:
    """What int4 files of this export choose from."""
    with _LOCK:
        if "choices" not in context.groups:
            context.groups["choices"] = _choices(context)
        found = context.groups["choices"]
        assert isinstance(found, Choices)
        return found


def pack_groups(
    context: ExportContext, scheme: Scheme
) -> tuple[DeployDeiT, dict[str, GroupedWeight]]:
    """The form whose weights are exactly the packed ones, and these; scales and biases are tuned.

    Where the checkpoint brings trained ones along, they are taken.
    """
    if isinstance(context.trained, TrainedGroups):
        return context.trained.form, context.trained.packed
    with _LOCK:
        key = "tuned", scheme.keep_float, scheme.eight
        if key not in context.groups:
            context.groups[key] = _tuned(context, choices_for(context), scheme)
        found: tuple[DeployDeiT, dict[str, GroupedWeight]] = context.groups[key]
        return found


def _choices(context: ExportContext) -> Choices:
    form = exact_form(context.form, context.checkpoint.preprocess, context.seed)
    narrow = [n for n in quantizable_layers(form) if in_whole_groups(form.get_submodule(n))]

    def make() -> tuple[dict[str, Tensor], str]:
        photos, progress = list(context.calibration), context.progress
        with progress.task("reach of errors", passes(len(photos))) as advance:
            reach = reach_of(form, photos, seed=context.seed, on_photo=lambda: advance(1))
        weights = {n: form.get_submodule(n).get_parameter("weight") for n in narrow}
        four = pack_in_groups(weights, dict.fromkeys(weights, 4), reach)
        some = pick_evenly(photos, _WEIGHED_ON)
        with progress.task("damage of 4 bits", len(four)) as advance:
            weighed = weigh_layers(form, four, _eight(form), some, on_layer=lambda: advance(1))
        return _tensors(four), json.dumps([asdict(one) for one in weighed])

    tensors, header = kept(context, _WHAT, "choices", make)
    weighed = tuple(Weighed(**one) for one in json.loads(header))
    return Choices(form, _packed(tensors, dict.fromkeys(narrow, 4)), _eight(form), weighed)


def _eight(form: DeployDeiT) -> dict[str, GroupedWeight]:
    layers = quantizable_layers(form)
    weights = {name: form.get_submodule(name).get_parameter("weight") for name in layers}
    return pack_in_groups(weights, dict.fromkeys(layers, 8), {})


def _tuned(
    context: ExportContext, choices: Choices, scheme: Scheme
) -> tuple[DeployDeiT, dict[str, GroupedWeight]]:
    packed = choices.packed(scheme)

    def make() -> tuple[dict[str, Tensor], str]:
        with context.progress.task("scales and biases", STEPS) as advance:
            form, tuned = tune(
                choices.form,
                packed,
                context.calibration.pixels,
                seed=context.seed,
                on_step=lambda: advance(1),
            )
        biases = {name: form.get_submodule(name).get_parameter("bias").detach() for name in tuned}
        table = {"table": form.token_table.detach()}
        return _tensors(tuned) | {f"bias.{n}": v for n, v in biases.items()} | table, ""

    tensors, _ = kept(context, _WHAT, f"tuned {scheme.keep_float} {scheme.eight}", make)
    found = _packed(tensors, {name: one.bits for name, one in packed.items()})
    form = with_weights(choices.form, found)
    with torch.no_grad():
        form.token_table.copy_(tensors["table"])
        for name in found:
            form.get_submodule(name).get_parameter("bias").copy_(tensors[f"bias.{name}"])
    return form, found


def _tensors(packed: Mapping[str, GroupedWeight]) -> dict[str, Tensor]:
    found = {f"integers.{name}": one.integers for name, one in packed.items()}
    return found | {f"scales.{name}": one.scales for name, one in packed.items()}


def _packed(tensors: Mapping[str, Tensor], bits: Mapping[str, int]) -> dict[str, GroupedWeight]:
    return {
        name: GroupedWeight(count, tensors[f"integers.{name}"], tensors[f"scales.{name}"])
        for name, count in bits.items()
    }
