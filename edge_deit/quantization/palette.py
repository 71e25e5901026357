"""Weights as lookup tables: one table a layer, its entries where they cost the model's output least.

1. One pass over the calibration photos: second moments of each layer's inputs, and how much each of its
   output channels matters to the model's output (`quantization.seen`).
2. Each layer's entries: k-means over its weights, each counted by the power of its input channel and the
   importance of its output channel. Entries are values of half precision.
3. Each weight's entry: columns one after the other, the error of each carried into those still to come
   (`quantization.tables`).
4. A second pass measures what each layer's tables do to the output: for errors E of its weights the noise
   is <G, E>^2, with G the gradient of the output along a random vector. The layers that lose most for their
   size get more bits, until those are used up that the precision has for it.

A hundred photos give few independent rows: tokens of one photo are alike, and of a late layer only the
tokens that are read count. So a row counts the square root of its importance, and the moments are drawn
towards equal ones, the more the fewer rows there are for a channel.

Shapes: O output channels, C input channels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor

from edge_deit.data.listing import pick_evenly
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.quantization.packed import TableWeight
from edge_deit.quantization.scheme import Precision
from edge_deit.quantization.seen import SeenLayer, look_at
from edge_deit.quantization.tables import carried_indices, spread_table

__all__ = ["BITS", "Palette", "passes", "see"]

BITS: Final[Mapping[Precision, tuple[int, ...]]] = {
    "palettized-6": (6, 8),
    "palettized-4": (4, 6, 8),
}
"""Bits of an index: of most layers first, then those of layers that lose most."""

_MORE_BITS: Final[Mapping[Precision, float]] = {"palettized-6": 0.36, "palettized-4": 1.05}
"""Bits a weight, on average, for those layers."""

_NOISE_PHOTOS: Final = 32
_SHRINKAGE: Final = 0.3  # share of equal moments where there is one row for each channel
_LEAST_SHARE: Final = 1e-3  # of the mean: what a channel counts at least


def passes(photos: int) -> int:
    """How often `see` and one call of `Palette.choose` call `on_photo` together."""
    return photos + min(photos, _NOISE_PHOTOS)


@dataclass
class _Rows:
    """A layer's rows over all photos: moments (C, C), weights' sum and squares' sum, importance (O,)."""

    moments: Tensor
    importance: Tensor
    count: float = 0.0
    squares: float = 0.0

    def add(self, one: SeenLayer) -> None:
        """Take in one photo's rows."""
        weight = one.output_importance.sum(1, keepdim=True).sqrt()  # (N, 1)
        self.moments.addmm_((one.input * weight).T, one.input)
        self.importance += one.output_importance.sum(0)
        self.count += float(weight.sum())
        self.squares += float(weight.square().sum())

    def shrunk(self) -> Tensor:
        """The moments (C, C), float64, drawn towards equal ones."""
        moments = self.moments.double() / max(self.count, 1e-300)
        rows = self.count**2 / max(self.squares, 1e-300)
        share = _SHRINKAGE * len(moments) / max(rows, 1.0)
        moments.diagonal().add_(share * moments.diagonal().mean())
        return moments


