"""Ranges of integer activations, chosen per tensor by the noise they make in the model's output.

Candidates are the extremes of all photos (min-max), the means over the photos of each photo's extremes,
percentiles of the values, and a grid searched for the least weighted square error (MSE). For a range of
step s, values inside it carry an error of variance s^2 / 12, values outside the distance to its edge; both
are weighed by importance (`quantization.seen`), so the prediction is the noise power in the logits. What
is cut off counts four times: such errors point the same way in many tokens and channels, so they add up,
and unseen photos have more of them. (Of the factors 1, 4, 16 and 64, four left the least noise on photos
that were not looked at.)

Sources: percentile and MSE calibration as in arXiv 2004.09602, section 5; importance as in `seen`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from edge_deit.quantization.histogram import Histogram
from edge_deit.quantization.observe import TensorView
from edge_deit.quantization.scheme import Range

__all__ = ["STEPS", "ChosenRange", "choose_range", "range_noise", "read_together"]

STEPS: Final = 255  # between 256 integers
_PERCENTILES: Final = (99.9, 99.99, 99.999)
_GRID: Final = tuple(float(share) for share in np.linspace(0.25, 1.0, 31))
_SMALLEST_SPAN: Final = 1e-6
_CUT_WEIGHT: Final = 4.0


@dataclass(frozen=True)
class ChosenRange:
    """A range, the method that found it, and the noise power it is predicted to add to the output."""

    range: Range
    method: str
    noise: float


def range_noise(histogram: Histogram, least: np.ndarray, greatest: np.ndarray) -> np.ndarray:
    """Predicted noise power of each range (R,), from ends (R,).

    What lies below an end adds up from the left and what lies above it from the right, so each range costs
    two places in running sums instead of a look at all bins.
    """
    centres = histogram.centres.numpy()
    low = np.searchsorted(centres, least, "left")  # (R,) first bin inside
    high = np.searchsorted(centres, greatest, "right")  # (R,) first bin above
    inside = _running(histogram.importance.numpy())
    rounding = ((greatest - least) / STEPS) ** 2 / 12
    at = _gelu if histogram.before_gelu else _itself
    weight, place = histogram.cut_importance.numpy(), at(centres)
    moments = [weight * place**power for power in range(3)]
    below = [_running(moment)[low] for moment in moments]
    above = [_running(moment[::-1])[len(centres) - high] for moment in moments]
    cut = _squares(at(least), *below) + _squares(at(greatest), *above)
    return np.asarray((inside[high] - inside[low]) * rounding + _CUT_WEIGHT * cut)


def _running(values: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, ... B values (B + 1,)."""
    return np.concatenate([[0.0], np.cumsum(values)])


def _squares(
    end: np.ndarray, weight: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Weighed sum of (x - end)^2 from the moments of x, (R,) each; rounding must not make it negative."""
    return np.asarray(np.maximum(second - 2 * end * first + end**2 * weight, 0.0))


def _itself(x: np.ndarray) -> np.ndarray:
    return x


def _gelu(x: np.ndarray) -> np.ndarray:
    return np.asarray(torch.nn.functional.gelu(torch.from_numpy(x)).numpy())


def choose_range(view: TensorView) -> ChosenRange:
    """The candidate with the least predicted noise; zero lies inside it."""
    assert view.histogram is not None
    names, ends = zip(*_candidates(view), strict=True)
    least = np.minimum([end[0] for end in ends], 0.0)
    greatest = np.maximum([end[1] for end in ends], 0.0)
    greatest = np.maximum(greatest, least + _SMALLEST_SPAN)
    noise = range_noise(view.histogram, least, greatest)
    best = int(noise.argmin())
    return ChosenRange((float(least[best]), float(greatest[best])), names[best], float(noise[best]))


def _candidates(view: TensorView) -> Iterator[tuple[str, Range]]:
    histogram = view.histogram
    assert histogram is not None
    extremes = np.asarray(view.extremes)  # (M, 2)
    least, greatest = float(extremes[:, 0].min()), float(extremes[:, 1].max())
    yield "min-max", (least, greatest)
    yield "mean of extremes", (float(extremes[:, 0].mean()), float(extremes[:, 1].mean()))
    cumulative = torch.cumsum(histogram.count, 0) / histogram.count.sum()
    centres = histogram.centres
    for percentile in _PERCENTILES:
        tail = (1 - percentile / 100) / 2
        low, high = torch.searchsorted(
            cumulative, torch.tensor([tail, 1 - tail], dtype=cumulative.dtype)
        ).clamp_max(len(centres) - 1)
        yield f"percentile {percentile}", (float(centres[low]), float(centres[high]))
    for low_share in _GRID:
        for high_share in _GRID:
            yield "MSE", (least * low_share, greatest * high_share)


def read_together(layer: str) -> str:
    """One name for layers that read one tensor and so have one range, as queries, keys and values do.

    >>> read_together("blocks.0.attn.k")
    'blocks.0.attn'
    """
    return layer.rpartition(".")[0] if layer.endswith((".q", ".k", ".v")) else layer
