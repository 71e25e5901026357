"""Photos through models: order, broken ones, going on after an interruption."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path
from edge_deit.data.labels import match_labels
from edge_deit.data.listing import Photo
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.evaluation.accuracy import EvaluationRequest, evaluate
from evaluation_examples import everything

SPEC = PreprocessSpec(resize_size=16, crop_size=16)
LABELS = ("cat", "dog")


def found(folder: Path) -> tuple[Photo, ...]:
    """The photos of a folder, its classes matched by name."""
    return match_labels(list_photos(folder), LABELS).photos


def by_brightness(pixels: np.ndarray) -> np.ndarray:
    """A model of two classes."""
    value = float(pixels.mean())
    return np.array([[value, -value]], np.float32)


def inverted(pixels: np.ndarray) -> np.ndarray:
    return -by_brightness(pixels)


@pytest.fixture
def task(photos: Path, tmp_path: Path) -> EvaluationRequest:
    return EvaluationRequest(
        photos=found(photos),
        root=photos,
        spec=SPEC,
        labels=LABELS,
        reference=by_brightness,
        models={"same": by_brightness, "inverted": inverted},
        key={"artefacts": ["1", "2"]},
        journal=tmp_path / "journal.jsonl",
        workers=2,
        strict=False,
    )


def test_every_model_is_compared(task: EvaluationRequest) -> None:
    done: list[None] = []
    result = evaluate(task, on_photo=lambda: done.append(None))
    assert len(done) == result.images == result.labelled == 16
    assert (result.broken, result.resumed, result.classes) == ([], 0, {0, 1})
    same, other = result.tallies["same"], result.tallies["inverted"]
    assert (same.agreed, other.agreed) == (16, 0)
    assert same.right == other.right_float == 16 - other.right


@pytest.mark.parametrize("workers", [1, 4])
def test_order_and_digest_do_not_depend_on_the_workers(
    task: EvaluationRequest, workers: int
) -> None:
    expected = evaluate(task)
    other = evaluate(replace(task, workers=workers, journal=task.journal.with_suffix(".2")))
    assert other.digest.hexdigest() == expected.digest.hexdigest()
    assert other.tallies["inverted"].flips == expected.tallies["inverted"].flips


def interrupted_after(count: int) -> Callable[[np.ndarray], np.ndarray]:
    calls = iter(range(count))

    def model(pixels: np.ndarray) -> np.ndarray:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return by_brightness(pixels)

    return model


def test_an_interrupted_run_goes_on(task: EvaluationRequest) -> None:
    expected = evaluate(replace(task, journal=task.journal.with_suffix(".whole")))
    with pytest.raises(KeyboardInterrupt):
        evaluate(replace(task, reference=interrupted_after(5)))
    result = evaluate(task)
    assert result.resumed == 5
    assert result.digest.hexdigest() == expected.digest.hexdigest()
    assert everything(result) == everything(expected)


@pytest.mark.parametrize(
    "change",
    [
        {"key": {"artefacts": ["1", "3"]}},
        {"spec": replace(SPEC, resample="bilinear")},
        {"labels": ("cat", "dog", "cow")},
        {"labels": ("dog", "cat")},
        {"strict": True},
    ],
    ids=["another artefact", "other preprocessing", "one more label", "labels moved", "strict"],
)
def test_another_task_starts_from_the_beginning(
    task: EvaluationRequest, change: dict[str, object]
) -> None:
    evaluate(task)
    changed = replace(task, **change)  # type: ignore[arg-type]
    if len(changed.labels) == 3:
        three = lambda pixels: np.append(by_brightness(pixels), [[0]], 1)  # noqa: E731
        changed = replace(changed, reference=three, models={"same": three, "inverted": three})
    said: list[str] = []
    assert evaluate(changed, note=said.append).resumed == 0
    (line,) = said
    assert "17 lines left out" in line  # the first one says what the others depend on


def test_a_changed_photo_is_judged_again(task: EvaluationRequest, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    for index, photo in enumerate(task.photos[:3]):
        (copies / f"{index}.png").write_bytes(photo.path.read_bytes())
    task = replace(task, photos=found(copies), root=copies)
    evaluate(task)
    assert evaluate(task).resumed == 3
    changed = copies / "1.png"
    changed.write_bytes(task.photos[0].path.read_bytes())
    result = evaluate(task)
    assert result.resumed == 2
    assert everything(result) == everything(evaluate(replace(task, journal=None)))
    changed.unlink()
    assert [one.file for one in evaluate(task).broken] == ["1.png"]


def test_a_photo_with_another_label_is_judged_again(task: EvaluationRequest) -> None:
    evaluate(task)
    first = replace(task.photos[0], label=1)
    result = evaluate(replace(task, photos=[first, *task.photos[1:]]))
    assert (result.resumed, result.tallies["same"].classes[0].images) == (15, 7)


def test_photos_in_another_order_are_judged_again(task: EvaluationRequest) -> None:
    evaluate(task)
    turned = replace(task, photos=task.photos[::-1])
    result = evaluate(turned)
    assert result.resumed == 0
    assert everything(result) == everything(evaluate(replace(turned, journal=None)))


def test_a_photo_that_can_be_read_by_now_counts(task: EvaluationRequest, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    for index, photo in enumerate(task.photos[:3]):
        (copies / f"{index}.png").write_bytes(photo.path.read_bytes())
    sound = (copies / "1.png").read_bytes()
    (copies / "1.png").write_bytes(b"no image")
    task = replace(task, photos=found(copies), root=copies)
    assert len(evaluate(task).broken) == 1
    (copies / "1.png").write_bytes(sound)
    result = evaluate(task)
    assert (result.resumed, result.images, result.broken) == (2, 3, [])


def test_names_that_are_no_utf8_are_shown_escaped(task: EvaluationRequest, tmp_path: Path) -> None:
    folder = tmp_path / "latin"
    folder.mkdir()
    name = os.fsdecode(b"caf\xe9.png")
    try:
        (folder / name).write_bytes(task.photos[0].path.read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (folder / "broken.png").write_bytes(b"no image")
    task = replace(task, photos=found(folder), root=folder)
    assert evaluate(task).tallies["inverted"].flips[0].file == "caf\\xe9.png"
    assert evaluate(task).resumed == 1


def test_photos_of_the_calibration_are_counted(task: EvaluationRequest) -> None:
    known = frozenset({hash_path(task.photos[3].path), hash_path(task.photos[9].path), "0" * 64})
    task = replace(task, calibration={"same": known, "inverted": frozenset()})
    assert evaluate(task).overlap == {"same": 2, "inverted": 0}
    assert evaluate(task).overlap == {"same": 2, "inverted": 0}, "resumed"


def test_broken_photos_are_listed(task: EvaluationRequest, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "a.png").write_bytes(b"no image")
    (mixed / "b.png").write_bytes(task.photos[0].path.read_bytes())
    task = replace(task, photos=found(mixed), root=mixed)
    result = evaluate(task)
    assert result.images == 1
    assert [one.file for one in result.broken] == ["a.png"]
    assert "cannot be read" in result.broken[0].reason
    with pytest.raises(EdgeDeitError, match=r"a\.png.*--strict"):
        evaluate(replace(task, strict=True, journal=tmp_path / "strict.jsonl"))
    (mixed / "b.png").write_bytes(b"")
    with pytest.raises(EdgeDeitError, match="none of 2 photos can be read"):
        evaluate(task)


def test_a_model_that_fails_is_named_with_the_photo(task: EvaluationRequest) -> None:
    broken = lambda pixels: np.full((1, 2), np.nan, np.float32)  # noqa: E731
    before = threading.active_count()
    with pytest.raises(EdgeDeitError, match=r"x\.tflite on cat/0\.png: returned logits that are"):
        evaluate(replace(task, models={"x.tflite": broken}))
    with pytest.raises(EdgeDeitError, match=r"the float model returned NaN .*cat/0\.png"):
        evaluate(replace(task, reference=broken))
    assert threading.active_count() == before  # nothing is decoded for a run that has ended


def test_only_a_few_photos_are_decoded_ahead(task: EvaluationRequest) -> None:
    """Memory does not grow with the photos: threads wait while a model is slow."""
    ahead: list[int] = []

    def slow(pixels: np.ndarray) -> np.ndarray:
        ahead.append(sum(thread.name.startswith("decode") for thread in threading.enumerate()))
        return by_brightness(pixels)

    evaluate(replace(task, reference=slow))
    assert max(ahead) <= task.workers
