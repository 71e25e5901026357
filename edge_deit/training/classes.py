"""The photos of a training and their classes: those of the training folder, which others are matched to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Progress
from edge_deit.data.labels import match_labels, training_classes
from edge_deit.data.listing import Photo, pick_evenly
from edge_deit.data.photos import list_photos

__all__ = ["judging_photos", "shared_photos", "training_photos"]

_SETS: Final = frozenset({"train", "training", "val", "valid", "validation", "test", "eval"})
"""Folder names that are sets of photos rather than classes."""


def training_photos(data: Path, progress: Progress) -> tuple[tuple[str, ...], list[Photo]]:
    """The classes, and the photos with their numbers; what is odd about them is said."""
    listing = list_photos(data, use="train")
    names = training_classes(listing)
    remedy = "train on photos whose classes have these names"
    photos = list(match_labels(listing, names, remedy=remedy).photos)
    for line in listing.remarks():
        progress.note(line)
    if len(names) < 2:
        raise EdgeDeitError(
            f"{data} has one class only, {names[0]!r}; there is nothing to tell apart, give at least two"
        )
    if {name.casefold() for name in names} <= _SETS:
        raise EdgeDeitError(
            f"{data} has the folders {', '.join(names)}, which are sets of photos, not classes; name the "
            f"one with the training photos, --data {data / names[0]}"
        )
    counts = Counter(photo.label for photo in photos)
    if few := [name for index, name in enumerate(names) if counts[index] == 1]:
        progress.note(f"classes of one photo, which teach little: {', '.join(few[:5])}")
    return names, photos


def judging_photos(
    folder: Path | None,
    use: Literal["validation", "test"],
    names: Sequence[str],
    count: int,
    progress: Progress,
) -> list[Photo]:
    """Photos that judge the weights, with the numbers of the training's classes; at most `count`, 0: all.

    Raises:
        EdgeDeitError: photos without labels, or a class that is not trained; it is named, with its photos.
    """
    if folder is None:
        return []
    listing = list_photos(folder, use=use)
    if not listing.classes:
        raise EdgeDeitError(f"{folder} has no labels; use one subfolder a class, or a labels.csv")
    remedy = "train on photos whose classes have these names"
    photos = list(match_labels(listing, names, remedy=remedy).photos)
    for line in listing.remarks():
        progress.note(line)
    present = {photo.label for photo in photos}
    if absent := [name for index, name in enumerate(names) if index not in present]:
        progress.note(f"{folder} has no photo of {', '.join(absent[:5])}")
    return pick_evenly(photos, count or len(photos))


def shared_photos(first: Sequence[Photo], second: Sequence[Photo]) -> int:
    """How many files are in both; links count as what they lead to."""
    known = {os.path.realpath(photo.path) for photo in first}
    return sum(os.path.realpath(photo.path) in known for photo in second)
