"""Which layers keep 8 bits where the others have 4: the damage of each, and what it weighs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.quantization.fakequant import round_tokens
from edge_deit.quantization.packed import GroupedWeight, PackedWeight
from edge_deit.quantization.sensitivity import read_from_block, streams_of

__all__ = [
    "Weighed",
    "eight_at_first",
    "first_to_keep",
    "packed_bytes",
    "weigh_layers",
    "with_weights",
]

_SHARE: Final = 0.094
"""Of the bytes of 4-bit weights, that 8-bit layers add where no limit is given."""

_HEAD: Final = "head"


@dataclass(frozen=True)
class Weighed:
    """A layer alone in 4 bits: share of noise power in the output, and the bytes that this saves."""

    layer: str
    noise: float
    saved_bytes: int
    photos: int

    @property
    def damage(self) -> float:
        """Noise for a saved byte."""
        return self.noise / max(1, self.saved_bytes)


def packed_bytes(packed: GroupedWeight) -> int:
    """What a file needs for a layer's integers and scales; scales of whole rows are single precision."""
    scale_bytes = 4 if packed.scales.shape[1] == 1 else 2
    return packed.integers.numel() * packed.bits // 8 + packed.scales.numel() * scale_bytes


def first_to_keep(weighed: Iterable[Weighed]) -> list[Weighed]:
    """The layers in the order in which they get 8 bits, given the most harmful for their bytes first.

    The head comes before all others: it reads one token a photo, so that rounding learns the calibration
    photos by heart, and its damage looks ten times smaller there than on other photos.
    """
    return sorted(weighed, key=lambda one: one.layer != _HEAD)


def eight_at_first(order: Sequence[Weighed], four: Mapping[str, GroupedWeight]) -> int:
    """How many of the layers in `order` keep 8 bits where no limit says it."""
    budget = _SHARE * sum(packed_bytes(four[one.layer]) for one in order)
    count = 0
    while count < len(order) and (budget := budget - order[count].saved_bytes) >= 0:
        count += 1
    return count


def weigh_layers(
    form: DeployDeiT,
    four: Mapping[str, GroupedWeight],
    eight: Mapping[str, GroupedWeight],
    photos: Sequence[Tensor],
    *,
    on_layer: Callable[[], None] = lambda: None,
) -> list[Weighed]:
    """The layers in `four`, the most harmful for their bytes first; `form` is exact.

    A layer of block i is measured from the stream in front of that block on.
    """
    found = []
    with torch.inference_mode():
        streams = [streams_of(form, photo) for photo in photos]
        reference = torch.cat([form.read(stream[-1]) for stream in streams]).flatten(1)
        for name in (one for one in quantizable_layers(form) if one in four):
            model = with_weights(form, {name: four[name]}, [name])
            rows = [
                read_from_block(model, name, stream, photo)
                for stream, photo in zip(streams, photos, strict=True)
            ]
            noise = (torch.cat(rows).flatten(1) - reference).square().sum()
            saved = packed_bytes(eight[name]) - packed_bytes(four[name])
            share = float(noise / reference.square().sum())
            found.append(Weighed(name, share, saved, len(photos)))
            on_layer()
    return sorted(found, key=lambda one: -one.damage)


def with_weights(
    form: DeployDeiT, packed: Mapping[str, PackedWeight], rounded: Iterable[str] = ()
) -> DeployDeiT:
    """A copy whose weights are exactly the packed ones; `rounded` Linears read tokens in 8 bits.

    That is what a runtime computes which finds a range for each token.
    """
    made = copy.deepcopy(form)
    with torch.no_grad():
        for name, found in packed.items():
            weight = made.get_submodule(name).get_parameter("weight")
            weight.copy_(found.weight().reshape(weight.shape))
    for name in rounded:
        parent, _, child = name.rpartition(".")
        layer = made.get_submodule(name)
        if isinstance(layer, nn.Linear):
            setattr(made.get_submodule(parent), child, _RoundedInput(layer))
    return made


class _RoundedInput(nn.Module):
    """A Linear that reads each token through 256 integers of its own."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(round_tokens(x))
        return out
