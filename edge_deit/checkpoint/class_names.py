"""Names of classes in configurations: one for each row of the classifier, or a refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.imagenet import repeated_names

__all__ = ["check_names", "labels_from_config", "labels_from_timm"]

_NAMED: Final = 3  # in a message


def labels_from_config(path: Path, data: Mapping[str, Any], classes: int) -> tuple[str, ...]:
    """Class names of Hugging Face's `id2label`, in the order of the logits; empty when there are none.

    Raises:
        EdgeDeitError: names that are not one for each class, twice there, or contradicted by
            `num_labels` or `label2id`.
    """
    said = data.get("num_labels")
    if said is not None and (type(said) is not int or said != classes):
        raise EdgeDeitError(
            f"{path}: num_labels is {said!r:.40}, the classifier has {classes} rows; correct config.json"
        )
    table = data.get("id2label")
    if not table:
        return ()
    names = _in_order(path, "id2label", table, classes)
    backwards = data.get("label2id") or {}
    if not isinstance(backwards, Mapping):
        raise EdgeDeitError(f"{path}: label2id is {backwards!r:.40}, not an object")
    for index, name in enumerate(names):
        other = backwards.get(name, index)
        if str(other) != str(index) and names.count(name) == 1:
            raise EdgeDeitError(
                f"{path}: id2label calls class {index} {name!r:.60}, label2id says that it is class "
                f"{other!r:.20}; correct one of them"
            )
    return names


def labels_from_timm(path: Path, data: Mapping[str, Any], classes: int) -> tuple[str, ...]:
    """Class names of timm's `label_names`, in the order of the logits; empty when there are none.

    `label_descriptions` says more about each name; here it is only held against the names.

    Raises:
        EdgeDeitError: names that are not one for each class, or twice there.
    """
    said = data.get("num_classes", classes)
    if type(said) is not int or said != classes:
        raise EdgeDeitError(
            f"{path}: num_classes is {said!r:.40}, the classifier has {classes} rows; correct config.json"
        )
    table = data.get("label_names") or data.get("labels")
    if not table:
        return ()
    if isinstance(table, list):
        table = {str(index): name for index, name in enumerate(table)}
    names = _in_order(path, "label_names", table, classes)
    about = data.get("label_descriptions") or {}
    if not isinstance(about, Mapping):
        raise EdgeDeitError(f"{path}: label_descriptions is {about!r:.40}, not an object")
    if strange := sorted(about.keys() - set(names)):
        raise EdgeDeitError(
            f"{path}: label_descriptions has {strange[0]!r:.60}, label_names has not"
        )
    return names


def _in_order(path: Path, field: str, table: Any, classes: int) -> tuple[str, ...]:
    if not isinstance(table, Mapping):
        raise EdgeDeitError(f"{path}: {field} is {table!r:.40}, not a table of names")
    wanted = {str(index) for index in range(classes)}
    if lost := sorted(wanted - table.keys(), key=int):
        raise EdgeDeitError(
            f"{path}: {field} lacks class {', '.join(lost[:_NAMED])} ({len(lost)} of {classes})"
        )
    if strange := sorted(table.keys() - wanted):
        raise EdgeDeitError(
            f"{path}: {field} has {', '.join(f'{key!r:.40}' for key in strange[:_NAMED])}; the classes "
            f"are 0 to {classes - 1}, one for each row of the classifier"
        )
    return check_names(path, field, [table[str(index)] for index in range(classes)])


def check_names(path: Path, field: str, found: Sequence[Any]) -> tuple[str, ...]:
    """Names of classes in their order, each a text of its own.

    Raises:
        EdgeDeitError: one that is no name, or that two classes have; `field` says where it stands.
    """
    names = []
    for index, name in enumerate(found):
        if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
            raise EdgeDeitError(
                f"{path}: {field} calls class {index} {name!r:.40}, which is no name"
            )
        names.append(str(name))
    _refuse_twins(path, field, names)
    return tuple(names)


def _refuse_twins(path: Path, field: str, names: Sequence[str]) -> None:
    for name, places in repeated_names(names).items():
        numbers = ", ".join(map(str, places[:_NAMED]))
        raise EdgeDeitError(
            f"{path}: {field} calls {len(places)} classes {name!r:.60} ({numbers}); give each a name of "
            "its own"
        )
