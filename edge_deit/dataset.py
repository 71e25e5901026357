"""Labelled and unlabelled photos: class folders, a labels.csv, or a plain folder; calibration sets."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from edge_deit.errors import EdgeDeitError
from edge_deit.preprocess import IMAGE_SUFFIXES, PreprocessSpec, load_pixels

__all__ = ["CalibrationSet", "Photo", "calibration_set", "class_names", "list_photos", "spread"]


@dataclass(frozen=True)
class Photo:
    """One image file and the index of its class, if that is known."""

    path: Path
    label: int | None


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


def spread(photos: list[Item], count: int) -> list[Item]:
    """At most `count` photos, evenly spaced over the list, so that all classes take part."""
    if len(photos) <= count:
        return photos
    return [photos[index * len(photos) // count] for index in range(count)]


def calibration_set(folder: Path, spec: PreprocessSpec, count: int) -> CalibrationSet:
    """Up to `count` photos of a folder (split `calibration` where there are splits), as pixels.

    Raises:
        EdgeDeitError: no photo, or a broken one (named).
    """
    photos = spread(list_photos(folder, "calibration"), count)
    pixels = np.concatenate([load_pixels(photo.path, spec) for photo in photos])
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    labels = tuple(photo.label for photo in photos)
    return CalibrationSet(torch.from_numpy(pixels), digest, f"{len(photos)} photos", labels)
