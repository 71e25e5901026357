"""What a file takes and returns: normalised pixels or a photo's bytes, logits or probabilities.

The way from bytes to normalised pixels, (x / 255 - mean) / std, is a scale a channel and a shift, so it is
folded into the patch embedding, which is exact: no operator is left of it. Only where a runtime makes
planes of an image itself it divides by 255 too: half precision could not hold weights so much smaller.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch

from edge_deit.model.form import DeployDeiT, GreyLevels, ImageInput

__all__ = [
    "GREATEST_LEVEL",
    "FileForm",
    "InputKind",
    "ReturnKind",
    "in_file_form",
    "read_grey_levels",
]

InputKind = Literal["pixels", "image"]
ReturnKind = Literal["logits", "probabilities"]

GREATEST_LEVEL: Final = 255
"""Of a photo's bytes."""


@dataclass(frozen=True)
class FileForm:
    """`takes`: `pixels` (1, 3, H, W) float32, normalised, or an `image` (1, H, W, 3) uint8, RGB.

    `returns`: `logits` or `probabilities`, (1, K) float32 each. `photos` is how many it takes at once, in
    place of the 1.
    """

    takes: InputKind = "pixels"
    returns: ReturnKind = "logits"
    photos: int = 1

    def example(self, pixels: torch.Tensor, *, planes: bool) -> torch.Tensor:
        """An input of the right shape and type for a graph, in place of pixels (1, 3, H, W)."""
        if self.takes == "pixels":
            return pixels.repeat(self.photos, 1, 1, 1) if self.photos > 1 else pixels
        height, width = pixels.shape[2:]
        if planes:
            return torch.full((self.photos, 3, height, width), 0.5)
        return torch.full((self.photos, height, width, 3), 128, dtype=torch.uint8)


def in_file_form(
    form: DeployDeiT,
    file_form: FileForm,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    planes: bool,
) -> DeployDeiT:
    """A copy of `form` that takes and returns what `file_form` says; `planes` as `ImageInput` has it.

    `mean` and `std` (3,) are those of the normalised pixels that `form` takes.
    """
    made = copy.deepcopy(form)
    made.probabilities = file_form.returns == "probabilities"
    if file_form.takes == "image":
        if made.grey_levels is None:
            read_grey_levels(made, mean, std)
        made.grey_levels = None
        if not planes:
            with torch.no_grad():
                for layer in _readers(made):
                    layer.weight.copy_(layer.weight.double() / GREATEST_LEVEL)
        made.image = ImageInput(planes)
    return made


def read_grey_levels(form: DeployDeiT, mean: Sequence[float], std: Sequence[float]) -> None:
    """Let the patch embedding read grey levels from 0 to 1, u = x * std + mean, in place."""
    means, stds = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (mean, std))
    layer = form.patch_embed
    assert layer.bias is not None
    with torch.no_grad():
        weight = layer.weight.double() / stds
        layer.bias.copy_(layer.bias.double() - (weight * means).sum((1, 2, 3)))
        layer.weight.copy_(weight)
    form.grey_levels = GreyLevels(stds.float(), means.float())


def _readers(form: DeployDeiT) -> list[Any]:
    """The convolutions that read the photo."""
    coarse = form.coarse_embed
    return [form.patch_embed, *([] if coarse is None else [coarse.conv])]
