"""Which of a teacher's outputs is which of the student's classes: by name, as photos are matched too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.imagenet import is_imagenet
from edge_deit.data.labels import numbered
from edge_deit.data.name_matching import by_imagenet, by_name, classes_called, first_way

__all__ = ["class_places"]

_NAMED: Final = 5  # in a message


def class_places(
    teacher: str, names: Sequence[str], classes: Sequence[str], outputs: int
) -> tuple[list[int], tuple[str, ...]]:
    """The output of the teacher for each of the student's `classes`, and lines for the user.

    `names` are the teacher's classes in the order of its `outputs`; numbers and LABEL_0, LABEL_1 are no
    names, and there may be none. Without names on either side as many classes are taken in order.

    >>> class_places("t", ["dog", "cat", "fox"], ["Cat", "dog"], 3)[0]
    [1, 0]

    Raises:
        EdgeDeitError: classes that the teacher has not, that may be several of its own, or without names
            and of another number.
    """
    if _nameless(names) or numbered(classes):
        return _in_order(teacher, names, classes, outputs)
    ways = by_name(names) + (by_imagenet() if is_imagenet(names) else [])
    found = first_way(classes, ways)
    if found is None:
        wrong = min(([name for name in classes if way(name) is None] for _, way in ways), key=len)
        raise EdgeDeitError(_refusal(teacher, wrong, names, classes))
    how, place = found
    places = [place[name] for name in classes]
    first: dict[int, str] = {}
    for name, index in place.items():
        if first.setdefault(index, name) != name:
            raise EdgeDeitError(
                f"teacher {teacher}: {first[index]!r} and {name!r} are both its class {names[index]!r}; "
                "give each class of the photos one name"
            )
    return places, tuple(_lines(teacher, how, places, outputs))


def _nameless(names: Sequence[str]) -> bool:
    return numbered(names) or list(names) == [f"LABEL_{index}" for index in range(len(names))]


def _in_order(
    teacher: str, names: Sequence[str], classes: Sequence[str], outputs: int
) -> tuple[list[int], tuple[str, ...]]:
    whose = f"teacher {teacher} names" if _nameless(names) else "the photos' labels name"
    if outputs != len(classes):
        raise EdgeDeitError(
            f"{whose} no classes, and the teacher has {outputs}, the student {len(classes)} "
            f"({_few(classes)}); write names into id2label of the teacher's config.json, name the photos' "
            "folders by words, or give a teacher of as many classes"
        )
    places = list(range(outputs))
    if sorted(names) == sorted(classes):  # the same numbers
        places = [list(names).index(name) for name in classes]
        if places == sorted(places):
            return places, ()
        return places, (f"teacher {teacher}: its outputs are matched by class number",)
    return places, (
        f"assumed: {whose} no classes, so the teacher's {outputs} outputs are the student's classes in "
        f"order ({_few(classes)})",
    )


def _lines(teacher: str, how: str, places: list[int], outputs: int) -> list[str]:
    lines = []
    if places != sorted(places) or how != "by exact name":
        order = "" if places == sorted(places) else ", in another order than its own"
        lines.append(f"teacher {teacher}: its classes are matched {how}{order}")
    if left := outputs - len(places):
        lines.append(
            f"teacher {teacher} has {outputs} classes; {left}, which the student has not, are left out"
        )
    return lines


def _few(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _refusal(
    teacher: str, wrong: Sequence[str], names: Sequence[str], classes: Sequence[str]
) -> str:
    if several := classes_called(wrong[0], names):
        return (
            f"teacher {teacher}: {wrong[0]!r} may be any of its classes {several}; call it by what only "
            "one of them has"
        )
    return (
        f"teacher {teacher} lacks {len(wrong)} of the student's {len(classes)} classes: {_few(wrong)}; "
        f"its own are {_few(names)}; name the photos' folders as it does, or give a teacher that knows them"
    )
