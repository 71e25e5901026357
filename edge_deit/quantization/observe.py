"""What the calibration photos show about every layer's input and output.

Every value is weighed by what an error there does to the model's output. For logits y and a tensor x,
||J e||^2, J = dy/dx, is the noise that an error e of x causes. With a random vector u of unit variance,
g = J^T u has E[g g^T] = J^T J, so for errors that are independent of each other the noise is
sum over elements of E[g^2] e^2: one backward pass a photo gives the weights g^2 of all tensors at once.

Source: the squared gradient as importance, arXiv 2102.05426 (BRECQ), here of the output itself instead of a
loss. Shrinkage of second moments: Ledoit and Wolf, A well-conditioned estimator for large-dimensional
covariance matrices, J. Multivariate Analysis 88 (2004), with photos as samples.

Shapes: N rows (tokens or patches), C channels, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import torch
from torch import Tensor, nn

from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.model.hooks import watching
from edge_deit.quantization.histogram import Histogram
from edge_deit.quantization.rounding import LEAST_DAMPING

__all__ = [
    "Channels",
    "LayerView",
    "SeenLayer",
    "TensorView",
    "importance_pass",
    "look_at",
    "rows",
    "take_in",
]

_GREATEST_SHARE: Final = 0.9
_MOST_PHOTOS: Final = 4
_STREAM_VALUES: Final = 4 * 198 * 192  # of all photos that go through a form together


@dataclass(frozen=True)
class SeenLayer:
    """A layer's input and output on one photo as rows (N, C), and the importance g^2 of their values.

    Layers that read one tensor have the same object as `input`. A convolution reads the photo, whose
    importance nobody asks for: None. `cut_importance` is that of GELU's output, where the layer's output is
    GELU's input.
    """

    layer: nn.Module
    input: Tensor
    output: Tensor
    input_importance: Tensor | None
    output_importance: Tensor
    cut_importance: Tensor | None = None


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


def rows(layer: nn.Module, x: Tensor, *, output: bool = False) -> Tensor:
    """A layer's input or output as rows (N, C); a convolution's input as flattened patches."""
    if not isinstance(layer, nn.Conv2d):
        return x.reshape(-1, x.shape[-1])
    if output:
        return x.flatten(2)[0].T
    size, stride = layer.kernel_size, layer.stride
    patches = nn.functional.unfold(x, (size[0], size[1]), stride=(stride[0], stride[1]))
    return patches[0].T


def look_at(
    form: DeployDeiT, photos: Iterable[Tensor], layers: Iterable[str], seed: int = 0
) -> Iterator[tuple[Tensor, dict[str, SeenLayer]]]:
    """For each photo (1, 3, H, W): the output, and the named layers in the order of the graph.

    One random vector a photo is drawn, seeded, so that equal photos give equal results. Gradients of the
    weights are not computed, nor is anything in `form` changed.

    Raises:
        EdgeDeitError: the output is not finite.
    """
    wanted = {name: form.get_submodule(name) for name in layers}
    watched = wanted | {n: m for n, m in form.named_modules() if isinstance(m, nn.GELU)}
    held: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str, module: nn.Module, x: Tensor, y: Tensor) -> None:
        held[name] = x, y

    generator = torch.Generator().manual_seed(seed)
    waiting = iter(photos)
    while group := list(islice(waiting, _together(form))):
        with watching(watched, keep), torch.enable_grad():
            output = form(torch.cat(group).requires_grad_())
        if not output.isfinite().all():
            raise EdgeDeitError(
                "the model's output is not finite on a calibration photo; check the weights"
            )
        probe = torch.cat([torch.randn(one[None].shape, generator=generator) for one in output])
        importance = _importance((output * probe).sum(), wanted, held)
        for place, one in enumerate(output.detach()):
            yield one[None], _seen_of(place, len(group), wanted, held, importance)


def _together(form: DeployDeiT) -> int:
    """How many photos go through a form at once: small products of matrices waste a processor's time."""
    config = form.config
    values = config.num_tokens * config.embed_dim  # of a photo's stream
    return max(1, min(_MOST_PHOTOS, _STREAM_VALUES // values))


def _importance(
    scalar: Tensor, wanted: dict[str, nn.Module], held: dict[str, tuple[Tensor, Tensor]]
) -> dict[int, Tensor]:
    """Squared gradients by the identity of the tensor; the photo has none."""
    tensors: dict[int, Tensor] = {}
    for name, (x, y) in held.items():
        tensors[id(y)] = y
        if name in wanted and not isinstance(wanted[name], nn.Conv2d):
            tensors[id(x)] = x
    gradients = torch.autograd.grad(scalar, list(tensors.values()))
    return {key: g.square() for key, g in zip(tensors, gradients, strict=True)}


def _seen_of(
    place: int,
    photos: int,
    wanted: dict[str, nn.Module],
    held: dict[str, tuple[Tensor, Tensor]],
    importance: dict[int, Tensor],
) -> dict[str, SeenLayer]:
    """All layers on one photo of those that went through together."""
    inputs: dict[int, Tensor] = {}  # rows of those tensors that were read before

    def mine(x: Tensor) -> Tensor:
        return x.detach().reshape(photos, -1, *x.shape[1:])[place]

    def layer_of(name: str) -> SeenLayer:
        layer, (x, y) = wanted[name], held[name]
        gelu = held.get(f"{name.removesuffix('fc1')}act") if name.endswith("fc1") else None
        of_input = importance.get(id(x))
        cut = None if gelu is None else importance[id(gelu[1])]
        if id(x) not in inputs:
            inputs[id(x)] = rows(layer, mine(x))
        return SeenLayer(
            layer,
            inputs[id(x)],
            rows(layer, mine(y), output=True),
            None if of_input is None else rows(layer, mine(of_input)),
            rows(layer, mine(importance[id(y)]), output=True),
            None if cut is None else rows(layer, mine(cut), output=True),
        )

    return {name: layer_of(name) for name in wanted}


def take_in(views: dict[str, LayerView], seen: dict[str, SeenLayer]) -> None:
    """Show one photo's layers to their views; what several of them read is looked at once."""
    shared: dict[int, TensorView] = {}
    for name, one in seen.items():
        view, key = views[name], id(one.input)
        if key not in shared:
            shared[key] = view.input
            view.input.add(one.input, one.input_importance)
        view.input = shared[key]
        view.output.add(one.output, one.output_importance, one.cut_importance)


def importance_pass(
    form: DeployDeiT,
    photos: Iterable[Tensor],
    views: dict[str, LayerView],
    *,
    layers: Iterable[str] | None = None,
    seed: int = 0,
    on_photo: Callable[[], None] = lambda: None,
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
    for _, seen in look_at(form, photos, names, seed):
        take_in(views, seen)
        on_photo()
