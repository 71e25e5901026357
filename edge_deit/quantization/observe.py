"""What the calibration photos show about every layer's input and output.

Every value is weighed by what an error there does to the model's output. For logits y and a tensor x,
||J e||^2, J = dy/dx, is the noise that an error e of x causes. With a random vector u of unit variance,
g = J^T u has E[g g^T] = J^T J, so for errors that are independent of each other the noise is
sum over elements of E[g^2] e^2: one backward pass a photo gives the weights g^2 of all tensors at once.

Source: the squared gradient as importance, arXiv 2102.05426 (BRECQ), here of the output itself instead of a
loss.

Shapes: N rows (tokens or patches), C channels, B histogram bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor, nn

from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.model.hooks import watching

__all__ = ["Histogram", "LayerView", "TensorView", "importance_pass", "rows"]

BINS: Final = 4096


@dataclass
class Histogram:
    """Importance (B,) and count (B,) of a tensor's values, between its least and greatest one.

    `cut_importance` weighs errors of values that a range cuts off. It is the importance itself, but for
    GELU's input: there it is that of GELU's output, because where GELU is flat the slope says nothing about
    a large error.
    """

    least: float
    greatest: float
    before_gelu: bool = False
    importance: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))
    cut_importance: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))
    count: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))

    @property
    def centres(self) -> Tensor:
        """Middle of each bin (B,)."""
        step = (self.greatest - self.least) / BINS
        return self.least + step * (torch.arange(BINS, dtype=torch.float64) + 0.5)

    def add(self, values: Tensor, importance: Tensor, cut_importance: Tensor) -> None:
        """Count values; what lies outside falls into the outermost bins."""
        step = max(self.greatest - self.least, 1e-12) / BINS
        index = ((values.flatten() - self.least) / step).long().clamp_(0, BINS - 1)
        self.importance += torch.bincount(index, importance.flatten().double(), BINS)
        self.cut_importance += torch.bincount(index, cut_importance.flatten().double(), BINS)
        self.count += torch.bincount(index, minlength=BINS)


@dataclass
class TensorView:
    """One tensor over all photos, by channel (C,): extremes, mean square, summed importance.

    `extremes` holds each photo's (least, greatest) over all channels.
    """

    least: Tensor
    greatest: Tensor
    mean_square: Tensor
    importance: Tensor
    extremes: list[tuple[float, float]] = field(default_factory=list)
    photos: int = 0
    histogram: Histogram | None = None

    @classmethod
    def empty(cls, channels: int) -> TensorView:
        """A view that has seen nothing."""
        zeros = torch.zeros(channels, dtype=torch.float64)
        infinite = torch.full((channels,), torch.inf)
        return cls(infinite, -infinite, zeros, zeros.clone())

    @property
    def magnitude(self) -> Tensor:
        """Greatest absolute value of each channel (C,), at least a millionth."""
        return torch.maximum(self.greatest, -self.least).clamp_min(1e-6).double()

    def add(self, values: Tensor, importance: Tensor, cut_importance: Tensor) -> None:
        """Take in one photo's values and their importance, (N, C) each."""
        least, greatest = values.amin(0), values.amax(0)
        self.least = torch.minimum(self.least, least)
        self.greatest = torch.maximum(self.greatest, greatest)
        square = values.square().mean(0).double()
        self.mean_square = (self.mean_square * self.photos + square) / (self.photos + 1)
        self.importance += importance.sum(0).double()
        self.extremes.append((float(least.min()), float(greatest.max())))
        self.photos += 1
        if self.histogram is not None:
            self.histogram.add(values, importance, cut_importance)


@dataclass
class LayerView:
    """A layer's input and output, and the second moments (C, C) of its input rows.

    Each row counts as much as the errors of the output row that it makes.
    """

    input: TensorView
    output: TensorView
    moments: Tensor | None = None

    @classmethod
    def empty(cls, inputs: int, outputs: int) -> LayerView:
        """A view that has seen nothing, of a layer with so many input and output channels."""
        return cls(TensorView.empty(inputs), TensorView.empty(outputs))


def rows(layer: nn.Module, x: Tensor, *, output: bool = False) -> Tensor:
    """A layer's input or output as rows (N, C); a convolution's input as flattened patches."""
    if not isinstance(layer, nn.Conv2d):
        return x.reshape(-1, x.shape[-1])
    if output:
        return x.flatten(2)[0].T
    size, stride = layer.kernel_size, layer.stride
    patches = nn.functional.unfold(x, (size[0], size[1]), stride=(stride[0], stride[1]))
    return patches[0].T


def importance_pass(
    form: DeployDeiT,
    photos: Iterable[Tensor],
    views: dict[str, LayerView],
    *,
    layers: Iterable[str] | None = None,
    moments: bool = False,
    on_photo: Callable[[], None] = lambda: None,
) -> float:
    """Show every photo (1, 3, H, W) to `views` and return the mean power of the output, a scalar.

    `views` gets an entry for each of `layers`, by default all quantizable ones, that it lacks. One random
    vector a photo is drawn, seeded, so that equal photos give equal results.
    """
    wanted = {name: form.get_submodule(name) for name in layers or quantizable_layers(form)}
    watched = wanted | {n: m for n, m in form.named_modules() if isinstance(m, nn.GELU)}
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str, module: nn.Module, x: Tensor, y: Tensor) -> None:
        x.retain_grad()
        y.retain_grad()
        seen[name] = (x, y)

    generator = torch.Generator().manual_seed(0)
    power, count = 0.0, 0
    with watching(watched, keep):
        for photo in photos:
            with torch.enable_grad():
                output = form(photo.clone().requires_grad_())
                probe = torch.randn(output.shape, generator=generator)
                (output * probe).sum().backward()
            with torch.no_grad():
                power += float(output.square().sum())
                for name, layer in wanted.items():
                    if name not in views:
                        weight = layer.get_parameter("weight").flatten(1)  # (C out, C in)
                        views[name] = LayerView.empty(weight.shape[1], weight.shape[0])
                    gelu = seen.get(f"{name.removesuffix('fc1')}act") if "fc1" in name else None
                    cut = None if gelu is None else gelu[1].grad
                    _take_in(layer, *seen[name], views[name], cut, moments)
            count += 1
            on_photo()
    return power / count


def _take_in(
    layer: nn.Module, x: Tensor, y: Tensor, view: LayerView, cut: Tensor | None, moments: bool
) -> None:
    assert x.grad is not None
    assert y.grad is not None
    inputs, outputs = rows(layer, x.detach()), rows(layer, y.detach(), output=True)
    input_grad, output_grad = rows(layer, x.grad), rows(layer, y.grad, output=True)
    cut_grad = output_grad if cut is None else rows(layer, cut, output=True)
    view.input.add(inputs, input_grad.square(), input_grad.square())
    view.output.add(outputs, output_grad.square(), cut_grad.square())
    if moments:
        weight = output_grad.square().sum(1, keepdim=True)  # (N, 1)
        moment = (inputs * weight).T @ inputs  # (C, C)
        view.moments = moment if view.moments is None else view.moments + moment
