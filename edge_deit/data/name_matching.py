"""How a name may mean one of a model's classes: exactly, loosely, or as ImageNet-1k calls it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_deit.data.imagenet import first_name, imagenet_classes, is_imagenet, normalized
from edge_deit.data.tables import is_number

__all__ = ["Way", "by_imagenet", "by_name", "class_number", "classes_called", "first_way"]

Way = tuple[str, Callable[[str], int | None]]
"""How a name becomes the index of a class, in words and as a function."""


def class_number(count: int) -> Callable[[str], int | None]:
    """The number of a class that a text is, where there are `count`."""

    def number(name: str) -> int | None:
        index = int(float(name)) if is_number(name) else -1
        return index if 0 <= index < count else None

    return number


def by_name(names: Sequence[str]) -> list[Way]:
    """The exact name, then the name whatever its case and separators; one that two classes have is none."""
    exact = _unique(dict(enumerate(names)))
    loose = _unique({index: normalized(name) for index, name in enumerate(names)})

    def either(name: str) -> int | None:
        return exact.get(name, loose.get(normalized(name)))

    return [("by exact name", exact.get), ("by name, whatever its case and separators", either)]


def by_imagenet() -> list[Way]:
    """What ImageNet-1k calls its classes, for a model of these."""
    known = imagenet_classes()
    synsets = {one.synset: one.index for one in known}
    first = _unique({one.index: first_name(one.name) for one in known})
    return [
        ("by ImageNet-1k synset", lambda name: synsets.get(name.lower())),
        ("by ImageNet-1k name", lambda name: first.get(first_name(name))),
        ("by ImageNet-1k class number", class_number(len(known))),
    ]


def _unique(names: dict[int, str]) -> dict[str, int]:
    """Index of each name that only one class has."""
    found: dict[str, int] = {}
    twice = set()
    for index, name in names.items():
        if found.setdefault(name, index) != index:
            twice.add(name)
    return {name: index for name, index in found.items() if name not in twice}


def first_way(classes: Sequence[str], ways: Sequence[Way]) -> tuple[str, dict[str, int]] | None:
    """The first way that takes every name, with what it gives."""
    for how, way in ways:
        place = {name: index for name in classes if (index := way(name)) is not None}
        if len(place) == len(classes):
            return how, place
    return None


def classes_called(name: str, names: Sequence[str]) -> str:
    """The classes that share a name, as `134 (n02012849), ...`; empty where it is not shared."""
    same = {i: label for i, label in enumerate(names) if normalized(label) == normalized(name)}
    if is_imagenet(names):
        known = imagenet_classes()
        same = {one.index: one.synset for one in known if first_name(one.name) == first_name(name)}
    return ", ".join(f"{i} ({what})" for i, what in same.items()) if len(same) > 1 else ""
