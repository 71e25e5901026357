"""A teacher behind the student's pixels: normalised and sized as it is used to, its classes as ours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_deit.checkpoint.pixel_form import PixelForm

__all__ = ["Adapted"]


class Adapted(nn.Module):
    """Pixels (B, 3, H, W) as `given` normalises them -> logits (B, K) of the outputs `places`.

    Another size is made by antialiased bicubic interpolation, cut to the range of photos as Pillow's
    resizing is.
    """

    scale: Tensor
    shift: Tensor
    mean: Tensor
    std: Tensor
    places: Tensor

    def __init__(
        self,
        model: nn.Module,
        given: PixelForm,
        wanted: PixelForm,
        places: Sequence[int],
        outputs: int,
    ) -> None:
        super().__init__()
        self.model, self.side = model, wanted.side
        self._resizes = given.side != wanted.side
        self._as_they_are = (given.mean, given.std) == (wanted.mean, wanted.std)
        self._all = list(places) == list(range(outputs))
        mean, std, own_mean, own_std = (
            torch.tensor(values).view(3, 1, 1)
            for values in (given.mean, given.std, wanted.mean, wanted.std)
        )
        self.register_buffer("scale", std / own_std)
        self.register_buffer("shift", (mean - own_mean) / own_std)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("places", torch.tensor(places, dtype=torch.long))

    def forward(self, pixels: Tensor) -> Tensor:
        if self._resizes:
            photos = F.interpolate(
                pixels * self.std + self.mean,
                size=(self.side, self.side),
                mode="bicubic",
                antialias=True,
            )
            pixels = (photos.clamp(0, 1) - self.mean) / self.std  # (B, 3, side, side)
        if not self._as_they_are:
            pixels = pixels * self.scale + self.shift
        logits: Tensor = self.model(pixels)
        return logits if self._all else logits[:, self.places]