@dataclass
class Palette:
    """Tables of a form's layers in each number of bits, made when first asked for.

    `form` is the form whose weights they are, not changed; `rows` come from `photos`, (1, 3, H, W) each.
    """

    form: DeployDeiT
    photos: Sequence[Tensor]
    rows: Mapping[str, _Rows]
    seed: int = 0
    _made: dict[tuple[str, int], TableWeight] = field(default_factory=dict)

    def table(self, name: str, bits: int) -> TableWeight:
        """The layer's weights in a table of 2^bits entries."""
        if (name, bits) not in self._made:
            weight = self.form.get_submodule(name).get_parameter("weight").detach().flatten(1)
            self._made[name, bits] = _tabled(weight, self.rows[name], bits)
        return self._made[name, bits]

    def choose(
        self,
        precision: Precision,
        layers: Collection[str],
        eight: Collection[str] = (),
        on_photo: Callable[[], None] = lambda: None,
    ) -> dict[str, TableWeight]:
        """Tables of the named layers, in the order of the graph; those in `eight` have 8 bits.

        Raises:
            EdgeDeitError: the output is not finite.
        """
        names = [name for name in quantizable_layers(self.form) if name in layers]
        fixed = {name: BITS[precision][-1] for name in names if name in eight}
        free = [name for name in names if name not in fixed]
        bits = dict.fromkeys(free, BITS[precision][0])
        if free:
            weights = sum(self._count(name) for name in names)
            noise = self._noise(free, BITS[precision], on_photo)
            spent = sum((fixed[name] - BITS[precision][0]) * self._count(name) for name in fixed)
            room = _MORE_BITS[precision] * weights - spent
            bits = _spend(noise, {name: self._count(name) for name in free}, room)
        return {name: self.table(name, (bits | fixed)[name]) for name in names}

    def _count(self, name: str) -> int:
        return self.form.get_submodule(name).get_parameter("weight").numel()

    def _noise(
        self, names: list[str], steps: Sequence[int], on_photo: Callable[[], None]
    ) -> dict[str, dict[int, float]]:
        """Layer -> bits -> noise power in the output, summed over some photos."""
        parameters = [self.form.get_submodule(name).get_parameter("weight") for name in names]
        errors = [
            torch.stack(
                [self.table(name, bits).weight() - one.detach().flatten(1) for bits in steps]
            )
            for name, one in zip(names, parameters, strict=True)
        ]
        found = {name: torch.zeros(len(steps)) for name in names}
        generator = torch.Generator().manual_seed(self.seed)
        for photo in pick_evenly(list(self.photos), _NOISE_PHOTOS):
            with torch.enable_grad():
                output = self.form(photo)
                probe = torch.randn(output.shape, generator=generator)
                gradients = torch.autograd.grad((output * probe).sum(), parameters)
            for name, gradient, error in zip(names, gradients, errors, strict=True):
                found[name] += (error * gradient.flatten(1)).sum((1, 2)).square()
            on_photo()
        return {
            name: dict(zip(steps, noise.tolist(), strict=True)) for name, noise in found.items()
        }


def see(
    form: DeployDeiT,
    photos: Sequence[Tensor],
    *,
    seed: int = 0,
    on_photo: Callable[[], None] = lambda: None,
) -> Palette:
    """Look at the photos, (1, 3, H, W) each.

    Raises:
        EdgeDeitError: the output is not finite on some photo.
    """
    rows: dict[str, _Rows] = {}
    for _, seen in look_at(form, photos, quantizable_layers(form), seed):
        with torch.no_grad():
            for name, one in seen.items():
                channels, outputs = one.input.shape[1], one.output.shape[1]
                if name not in rows:
                    rows[name] = _Rows(torch.zeros(channels, channels), torch.zeros(outputs))
                rows[name].add(one)
        on_photo()
    return Palette(form, photos, rows, seed)


def _tabled(weight: Tensor, rows: _Rows, bits: int) -> TableWeight:
    """One table for weights (O, C)."""
    moments = rows.shrunk()
    heavy = _at_least(rows.importance.double())[:, None] * _at_least(moments.diagonal())  # (O, C)
    table = _halved(spread_table(weight.reshape(-1), heavy.reshape(-1), 2**bits))
    return TableWeight(bits, carried_indices(weight, table, moments), table[None])


def _halved(table: Tensor) -> Tensor:
    """Float32 with values of half precision, so that files of either hold the same."""
    return table.half().float()


def _at_least(values: Tensor) -> Tensor:
    return values.clamp_min(float(values.mean()) * _LEAST_SHARE).clamp_min(1e-300)


def _spend(
    noise: Mapping[str, Mapping[int, float]], counts: Mapping[str, int], room: float
) -> dict[str, int]:
    """Bits of each layer: steps that take the most noise away for their size first, `room` bits in all."""
    steps = [*next(iter(noise.values()))]
    bits = dict.fromkeys(noise, steps[0])
    gains = [
        ((noise[name][low] - noise[name][high]) / (counts[name] * (high - low)), name, low, high)
        for name in noise
        for low, high in pairwise(steps)
    ]
    for gain, name, low, high in sorted(gains, key=lambda one: -one[0]):
        cost = counts[name] * (high - low)
        if gain > 0 and cost <= room and bits[name] == low:
            bits[name] = high
            room -= cost
    return bits
