"""The pixels that activation ranges are taken from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_deit.common.files import hash_path, shown_name
from edge_deit.data.label_choice import LabelChoice
from edge_deit.data.labels import match_labels
from edge_deit.data.listing import Listing
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import PreprocessSpec, load_pixels

__all__ = ["CalibrationSet", "calibration_set", "read_set"]


@dataclass(frozen=True)
class CalibrationSet:
    """Pixels that activation ranges are taken from.

    `pixels` is (N, 3, H, W) float32, normalised; `sha256` is that of the pixels' bytes, so it covers the
    photos, their order and their preprocessing; `source` says where they came from; `listing` is where
    they were found, and `labels` are their classes where `with_labels` was asked for them, in the way that
    `labels_matched` says. `photo_sha256` are those of the photos' files.
    """

    pixels: Tensor
    sha256: str
    source: str
    labels: tuple[int | None, ...] = ()
    labels_matched: str = ""
    listing: Listing | None = None
    photo_sha256: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    def __iter__(self) -> Iterator[Tensor]:
        """One photo at a time, (1, 3, H, W)."""
        return (self.pixels[index : index + 1] for index in range(len(self)))

    def remarks(self) -> list[str]:
        """What a user should read about where the photos were found."""
        return [] if self.listing is None else self.listing.remarks()

    def doubts(self) -> list[str]:
        """Why their folder's own words make them poor calibration photos, a line each."""
        if self.listing is None or len(self.listing.classes) != 1:
            return []
        return [
            f"all calibration photos lie in one class folder, {shown_name(self.listing.classes[0])}: give "
            "photos of all classes that the app will see"
        ]

    def with_labels(self, labels: Sequence[str], choice: LabelChoice | None) -> CalibrationSet:
        """The same photos with their classes among the model's `labels`, as `match_labels` finds them.

        Raises:
            EdgeDeitError: names that are no classes of the model.
        """
        if self.listing is None:
            return self
        matched = match_labels(self.listing, labels, choice)
        labels_of = tuple(photo.label for photo in matched.photos)
        return replace(self, labels=labels_of, labels_matched=matched.how)


def calibration_set(folder: Path, spec: PreprocessSpec, count: int) -> CalibrationSet:
    """Up to `count` photos of a folder (split `calibration` or `train` where there are splits), as pixels.

    Raises:
        EdgeDeitError: no photo, or a broken one (named).
    """
    return read_set(list_photos(folder, use="calibration").pick(count), spec)


def read_set(listing: Listing, spec: PreprocessSpec) -> CalibrationSet:
    """All photos of a listing, as pixels.

    Raises:
        EdgeDeitError: no photo, or a broken one (named).
    """
    pixels = np.concatenate([load_pixels(photo.path, spec) for photo in listing.photos])
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    source = f"{len(listing)} photos"
    files = tuple(hash_path(photo.path) for photo in listing.photos)
    return CalibrationSet(
        torch.from_numpy(pixels), digest, source, listing=listing, photo_sha256=files
    )
