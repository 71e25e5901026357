"""Photos through models: order, broken ones, going on after an interruption."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.labels import match_labels
from edge_deit.data.photos import Photo, list_photos
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.evaluation.accuracy import EvaluationRequest, evaluate

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
    for name, tally in result.tallies.items():
        assert vars(tally)["flips"] == expected.tallies[name].flips
        assert tally.snr_db == expected.tallies[name].snr_db
        assert tally.classes == expected.tallies[name].classes
        assert tally.points == expected.tallies[name].points


def test_a_line_that_was_cut_is_computed_again(task: EvaluationRequest) -> None:
    expected = evaluate(task)
    content = task.journal.read_bytes()
    task.journal.write_bytes(content[:-20])
    result = evaluate(task)
    assert result.resumed == 15
    assert result.digest.hexdigest() == expected.digest.hexdigest()
    assert task.journal.read_bytes() == content


@pytest.mark.parametrize(
    "change",
    [
        {"key": {"artefacts": ["1", "3"]}},
        {"spec": replace(SPEC, resample="bilinear")},
        {"labels": ("cat", "dog", "cow")},
    ],
    ids=["another artefact", "other preprocessing", "other labels"],
)
def test_another_task_starts_from_the_beginning(
    task: EvaluationRequest, change: dict[str, object]
) -> None:
    evaluate(task)
    changed = replace(task, **change)  # type: ignore[arg-type]
    if "labels" in change:
        three = lambda pixels: np.append(by_brightness(pixels), [[0]], 1)  # noqa: E731
        changed = replace(changed, reference=three, models={"same": three, "inverted": three})
    assert evaluate(changed).resumed == 0


def test_a_changed_photo_starts_from_the_beginning(task: EvaluationRequest, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    for index, photo in enumerate(task.photos[:3]):
        (copies / f"{index}.png").write_bytes(photo.path.read_bytes())
    task = replace(task, photos=found(copies), root=copies)
    evaluate(task)
    assert evaluate(task).resumed == 3
    (copies / "1.png").write_bytes(task.photos[0].path.read_bytes() + b"x")
    assert evaluate(task).resumed == 0


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
    with pytest.raises(EdgeDeitError, match=r"x\.tflite on cat/0\.png: returned logits that are"):
        evaluate(replace(task, models={"x.tflite": broken}))
    with pytest.raises(EdgeDeitError, match=r"the float model returned NaN .*cat/0\.png"):
        evaluate(replace(task, reference=broken))


def test_only_a_few_photos_are_decoded_ahead(task: EvaluationRequest) -> None:
    """Memory does not grow with the photos: threads wait while a model is slow."""
    ahead: list[int] = []

    def slow(pixels: np.ndarray) -> np.ndarray:
        ahead.append(sum(thread.name.startswith("decode") for thread in threading.enumerate()))
        return by_brightness(pixels)

    evaluate(replace(task, reference=slow))
    assert max(ahead) <= task.workers
