"""The photos of a training and their classes: those of the training folder, which others are matched to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Progress
from edge_deit.data.imagenet import normalized
from edge_deit.data.labels import match_labels, training_classes
from edge_deit.data.listing import Listing, Photo, pick_evenly
from edge_deit.data.photos import list_photos

__all__ = [
    "judging_photos",
    "photos_of_classes",
    "say_shared",
    "shared_photos",
    "training_photos",
    "uneven",
]

_SETS: Final = frozenset({"train", "training", "val", "valid", "validation", "test", "eval"})
"""Folder names that are sets of photos rather than classes."""

_UNEVEN: Final = 2.0
"""The largest class beside the smallest, from where it is worth a line."""


def training_photos(
    data: Path, progress: Progress, *, balanced: bool = False, output: Path | None = None
) -> tuple[tuple[str, ...], list[Photo]]:
    """The classes, and the photos with their numbers; what is odd about them is said.

    Raises:
        EdgeDeitError: no labels, one class alone, folders that are sets of photos, or an `output` that
            would lie among the classes.
    """
    listing = list_photos(data, use="train")
    _check_outside(output, listing, data)
    names = training_classes(listing)
    photos = _matched(listing, names)
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
    _say_counts(names, photos, progress, balanced=balanced)
    return names, photos


def photos_of_classes(
    data: Path,
    names: Sequence[str],
    progress: Progress,
    *,
    balanced: bool = False,
    output: Path | None = None,
) -> list[Photo]:
    """Training photos for a model that has its classes; what is odd about them is said.

    Raises:
        EdgeDeitError: no labels, a class that the model has not, or an `output` among the classes.
    """
    _check_outside(output, list_photos(data, use="train"), data)
    photos = judging_photos(data, "train", names, 0, progress)
    _say_counts(names, photos, progress, balanced=balanced)
    return photos


def _check_outside(output: Path | None, listing: Listing, data: Path) -> None:
    if output is not None and listing.kind == "folders" and _inside(output, data):
        raise EdgeDeitError(
            f"--output {output} lies in {data}, where folders are classes: --resume would take it for one; "
            "choose another"
        )


def _say_counts(
    names: Sequence[str], photos: Sequence[Photo], progress: Progress, *, balanced: bool
) -> None:
    counts = Counter(photo.label for photo in photos if photo.label is not None)
    if few := [name for index, name in enumerate(names) if counts[index] == 1]:
        progress.note(f"classes of one photo, which teach little: {', '.join(few[:5])}")
    if line := uneven(names, counts):
        drawn = "--balanced draws them evenly" if not balanced else "drawn evenly (--balanced)"
        progress.note(f"{line}; {drawn}")


def _inside(place: Path, folder: Path) -> bool:
    return Path(os.path.realpath(place)).is_relative_to(os.path.realpath(folder))


def uneven(names: Sequence[str], counts: Mapping[int, int]) -> str:
    """How uneven classes are, in a line; empty where the largest has less than twice the smallest's photos.

    >>> uneven(("ant", "bee", "fly"), {0: 40, 1: 10, 2: 20})
    'classes are uneven: from 10 photos (bee) to 40 (ant), 4 times as many'
    """
    least, most = min(counts, key=lambda k: counts[k]), max(counts, key=lambda k: counts[k])
    ratio = counts[most] / counts[least]
    if ratio < _UNEVEN:
        return ""
    return (
        f"classes are uneven: from {counts[least]} photo{'' if counts[least] == 1 else 's'} "
        f"({names[least]}) to {counts[most]} ({names[most]}), {ratio:.3g} times as many"
    )


def judging_photos(
    folder: Path | None,
    use: Literal["train", "validation", "test"],
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
    photos = _matched(listing, names)
    for line in listing.remarks():
        progress.note(line)
    present = {photo.label for photo in photos}
    if absent := [name for index, name in enumerate(names) if index not in present]:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        progress.note(f"{folder} has no photo of {', '.join(absent[:5])}{more}")
    return pick_evenly(photos, count or len(photos))


def _matched(listing: Listing, names: Sequence[str]) -> list[Photo]:
    """The photos with their classes; a refusal counts the photos of classes that are not there."""
    try:
        remedy = "train on photos whose classes have these names"
        return list(match_labels(listing, names, remedy=remedy).photos)
    except EdgeDeitError as error:
        known = {normalized(name) for name in names}
        extra = Counter(
            one.name for one in listing.photos if normalized(one.name or "") not in known
        )
        if not extra:
            raise
        counted = ", ".join(f"{count} of {name}" for name, count in extra.most_common(5))
        raise EdgeDeitError(f"{error} (photos: {counted})") from error


def shared_photos(first: Sequence[Photo], second: Sequence[Photo]) -> int:
    """How many files are in both; links count as what they lead to."""
    known = {os.path.realpath(photo.path) for photo in first}
    return sum(os.path.realpath(photo.path) in known for photo in second)


def say_shared(
    training: list[Photo], validation: list[Photo], testing: list[Photo], progress: Progress
) -> None:
    """Photos in two sets judge what they have helped to make."""
    for photos, what, others, by in (
        (validation, "--val", training, "trained on too"),
        (testing, "--test", training, "trained on too"),
        (testing, "--test", validation, "in --val too, which chooses the epoch"),
    ):
        if count := shared_photos(others, photos):
            progress.note(
                f"{count} of the {len(photos)} photos of {what} are {by}: their accuracy flatters"
            )
