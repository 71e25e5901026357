"""A teacher's outputs and the student's classes: by name, in order only where there are none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.imagenet import imagenet_classes
from edge_deit.training.teacher_classes import class_places

IMAGENET = [one.name for one in imagenet_classes()]
NUMBERED = [f"LABEL_{index}" for index in range(3)]


@pytest.mark.parametrize(
    ("names", "classes", "places", "said"),
    [
        (["cat", "dog"], ["cat", "dog"], [0, 1], []),
        (["dog", "cat"], ["cat", "dog"], [1, 0], ["by exact name, in another order than its own"]),
        (["a", "b", "c"], ["a", "c"], [0, 2], ["3 classes; 1, which the student has not"]),
        (["Hot Dog", "cat"], ["hot_dog", "CAT"], [0, 1], ["whatever its case and separators"]),
        (["Cat", "cat", "dog"], ["cat", "dog"], [1, 2], ["3 classes; 1"]),
        (NUMBERED, ["a", "b", "c"], [0, 1, 2], ["assumed: teacher t names no classes"]),
        (["0", "1"], ["a", "b"], [0, 1], ["assumed: teacher t names no classes"]),
        (["0", "1"], ["0", "1"], [0, 1], []),
        (["0", "1"], ["1", "0"], [1, 0], ["matched by class number"]),
        (["a", "b"], ["0", "1"], [0, 1], ["assumed: the photos' labels name no classes"]),
        (IMAGENET, ["n01443537", "n01440764"], [1, 0], ["by ImageNet-1k synset", "1000 classes; 998"]),
        (IMAGENET, ["Goldfish", "tench"], [1, 0], ["separators, in another order", "1000 classes"]),
        ([f"{n}, x" for n in IMAGENET], ["tench"], [0], ["by ImageNet-1k name", "1000 classes; 999"]),
    ],
)  # fmt: skip
def test_places(
    names: Sequence[str], classes: Sequence[str], places: list[int], said: list[str]
) -> None:
    found, lines = class_places("t", names, classes, len(names))
    assert found == places
    assert len(lines) == len(said)
    assert all(words in line for words, line in zip(said, lines, strict=True))


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (["a", "b", "c"], ["a", "x", "y"], "lacks 2 of the student's 3 classes: x, y; its own are a, b"),
        (NUMBERED, ["a", "b"], "names no classes, and the teacher has 3, the student 2"),
        (["a", "b", "c"], ["0", "1"], "labels name no classes, and the teacher has 3, the student 2"),
        (["Cat", "CAT", "dog"], ["cat", "dog"], r"'cat' may be any of its classes 0 \(Cat\), 1 \(CAT\)"),
        (["hot dog", "cat"], ["hot_dog", "Hot-Dog"], "'hot_dog' and 'Hot-Dog' are both its class 'hot"),
        (IMAGENET, ["crane", "tench"], "'crane' may be any of its classes 134"),
        (IMAGENET, ["tench", "unicorn"], "lacks 1 of the student's 2 classes: unicorn"),
    ],
)  # fmt: skip
def test_refused(names: Sequence[str], classes: Sequence[str], message: str) -> None:
    with pytest.raises(EdgeDeitError, match=message) as refusal:
        class_places("t", names, classes, len(names))
    assert "teacher" in str(refusal.value)
