"""The photos of a folder in a fixed order, each with what the folder calls it, and what was left out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeVar

from edge_deit.common.files import shown_name

__all__ = [
    "EMPTY",
    "NESTED",
    "Item",
    "Kind",
    "LeftOut",
    "ListedPhoto",
    "Listing",
    "Photo",
    "class_order",
    "pick_evenly",
]

NESTED: Final = "a folder inside a class folder"

EMPTY: Final = "a class folder without a photo"

Kind = Literal["folders", "table", "loose"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Photo:
    """One image file and the index of its class, if that is known."""

    path: Path
    label: int | None


@dataclass(frozen=True)
class ListedPhoto:
    """One image file and its class as the folder or the table calls it, None for loose photos."""

    path: Path
    name: str | None


@dataclass(frozen=True)
class LeftOut:
    """Something in the folder that is not taken: its path relative to the root, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """The photos of a folder in a fixed order.

    `classes` holds the names of all classes that have photos, in the order of `class_order`, also of those
    whose photos `pick` left out. `split` is that of a table which was taken, `notes` are lines that a user
    should read.
    """

    root: Path
    kind: Kind
    photos: tuple[ListedPhoto, ...]
    classes: tuple[str, ...]
    split: str | None = None
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.photos)

    def pick(self, count: int | None) -> Listing:
        """At most `count` photos, evenly spread; None takes all."""
        if count is None:
            return self
        return replace(self, photos=tuple(pick_evenly(self.photos, count)))

    def split_off(self, count: int) -> tuple[Listing, Listing]:
        """`count` photos, evenly spread, and all others."""
        chosen = set(pick_evenly(range(len(self)), count))
        first = tuple(photo for place, photo in enumerate(self.photos) if place in chosen)
        rest = tuple(photo for place, photo in enumerate(self.photos) if place not in chosen)
        return replace(self, photos=first), replace(self, photos=rest)

    def left_out_by_reason(self) -> dict[str, list[str]]:
        """Files by the reason why they were left out."""
        found: dict[str, list[str]] = {}
        for one in self.left_out:
            found.setdefault(one.reason, []).append(one.file)
        return found

    def remarks(self) -> list[str]:
        """`notes`, and a line for each reason why something was left out, with the first names."""
        lines = list(self.notes)
        for reason, names in self.left_out_by_reason().items():
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            lines.append(f"left out: {', '.join(names[:3])}{more} ({reason})")
        return [shown_name(line) for line in lines]


def pick_evenly(photos: Sequence[Item], count: int) -> list[Item]:
    """At most `count` photos, evenly spread over the list, so that all classes take part."""
    if len(photos) <= count:
        return list(photos)
    return [photos[index * len(photos) // count] for index in range(count)]


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once: whole numbers by value, all else by the alphabet."""
    found = sorted(set(names))
    if all(re.fullmatch(r"[0-9]+", name) for name in found):
        found.sort(key=int)
    return tuple(found)
