"""The pixels that activation ranges are taken from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_deit.data.photos import list_photos, pick_evenly
from edge_deit.data.preprocess import PreprocessSpec, load_pixels

__all__ = ["CalibrationSet", "calibration_set"]


@dataclass(frozen=True)
class CalibrationSet:
    """Pixels that activation ranges are taken from.

    `pixels` is (N, 3, H, W) float32, normalised; `sha256` is that of the pixels' bytes, so it covers the
    photos, their order and their preprocessing; `source` says where they came from; `labels` are the
    photos' classes where they are known.
    """

    pixels: Tensor
    sha256: str
    source: str
    labels: tuple[int | None, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    def __iter__(self) -> Iterator[Tensor]:
        """One photo at a time, (1, 3, H, W)."""
        return (self.pixels[index : index + 1] for index in range(len(self)))


def calibration_set(folder: Path, spec: PreprocessSpec, count: int) -> CalibrationSet:
    """Up to `count` photos of a folder (split `calibration` where there are splits), as pixels.

    Raises:
        EdgeDeitError: no photo, or a broken one (named).
    """
    photos = pick_evenly(list_photos(folder, "calibration"), count)
    pixels = np.concatenate([load_pixels(photo.path, spec) for photo in photos])
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    labels = tuple(photo.label for photo in photos)
    return CalibrationSet(torch.from_numpy(pixels), digest, f"{len(photos)} photos", labels)
