"""A torch module's outputs, photo by photo, and a torch module as NumPy code calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["as_runner", "outputs"]


def outputs(model: nn.Module, photos: Iterable[Tensor], masks: Tensor | None = None) -> Tensor:
    """Outputs (M, ...) for photos (1, 3, H, W) each, one at a time, so that batches change no rounding.

    A model that reconstructs photos gets a row of `masks` (M, P) with each.
    """
    with torch.inference_mode():
        if masks is None:
            return torch.cat([model(photo) for photo in photos])
        pairs = zip(photos, masks, strict=True)
        return torch.cat([model(photo, mask[None]) for photo, mask in pairs])


def as_runner(model: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """The model as a function of arrays: (B, 3, H, W) float32 pixels -> (B, K) float32 logits."""

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(pixels)).numpy())

    return run
