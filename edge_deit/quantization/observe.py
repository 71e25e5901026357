"""What the calibration photos show about every layer's input and output, summed up over the photos.

Source: shrinkage of second moments, Ledoit and Wolf, A well-conditioned estimator for large-dimensional
covariance matrices, J. Multivariate Analysis 88 (2004), with photos as samples.

Shapes: N rows (tokens or patches), C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.quantization.cores import ALONE, Cores
from edge_deit.quantization.histogram import Histogram
from edge_deit.quantization.rounding import LEAST_DAMPING
from edge_deit.quantization.seen import SeenLayer, look_at

__all__ = [
    "Channels",
    "LayerView",
    "TensorView",
    "importance_pass",
    "take_in",
]

_GREATEST_SHARE: Final = 0.9


@dataclass
class Channels:
    """One tensor over all photos, by channel (C,): extremes, summed mean square, summed importance."""

    least: Tensor
    greatest: Tensor
    square: Tensor
    importance: Tensor
    photos: int = 0

    @classmethod
    def empty(cls, channels: int) -> Channels:
        """Nothing seen yet."""
        zeros = torch.zeros(channels, dtype=torch.float64)
        infinite = torch.full((channels,), torch.inf)
        return cls(infinite, -infinite, zeros, zeros.clone())

    @property
    def magnitude(self) -> Tensor:
        """Greatest absolute value of each channel (C,), at least a millionth."""
        return torch.maximum(self.greatest, -self.least).clamp_min(1e-6).double()

    @property
    def mean_square(self) -> Tensor:
        """Mean over rows and photos of each channel's square (C,)."""
        return self.square / max(1, self.photos)

    def add(self, values: Tensor, importance: Tensor) -> None:
        """Take in one photo's values and their importance, (N, C) each."""
        self.least = torch.minimum(self.least, values.amin(0))
        self.greatest = torch.maximum(self.greatest, values.amax(0))
        self.square += values.square().mean(0)
        self.importance += importance.sum(0)
        self.photos += 1


@dataclass
class TensorView:
    """One tensor over all photos: each photo's (least, greatest), and what else was asked for."""

    extremes: list[tuple[float, float]] = field(default_factory=list)
    histogram: Histogram | None = None
    channels: Channels | None = None

    def add(
        self, values: Tensor, importance: Tensor | None, cut_importance: Tensor | None = None
    ) -> None:
        """Take in one photo's values and their importance, (N, C) each."""
        least, greatest = (float(end) for end in values.aminmax())
        self.extremes.append((least, greatest))
        if importance is None:
            return
        if self.histogram is not None:
            self.histogram.add(values, importance, cut_importance, (least, greatest))
        if self.channels is not None:
            self.channels.add(values, importance)


@dataclass
class LayerView:
    """A layer's input and output, and the second moments (C, C) of its input rows.

    Each row counts as much as the errors of the output row that it makes. Layers that read one tensor have
    the same object as `input`. `scatter` is the sum of the squared norms of the photos' own moments.
    """

    input: TensorView = field(default_factory=TensorView)
    output: TensorView = field(default_factory=TensorView)
    moments: Tensor | None = None
    scatter: float = 0.0
    photos: int = 0

    def add_moments(self, values: Tensor, importance: Tensor) -> None:
        """Take in one photo's inputs (N, C) and what an error of each output row does (N, 1)."""
        found = (values * importance).T @ values
        self.moments = found if self.moments is None else self.moments.add_(found)
        self.scatter += float(torch.linalg.vector_norm(found)) ** 2
        self.photos += 1

    @property
    def damping(self) -> float:
        """How much rounding is to damp the moments, for they are those of a few photos.

        Ledoit and Wolf's share of a multiple of the identity, twice: rounding uses the inverse, which
        suffers more than the moments do.
        """
        if self.moments is None or self.photos < 2:
            return LEAST_DAMPING
        mean = self.moments.double() / self.photos
        power = float(mean.square().sum())
        spread = power - float(mean.diagonal().mean()) ** 2 * len(mean)
        between = max(0.0, self.scatter / self.photos - power) / self.photos
        share = min(_GREATEST_SHARE, between / max(spread, 1e-300))
        return max(LEAST_DAMPING, 2 * share / (1 - share))


def take_in(views: dict[str, LayerView], seen: dict[str, SeenLayer], cores: Cores = ALONE) -> None:
    """Show one photo's layers to their views; what several of them read is looked at once."""
    readers: dict[int, list[str]] = {}  # names of layers, by the tensor that they read
    for name, one in seen.items():
        readers.setdefault(id(one.input), []).append(name)

    def show(names: list[str]) -> None:
        first = views[names[0]].input
        first.add(seen[names[0]].input, seen[names[0]].input_importance)
        for name in names:
            view, one = views[name], seen[name]
            view.input = first
            view.output.add(one.output, one.output_importance, one.cut_importance)

    cores.map(show, readers.values())


def importance_pass(
    form: DeployDeiT,
    photos: Iterable[Tensor],
    views: dict[str, LayerView],
    *,
    layers: Iterable[str] | None = None,
    seed: int = 0,
    on_photo: Callable[[], None] = lambda: None,
    cores: Cores = ALONE,
) -> None:
    """Show every photo (1, 3, H, W) to `views`, channel by channel.

    `views` gets an entry for each of `layers`, by default all quantizable ones, that it lacks.
    """
    names = list(layers or quantizable_layers(form))
    for name in names:
        weight = form.get_submodule(name).get_parameter("weight").flatten(1)  # (C out, C in)
        of_input, of_output = (Channels.empty(size) for size in reversed(weight.shape))
        fresh = LayerView(TensorView(channels=of_input), TensorView(channels=of_output))
        views.setdefault(name, fresh)
    for _, seen in look_at(form, photos, names, seed, cores):
        take_in(views, seen, cores)
        on_photo()
