"""Which class of the model a photo has: the one place that decides it, by names and never by order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.imagenet import imagenet_classes, is_imagenet, normalized
from edge_deit.data.label_choice import IMAGENET, LabelChoice, check_lines
from edge_deit.data.listing import EMPTY, NESTED, Listing, Photo
from edge_deit.data.name_matching import (
    by_imagenet,
    by_name,
    class_number,
    classes_called,
    first_way,
)
from edge_deit.data.tables import SPLITS, is_number

__all__ = ["Matched", "match_labels", "model_labels", "numbered", "training_classes"]

_REMEDY: Final = "--labels FILE names the model's classes, one a line in the order of its outputs"


@dataclass(frozen=True)
class Matched:
    """Photos with the indices of their classes, and how these were found, in words for the report."""

    photos: tuple[Photo, ...]
    how: str


def numbered(labels: Sequence[str]) -> bool:
    """Whether labels are nothing but the classes' numbers, as those of a checkpoint that names none."""
    return list(labels) == [str(index) for index in range(len(labels))]


def model_labels(labels: Sequence[str], choice: LabelChoice | None) -> tuple[str, ...]:
    """The names of a model's classes: its own, or those that were chosen.

    Raises:
        EdgeDeitError: chosen names that are too few, too many, or contradict the model's own; a name of
            more than one line, as files carry lists of names, one a line.
    """
    names = _chosen_labels(labels, choice)
    check_lines(names, choice)
    return names


def _chosen_labels(labels: Sequence[str], choice: LabelChoice | None) -> tuple[str, ...]:
    if choice is None:
        return tuple(labels)
    if not labels:
        raise EdgeDeitError(
            f"--labels {choice.source}: the model has no classes to name; leave --labels out"
        )
    if len(choice.names) != len(labels):
        raise EdgeDeitError(
            f"--labels {choice.source} names {len(choice.names)} classes, the model has {len(labels)}; "
            "give a name for each, in the order of its outputs"
        )
    if numbered(labels):
        return choice.names
    if choice.source == IMAGENET:
        if not is_imagenet(labels):
            raise EdgeDeitError(
                f"--labels {IMAGENET}: the model names its classes otherwise ({_few(labels)})"
            )
        return tuple(labels)
    places: dict[str, list[int]] = {}  # ImageNet-1k has two names that are two classes' each
    for index, label in enumerate(labels):
        places.setdefault(normalized(label), []).append(index)
    for index, name in enumerate(choice.names):
        found = places.get(normalized(name), [index])
        if index not in found:
            raise EdgeDeitError(
                f"--labels {choice.source} has {name!r} in place {index}, the model's own names have it in "
                f"place {found[0]}; correct the file, or leave --labels out"
            )
    return choice.names


def match_labels(
    listing: Listing,
    labels: Sequence[str],
    choice: LabelChoice | None = None,
    *,
    remedy: str = _REMEDY,
) -> Matched:
    """The photos with the indices of their classes among the model's outputs.

    `labels` are the model's own, the classes' numbers where it names none. The first of these ways that
    takes every name counts: the exact name, the name whatever its case and separators, ImageNet's synset,
    name or number where the model is one of ImageNet-1k, the number where the model names no classes. Whole
    numbers in a table are the numbers of the classes. `remedy` ends the message where they do not match.

    Raises:
        EdgeDeitError: a name that is no class, two names of one class, or numbers that may be read in two
            ways.
    """
    names = model_labels(labels, choice)
    if not listing.classes:
        return Matched(tuple(Photo(one.path, None) for one in listing.photos), "no labels")
    how, place = _places(listing, names, choice, remedy)
    if choice is not None:
        how = f"{how}, labels from {choice.source}"
    photos = (
        Photo(one.path, None if one.name is None else place[one.name]) for one in listing.photos
    )
    return Matched(tuple(photos), how)


def _places(
    listing: Listing, names: tuple[str, ...], choice: LabelChoice | None, remedy: str
) -> tuple[str, dict[str, int]]:
    """The index of each class of the listing, and how it was found."""
    found = first_way(listing.classes, by_name(names))
    if listing.kind == "table" and all(is_number(name) for name in listing.classes):
        return _by_number(listing, names, found)
    if found is None and numbered(names):
        found = first_way(listing.classes, [("by class number", class_number(len(names)))])
    if found is None and (is_imagenet(names)):
        found = first_way(listing.classes, by_imagenet())
    if found is None:
        raise EdgeDeitError(_refusal(listing, names, choice, remedy))
    how, place = found
    first: dict[int, str] = {}
    for name, index in place.items():
        if first.setdefault(index, name) != name:
            raise EdgeDeitError(
                f"{first[index]!r} and {name!r} in {listing.root} are both the model's class "
                f"{names[index]!r}; give each class one name"
            )
    return ("by class number" if numbered(names) else how), place


