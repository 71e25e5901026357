"""Labelled and unlabelled photos: class folders, a labels.csv, or a plain folder; calibration sets."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import IMAGE_SUFFIXES

__all__ = ["Photo", "class_names", "list_photos", "pick_evenly"]


@dataclass(frozen=True)
class Photo:
    """One image file and the index of its class, if that is known."""

    path: Path
    label: int | None


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def class_names(folder: Path) -> list[str]:
    """Names of the class folders, in the order of their labels (alphabetical); empty if there are none."""
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )


def list_photos(folder: Path, split: str | None = None) -> list[Photo]:
    """All photos of a folder, in a fixed order.

    Three layouts: `labels.csv` with the columns `file`, `label` and, if there is more than one set in
    it, `split`; one subfolder a class (labels follow the alphabetical order); or loose images without
    labels.

    Raises:
        EdgeDeitError: no such folder, no image in it, an unreadable table, or an empty split.
    """
    if not folder.is_dir():
        raise EdgeDeitError(f"image folder {folder} does not exist")
    table = folder / "labels.csv"
    if table.is_file():
        return _read_table(table, split)
    photos = [Photo(path, None) for path in sorted(folder.iterdir()) if _is_image(path)]
    if not photos:
        photos = [
            Photo(path, label)
            for label, name in enumerate(class_names(folder))
            for path in sorted((folder / name).iterdir())
            if _is_image(path)
        ]
    if not photos:
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise EdgeDeitError(f"no image in {folder} or its subfolders (looked for {kinds})")
    return photos


def _read_table(table: Path, split: str | None) -> list[Photo]:
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        if split is not None and rows and "split" in rows[0]:
            known = sorted({row["split"] for row in rows})
            rows = [row for row in rows if row["split"] == split]
            if not rows:
                raise EdgeDeitError(f"{table} has no split {split!r}; it has: {', '.join(known)}")
        photos = [Photo(_inside(table.parent, row["file"]), int(row["label"])) for row in rows]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise EdgeDeitError(
            f"{table} is not readable ({error}); it needs the columns file,label[,split]"
        ) from error
    if not photos:
        raise EdgeDeitError(f"{table} lists no image")
    return photos


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise EdgeDeitError(
            f"{folder / 'labels.csv'} names {name!r}, which lies outside its folder"
        )
    return path


Item = TypeVar("Item")


def pick_evenly(photos: list[Item], count: int) -> list[Item]:
    """At most `count` photos, evenly spaced over the list, so that all classes take part."""
    if len(photos) <= count:
        return photos
    return [photos[index * len(photos) // count] for index in range(count)]


def labels_for(photos: Sequence[Photo], names: Sequence[str], labels: Sequence[str]) -> list[Photo]:
    """The photos with the indices that the model's labels have.

    `names` are the class folders' names (empty when the labels are numbers already). Folders that are
    called like the model's labels count by name, otherwise there must be one a class, in alphabetical
    order.

    Raises:
        EdgeDeitError: folders that fit neither way, or a number that is no class of the model.
    """
    place = list(range(len(labels)))
    if names:
        known = {label: index for index, label in enumerate(labels)}
        if set(names) <= known.keys():
            place = [known[name] for name in names]
        elif len(names) != len(labels):
            absent = next(name for name in names if name not in known)
            raise EdgeDeitError(
                f"there are {len(names)} class folders, the model has {len(labels)} classes, and "
                f"{absent!r} is none of its labels; name the folders as the labels, or write a "
                "labels.csv: file,label"
            )
    moved = []
    for photo in photos:
        if photo.label is not None and not 0 <= photo.label < len(place):
            raise EdgeDeitError(
                f"{photo.path} has label {photo.label}, the model has classes 0 to {len(labels) - 1}; "
                "is this another dataset?"
            )
        moved.append(Photo(photo.path, None if photo.label is None else place[photo.label]))
    return moved
