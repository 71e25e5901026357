"""Labelled and unlabelled photos: class folders, a labels.csv, or a plain folder."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.image_files import IMAGE_SUFFIXES, UNREADABLE_SUFFIXES
from edge_deit.data.listing import EMPTY, NESTED, Kind, LeftOut, ListedPhoto, Listing, class_order
from edge_deit.data.tables import read_table

__all__ = ["list_photos"]

_SYSTEM: Final = ("__macosx", "@eadir", "thumbs.db", "desktop.ini", "$recycle.bin", "lost+found")
_ARCHIVES: Final = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_TABLES: Final = ("labels.csv", "labels.tsv")
_TAKEN: Final = "a folder: one subfolder a class, photos with a labels.csv, or loose photos"


def list_photos(folder: Path, split: str | None = None, use: str | None = None) -> Listing:
    """All photos of a folder.

    Three layouts: `labels.csv` with the columns `file`, `label` and, if there is more than one set in it,
    `split`; one subfolder a class; or loose images without labels. Links are followed. `split` is what the
    user asked for; otherwise `use`, a key of `tables.SPLITS`, says which split of a table is taken.

    Raises:
        EdgeDeitError: no such folder, no image in it, an unreadable table, a split that is not there, or a
            photo in two classes.
    """
    _check_folder(folder)
    table = _find_table(folder)
    if table is not None:
        return _from_table(table, split, use)
    if split is not None:
        raise EdgeDeitError(
            f"{folder} has no labels.csv, so there is no split {split!r}; leave --split out"
        )
    return _walk(folder)


def _check_folder(folder: Path) -> None:
    text = str(folder)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
        text = re.sub(":/+", "://", text, count=1)  # a path has merged the slashes
        raise EdgeDeitError(
            f"{text} is an address, which is not taken; download it and name {_TAKEN}"
        )
    if folder.suffix.lower() in _ARCHIVES and not folder.is_dir():
        raise EdgeDeitError(
            f"{text} is an archive, which is not taken; unpack it and name {_TAKEN}"
        )
    if folder.is_file():
        raise EdgeDeitError(f"{text} is a file, which is not taken; name {_TAKEN}")
    if not folder.is_dir():
        raise EdgeDeitError(f"image folder {text} does not exist")


# A table


def _find_table(folder: Path) -> Path | None:
    found = [entry for entry in _entries(folder) if entry.name.lower() in _TABLES]
    if len(found) > 1:
        names = ", ".join(entry.name for entry in found)
        raise EdgeDeitError(f"{folder} has several tables of labels: {names}; keep one")
    return found[0] if found and found[0].is_file() else None


def _from_table(table: Path, split: str | None, use: str | None) -> Listing:
    found = read_table(table, split, use)
    photos, left = [], []
    for row in found.rows:
        if reason := _unreadable(row.path):
            left.append(LeftOut(row.path.relative_to(table.parent).as_posix(), reason))
        else:
            photos.append(ListedPhoto(row.path, row.label))
    if not photos:
        raise EdgeDeitError(f"{table} lists no image that can be read here; {left[0].reason}")
    return Listing(
        root=table.parent,
        kind="table",
        photos=tuple(photos),
        classes=class_order(row.label for row in found.rows),
        split=found.split,
        left_out=tuple(left),
        notes=found.notes,
    )


# Folders


def _walk(folder: Path) -> Listing:
    """Class folders where any holds a photo, otherwise the loose photos."""
    left: list[LeftOut] = []
    loose, folders = [], []
    for entry in _entries(folder):
        if reason := _not_ours(entry) or _loop(entry, folder):
            left.append(LeftOut(entry.name, reason))
        elif entry.is_dir():
            folders.append(entry)
        elif reason := _no_photo(entry):
            left.append(LeftOut(entry.name, reason))
        else:
            loose.append(ListedPhoto(entry, None))
    labelled = [photo for entry in folders for photo in _class_folder(entry, folder, left)]
    kind: Kind = "folders" if labelled else "loose"
    if labelled:
        left += [LeftOut(one.path.name, "a photo beside class folders") for one in loose]
    photos = _each_once(labelled, folder, left) if labelled else loose
    if not photos:
        raise EdgeDeitError(_nothing(folder, folders, left))
    return Listing(
        root=folder,
        kind=kind,
        photos=tuple(photos),
        classes=class_order(one.name for one in photos if one.name is not None),
        left_out=tuple(left),
    )


def _class_folder(entry: Path, root: Path, left: list[LeftOut]) -> Iterator[ListedPhoto]:
    """Photos of one class; what else is there goes to `left`."""
    count = 0
    for inner in _entries(entry):
        name = f"{entry.name}/{inner.name}"
        reason = _not_ours(inner) or _loop(inner, root)
        if not reason and inner.is_dir():
            reason = NESTED
        if reason := reason or _no_photo(inner):
            left.append(LeftOut(name, reason))
        else:
            count += 1
            yield ListedPhoto(inner, entry.name)
    if not count:
        left.append(LeftOut(entry.name, EMPTY))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except PermissionError as error:
        raise EdgeDeitError(f"folder {folder} cannot be read: permission denied") from error


def _not_ours(entry: Path) -> str:
    """Why a file or folder is none of the user's photos, whatever it holds; empty when it may be one."""
    if entry.name.lower() in _SYSTEM:
        return "made by the system"
    return "hidden" if entry.name.startswith(".") else ""


def _loop(entry: Path, root: Path) -> str:
    """Why a link is not followed; empty when it is, and for all that is no link."""
    if not entry.is_symlink():
        return ""
    if not os.path.exists(entry):
        return "a link that leads nowhere"
    place = Path(os.path.realpath(entry))
    here = Path(os.path.realpath(entry.parent))
    if here.is_relative_to(place) or Path(os.path.realpath(root)).is_relative_to(place):
        return "a link that leads back to where it stands"
    return ""


def _unreadable(path: Path) -> str:
    remedy = UNREADABLE_SUFFIXES.get(path.suffix.lower())
    return f"{path.suffix.lower()} cannot be read here: {remedy}" if remedy else ""


def _no_photo(path: Path) -> str:
    """Why a file is not taken as a photo; empty when it is."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return "" if os.path.isfile(path) else "no file"
    if path.suffix.lower() in (".csv", ".tsv"):
        return "a table that is not called labels.csv"
    return _unreadable(path) or "no photo by its name"


def _each_once(photos: Sequence[ListedPhoto], root: Path, left: list[LeftOut]) -> list[ListedPhoto]:
    """The photos without those that links bring in twice; one in two classes is refused."""
    first: dict[str, ListedPhoto] = {}
    for photo in photos:
        known = first.setdefault(os.path.realpath(photo.path), photo)
        if known is photo:
            continue
        if known.name != photo.name:
            raise EdgeDeitError(
                f"{photo.path} and {known.path} are the same file in two classes; remove one link"
            )
        left.append(LeftOut(photo.path.relative_to(root).as_posix(), "a link to a photo beside it"))
    return list(first.values())


def _nothing(folder: Path, folders: Sequence[Path], left: Sequence[LeftOut]) -> str:
    """The message for a folder without photos."""
    counts = Counter(one.reason for one in left)
    found = "; ".join(f"{count} left out ({reason})" for reason, count in counts.most_common(3))
    nested = [one.file for one in left if one.reason == NESTED]
    hint = f"; classes may lie deeper: give {folder / folders[0].name}" if nested else ""
    kinds = ", ".join(IMAGE_SUFFIXES)
    searched = f"no image in {folder} or its subfolders (looked for {kinds})"
    return f"{searched}{'; ' if found else ''}{found}{hint}"
