"""Whether the calibration photos pin what is learned from them: how far ranges move without half of them.

A tensor's range follows its least and greatest value on each photo. Over all ways of leaving out half of N
photos, the mean of N such values moves by s / sqrt(N), root mean square, s their standard deviation between
photos (Cochran, "Sampling Techniques", 1977, section 2.6: sampling without replacement). It is given as a
share of the tensor's whole range, as the median over all tensors. Precisions without fixed ranges learn
weights from the same activations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.model.hooks import watching
from edge_deit.quantization.observe import LayerView

__all__ = ["Pinning", "look_forward", "measure_pinning"]

_MOST_MOVEMENT: Final = 0.007  # of the range: about 25 photos of different things
_LEAST_SPREAD: Final = 0.012  # of the range; different photos show about 0.035, noise 0.017
_FEWEST: Final = 8  # from fewer the spread itself is not known
_ENOUGH: Final = 25


@dataclass(frozen=True)
class Pinning:
    """How far ranges move without half of the photos, as a share of them.

    `files` counts photos, `photos` different ones, `spread` is the standard deviation between them;
    `movement` is None for one photo, of which no half can be left out.
    """

    files: int
    photos: int
    spread: float
    movement: float | None

    @property
    def pinned(self) -> bool:
        """Whether half of the photos give nearly the same ranges as all."""
        return not self.notes()

    def notes(self) -> list[str]:
        """What is to be known, a line each; none where the ranges are pinned."""
        said = "one photo" if self.files == 1 else f"{self.files} photos"
        if self.photos < self.files:
            said += f", {self.photos} of them different"
        if self.movement is None:
            return [self._more(said, _ENOUGH - 1)]
        if self.spread < _LEAST_SPREAD:
            return [self._more(f"{said}, which look all alike to the model", _ENOUGH)]
        if self.movement > _MOST_MOVEMENT or self.photos < _FEWEST:
            wanted = max(math.ceil((self.spread / _MOST_MOVEMENT) ** 2), _ENOUGH)
            moved = f"without half of them ranges move by {100 * self.movement:.1f} %"
            return [self._more(f"{said}; {moved}", wanted - self.photos)]
        return []

    @staticmethod
    def _more(what: str, more: int) -> str:
        return (
            f"the calibration photos do not pin what is learned from them ({what}): give about {more} more "
            "that differ, like those that the app will see"
        )


def look_forward(
    form: DeployDeiT, photos: Iterable[Tensor], on_photo: Callable[[], None] = lambda: None
) -> dict[str, LayerView]:
    """What each layer reads and writes on photos (1, 3, H, W), extremes alone: no gradients are taken."""
    views = {name: LayerView() for name in quantizable_layers(form)}

    def look(name: str, _: nn.Module, x: Tensor, y: Tensor) -> None:
        views[name].input.add(x, None)
        views[name].output.add(y, None)

    layers = {name: form.get_submodule(name) for name in views}
    with torch.inference_mode(), watching(layers, look):
        for photo in photos:
            form(photo)
            on_photo()
    return views


def measure_pinning(views: Collection[LayerView], photo_sha256: Sequence[str]) -> Pinning:
    """What the photos that `views` have seen say about the ranges; `photo_sha256` are those of their files.

    Views that have seen nothing and tensors without a range are left out; copies of a photo count once.
    """
    seen = [np.asarray(tensor.extremes) for view in views for tensor in (view.input, view.output)]
    first = sorted({sha: index for index, sha in reversed(list(enumerate(photo_sha256)))}.values())
    spreads = []
    for extremes in seen:  # (N, 2)
        each = extremes[first] if first else extremes
        width = each[:, 1].max() - each[:, 0].min()
        if width > 0:
            spreads.append(float(each.std(0, ddof=min(1, len(each) - 1)).mean() / width))
    count = len(first) or len(seen[0])
    spread = float(np.median(spreads)) if spreads else 0.0
    return Pinning(len(seen[0]), count, spread, spread / math.sqrt(count) if count > 1 else None)
