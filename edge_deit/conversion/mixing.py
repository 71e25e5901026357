"""Which layers of an int4 file keep 8 bits: those that do most harm a byte, as far as limits say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.fallback import DropLimit, OverLimitError
from edge_deit.conversion.grouped import Choices, choices_for
from edge_deit.conversion.mix_table import Step, write_mixes
from edge_deit.conversion.plan import Item
from edge_deit.conversion.produce import OverSizeError
from edge_deit.conversion.trained import as_trained
from edge_deit.model.form import DeployDeiT
from edge_deit.quantization.groups import in_whole_groups
from edge_deit.quantization.mix import (
    Weighed,
    eight_at_first,
    first_to_keep,
    packed_bytes,
    with_weights,
)
from edge_deit.quantization.scheme import Scheme
from edge_deit.quantization.sensitivity import Drop, measure_drop
from edge_deit.quantization.trained import TrainedGroups

__all__ = ["Mixes", "check_size", "choose_mixes", "told_mix"]

_OVERHEAD_BYTES: Final = 1300  # of a file, for each layer: graph, names, alignment


@dataclass(frozen=True)
class Mixes:
    """Schemes with more and more layers in 8 bits, the most harmful for their bytes first."""

    context: ExportContext
    limit: DropLimit

    @property
    def choices(self) -> Choices:
        """The layers in 4 and in 8 bits."""
        return choices_for(self.context)

    def order(self, scheme: Scheme) -> list[Weighed]:
        """The scheme's layers that can have 4 bits, those first that have 8 bits first."""
        layers = set(scheme.quantized_layers(self.context.form))
        return first_to_keep(one for one in self.choices.weighed if one.layer in layers)

    def with_eight(self, scheme: Scheme, count: int) -> Scheme:
        """The scheme with so many of them in 8 bits, and what is never in 4."""
        layers = scheme.quantized_layers(self.context.form)
        always = [name for name in layers if name not in self.choices.four]
        return replace(scheme, eight=(*always, *(one.layer for one in self.order(scheme)[:count])))

    def count(self, scheme: Scheme) -> int:
        """How many layers have 8 bits that could have 4."""
        return sum(one.layer in scheme.eight for one in self.order(scheme))

    def estimated_bytes(self, scheme: Scheme) -> int:
        """About how large a file will be."""
        packed = self.choices.packed(scheme)
        state = self.choices.form.state_dict()
        rest = sum(
            4 * value.numel()
            for name, value in state.items()
            if name.removesuffix(".weight") not in packed
        )
        labels = sum(len(label.encode()) + 1 for label in self.context.checkpoint.labels)
        texts = labels + len(json.dumps(self.context.checkpoint.preprocess.to_json()))
        weights = sum(packed_bytes(one) for one in packed.values())
        found: int = weights + rest + texts + _OVERHEAD_BYTES * len(packed)
        return found

    def drop(self, scheme: Scheme) -> Drop:
        """What the calibration photos lose, before scales are tuned."""
        context, packed = self.context, self.choices.packed(scheme)
        model = context.with_merging(with_weights(self.choices.form, packed, packed))
        labels = context.calibration.labels or (None,) * len(context.calibration)
        with context.progress.task("mix", len(labels)) as advance:
            return measure_drop(
                model,
                context.calibration,
                context.calibration_outputs,
                labels,
                on_photo=lambda: advance(1),
            )

    def steps(self, scheme: Scheme) -> list[Step]:
        """Size and predicted noise for each number of layers in 8 bits."""
        order = self.order(scheme)
        size = self.estimated_bytes(self.with_eight(scheme, 0))
        noise = sum(one.noise for one in order)
        found = [Step(0, "", size / 1e6, noise)]
        for place, one in enumerate(order, 1):
            size += one.saved_bytes
            noise -= one.noise
            found.append(Step(place, one.layer, size / 1e6, max(noise, 0.0)))
        return found

    def smaller(self, scheme: Scheme, excess_bytes: int) -> Scheme | None:
        """The next mix that has so many bytes less; None behind the last."""
        order, count, saved = self.order(scheme), self.count(scheme), 0
        if not count:
            return None
        while count and saved < excess_bytes:
            count -= 1
            saved += order[count].saved_bytes
        return self.with_eight(scheme, count)

    def following(self, scheme: Scheme, error: OverLimitError | OverSizeError) -> Scheme | None:
        """The mix to try after a file that did not keep a limit; None where there is none."""
        if isinstance(error, OverSizeError):
            return self.smaller(scheme, error.excess_bytes)
        count = self.count(scheme)
        if self.limit.max_size is not None or count == len(self.order(scheme)):
            return None
        return self.with_eight(scheme, min(len(self.order(scheme)), count + max(1, count // 4)))


def check_size(limit: DropLimit, form: DeployDeiT, items: Sequence[Item]) -> None:
    """Refuse a size that no mix has, before long work: the weights alone, all in 4 bits that can be.

    Raises:
        OverSizeError: with their size.
    """
    for _, scheme, _ in items:
        if limit.max_size is None or not scheme.grouped:
            continue
        layers = scheme.quantized_layers(form)
        narrow = [name for name in layers if in_whole_groups(form.get_submodule(name))]
        count = {n: p.numel() for n, p in form.named_parameters()}
        four, packed = (sum(count[f"{n}.weight"] for n in names) for names in (narrow, layers))
        least = four // 2 + (packed - four) + 4 * (sum(count.values()) - packed)
        if limit.max_size * 1e6 < least:
            raise OverSizeError(least, limit.max_size, "int4's weights alone have")


def choose_mixes(
    limit: DropLimit, context: ExportContext, items: Sequence[Item]
) -> tuple[list[Item], list[str]]:
    """The same items, int4 schemes with the layers that keep 8 bits, and a line on each choice.

    Raises:
        EdgeDeitError: no mix keeps the limits.
    """
    mixes, notes = Mixes(context, limit), dict[str, None]()
    chosen: dict[Scheme, Scheme] = {}
    result: list[Item] = []
    for target, scheme, backend in items:
        if not scheme.grouped:
            result.append((target, scheme, backend))
            continue
        if scheme not in chosen and isinstance(context.trained, TrainedGroups):
            chosen[scheme], note = as_trained(context.trained, scheme)
            notes[note] = None
        elif scheme not in chosen:
            chosen[scheme], note = _choose(mixes, scheme)
            notes[note] = None
            if limit.report is not None:
                write_mixes(mixes.order(scheme), mixes.steps(scheme), limit.report)
                notes[f"sizes and damage of int4: {limit.report / 'int4.csv'}, int4.png"] = None
        result.append((target, chosen[scheme], backend))
    return result, list(notes)


def _choose(mixes: Mixes, scheme: Scheme) -> tuple[Scheme, str]:
    limit = mixes.limit
    if limit.max_size is not None:
        found = _largest(mixes, scheme, int(limit.max_size * 1e6))
        if limit.max_drop is None:
            return found, f"int4: {told_mix(mixes, found)}"
        drop = mixes.drop(found)
        if drop.points > limit.max_drop:
            raise EdgeDeitError(
                f"int4 within --max-size {limit.max_size} loses {drop}, more than --max-drop "
                f"{limit.max_drop}; allow more of one of them, or take --precision int8"
            )
        return found, f"int4: {told_mix(mixes, found)}, {drop}"
    if limit.max_drop is not None:
        return _least(mixes, scheme, limit.max_drop)
    found = mixes.with_eight(scheme, eight_at_first(mixes.order(scheme), mixes.choices.four))
    return found, f"int4: {told_mix(mixes, found)}"


def _largest(mixes: Mixes, scheme: Scheme, size_bytes: int) -> Scheme:
    """The mix with most layers in 8 bits that is expected to fit."""
    steps = [step for step in mixes.steps(scheme) if step.size_mb * 1e6 <= size_bytes]
    return mixes.with_eight(scheme, max((step.layers for step in steps), default=0))


def _least(mixes: Mixes, scheme: Scheme, max_drop: float) -> tuple[Scheme, str]:
    """The first mix that keeps the limit on the calibration photos."""
    most, count = len(mixes.order(scheme)), 0
    while True:
        found = mixes.with_eight(scheme, count)
        drop = mixes.drop(found)
        if drop.points <= max_drop:
            return found, f"int4: {told_mix(mixes, found)}, {drop}"
        if count == most:
            raise EdgeDeitError(
                f"int4 with all layers in 8 bits loses {drop}, more than --max-drop {max_drop}; "
                "allow more, or give more calibration photos"
            )
        count = min(most, count + max(1, count // 4))


def told_mix(mixes: Mixes, scheme: Scheme) -> str:
    """How many layers have 8 bits, in words."""
    size = mixes.estimated_bytes(scheme) / 1e6
    count, whole = mixes.count(scheme), len(mixes.order(scheme))
    return (
        f"{whole - count} layers in 4 bits and {count} that suffer most in 8, about {size:.1f} MB"
    )