def _by_number(
    listing: Listing, names: tuple[str, ...], found: tuple[str, dict[str, int]] | None
) -> tuple[str, dict[str, int]]:
    """Whole numbers in a table: numbers of classes, unless only names of classes are such numbers."""
    number = class_number(len(names))
    numbers = {name: number(name) for name in listing.classes}
    place = {name: index for name, index in numbers.items() if index is not None}
    if len(place) < len(numbers):
        if found is not None:
            return found
        wrong = next(name for name in numbers if name not in place)
        photo = next((one.path for one in listing.photos if one.name == wrong), listing.root)
        raise EdgeDeitError(
            f"{photo} has label {wrong}, the model has classes 0 to {len(names) - 1}; "
            "is this another dataset?"
        )
    if found is not None and found[1] != place:
        name = next(name for name in place if place[name] != found[1][name])
        raise EdgeDeitError(
            f"the labels of {listing.root} are numbers, and so are the model's names: {name!r} may be "
            f"class number {name} or the class of that name, number {found[1][name]}; use class folders, "
            "whose names are those of classes"
        )
    return "by class number", place


# Training


def training_classes(listing: Listing) -> tuple[str, ...]:
    """The classes that photos teach, in the order that a new model's outputs get.

    Class folders and written labels count in the order of `class_order`; numbers in a table are the
    numbers of the classes.

    Raises:
        EdgeDeitError: no labels, a class without a photo, folders inside class folders, or folders that are
            sets rather than classes.
    """
    root = listing.root
    if not listing.classes:
        raise EdgeDeitError(f"{root} has no labels; use one subfolder a class, or a labels.csv")
    for reason in (NESTED, EMPTY):
        if found := [one.file for one in listing.left_out if one.reason == reason]:
            raise EdgeDeitError(
                f"{root / found[0]} is {reason} ({len(found)} in all): give each class one folder of "
                "photos, or remove it"
            )
    known = {name for names in SPLITS.values() for name in names} | {"test"}
    if listing.kind == "folders" and {name.casefold() for name in listing.classes} <= known:
        raise EdgeDeitError(
            f"the folders of {root} are called {', '.join(listing.classes)}: they are sets of photos, not "
            f"classes; give {root / listing.classes[0]}"
        )
    if listing.kind == "table" and all(is_number(name) for name in listing.classes):
        return _training_numbers(listing)
    return listing.classes


def _training_numbers(listing: Listing) -> tuple[str, ...]:
    numbers = {int(float(name)) for name in listing.classes}
    count = max(numbers) + 1
    if absent := sorted(set(range(count)) - numbers):
        raise EdgeDeitError(
            f"the labels of {listing.root} go from {min(numbers)} to {max(numbers)}, but no photo has "
            f"{absent[0]}; number the classes from 0 without gaps, or write their names"
        )
    if min(numbers) < 0:
        raise EdgeDeitError(f"{listing.root} has the label {min(numbers)}; classes count from 0")
    return tuple(str(index) for index in range(count))


# Words


def _few(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _refusal(
    listing: Listing, names: tuple[str, ...], choice: LabelChoice | None, remedy: str
) -> str:
    """What does not match, the model's names beside it, and what to type."""
    what = "labels" if listing.kind == "table" else "class folders"
    if remedy == _REMEDY and len(names) == len(imagenet_classes()):
        remedy += f", or --labels {IMAGENET}"
    if numbered(names) and choice is None:
        return (
            f"the model names no classes (0 to {len(names) - 1}), so the {what} of {listing.root} "
            f"({_few(listing.classes)}) cannot be told apart: {remedy}"
        )
    ways = by_name(names) + (by_imagenet() if is_imagenet(names) else [])
    wrong = min(
        ([name for name in listing.classes if way(name) is None] for _, way in ways), key=len
    )
    if several := classes_called(wrong[0], names):
        return (
            f"{wrong[0]!r} in {listing.root} may be any of the model's classes {several}; "
            "call it by what only one of them has"
        )
    return (
        f"{len(wrong)} of {len(listing.classes)} {what} of {listing.root} are none of the model's classes: "
        f"{_few(wrong)}; its classes are {_few(names)}; name them alike, or {remedy}"
    )
