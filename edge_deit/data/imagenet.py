"""The 1000 classes of ImageNet-1k in the order of every published checkpoint's outputs.

`imagenet1k.csv` holds index, WordNet synset and first name of the classes of ILSVRC 2012
(arXiv 1409.0575); names and synsets are those of WordNet 3.0.
"""

from __future__ import annotations

import csv
import functools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

__all__ = [
    "ImageNetClass",
    "first_name",
    "imagenet_classes",
    "is_imagenet",
    "normalized",
    "repeated_names",
]

_CLASSES: Final = 1000
_TWINS: Final = {"crane": (134, 517), "maillot": (638, 639)}
"""Names that ImageNet-1k gives to two classes each."""
_BETWEEN: Final = r"\s_\-/\\:"


@dataclass(frozen=True)
class ImageNetClass:
    """One class: its place among the outputs, WordNet's number (`n01443537`) and its first name."""

    index: int
    synset: str
    name: str


@functools.cache
def imagenet_classes() -> tuple[ImageNetClass, ...]:
    """All 1000, in order."""
    text = (files(__package__) / "imagenet1k.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(ImageNetClass(int(row["index"]), row["synset"], row["name"]) for row in rows)


def normalized(name: str) -> str:
    """A class's name without case, Unicode's forms of a letter, and the kind of separator between words.

    >>> normalized("Hot_Dog ") == normalized("hot-dog")
    True
    >>> normalized("-5") == normalized("5")
    False
    """
    folded = unicodedata.normalize("NFC", name).casefold().strip(" _")
    return re.sub(rf"(?<=[^{_BETWEEN}])[{_BETWEEN}]+(?=[^{_BETWEEN}])", " ", folded)


def first_name(name: str) -> str:
    """The normalised first of a class's names: `Goldfish, Carassius auratus` gives `goldfish`."""
    return normalized(name.split(",", 1)[0])


def is_imagenet(labels: Sequence[str]) -> bool:
    """Whether a model's labels are ImageNet-1k's, each in its place, alone or with their synonyms."""
    known = imagenet_classes()
    if len(labels) != len(known):
        return False
    return all(
        label == one.synset or first_name(label) == first_name(one.name)
        for label, one in zip(labels, known, strict=True)
    )


def repeated_names(names: Sequence[str]) -> dict[str, list[int]]:
    """Names that several classes have, with their places; the two of ImageNet-1k in theirs do not count.

    >>> repeated_names(["hen", "cock", "hen"])
    {'hen': [0, 2]}
    """
    places: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        places.setdefault(name, []).append(index)
    twins = _TWINS if len(names) == _CLASSES else {}
    return {
        name: found
        for name, found in places.items()
        if len(found) > 1 and tuple(found) != twins.get(name)
    }
