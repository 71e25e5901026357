"""What is added up over photos, against the same figures computed at once."""

from __future__ import annotations

import numpy as np
import pytest

from edge_deit.common.errors import EdgeDeitError
from edge_deit.evaluation.tally import Tally, answer, compare
from edge_deit.metrics.outputs import EQUAL_DB, closeness, decibels

LABELS = tuple(f"class {index}" for index in range(8))


def outputs(images: int, noise: float) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """(M, K) logits of two models and the true classes."""
    generator = np.random.default_rng(0)
    reference = generator.normal(size=(images, len(LABELS))).astype(np.float32)
    actual = reference + noise * generator.normal(size=reference.shape).astype(np.float32)
    truth = [int(row.argmax()) if index % 3 else index % 8 for index, row in enumerate(reference)]
    return reference, actual.astype(np.float32), truth


def tally_of(images: int, noise: float, *, labelled: bool = True) -> Tally:
    reference, actual, truth = outputs(images, noise)
    tally = Tally(LABELS)
    for index in range(images):
        label = truth[index] if labelled else None
        seen = compare(reference[index], actual[index])
        tally.add(f"{index}.png", label, answer(reference[index]), seen)
    return tally


def test_sums_are_what_whole_arrays_give() -> None:
    reference, actual, truth = outputs(60, 0.4)
    tally, whole = tally_of(60, 0.4), closeness(reference, actual, classes=True)
    assert tally.agreed / tally.images == whole.agreement
    assert tally.snr_db == pytest.approx(whole.snr_db)
    assert tally.cosine_worst == pytest.approx(whole.cosine)
    right, right_float = actual.argmax(1) == truth, reference.argmax(1) == truth
    assert (tally.right, tally.right_float) == (right.sum(), right_float.sum())
    assert tally.lost == (right_float & ~right).sum()
    assert tally.won == (~right_float & right).sum()
    top5 = np.argsort(-actual, axis=1)[:, :5]
    assert tally.right5 == sum(label in row for label, row in zip(truth, top5, strict=True))


def test_the_worst_photo_is_named() -> None:
    reference, actual, _ = outputs(60, 0.4)
    noise = ((reference - actual) ** 2).sum(1) / (reference**2).sum(1)
    tally = tally_of(60, 0.4)
    assert tally.worst_image == f"{noise.argmax()}.png"
    assert tally.snr_worst == pytest.approx(-10 * np.log10(noise.max()))


def test_classes_add_up() -> None:
    tally = tally_of(60, 0.4)
    assert sum(one.images for one in tally.classes) == 60
    assert sum(one.right for one in tally.classes) == tally.right
    assert sum(one.right_float for one in tally.classes) == tally.right_float


def test_flips_say_what_changed() -> None:
    tally = tally_of(300, 0.6)
    kinds = [flip.changed for flip in tally.flips]
    assert kinds.count("lost") == tally.lost
    assert kinds.count("won") == tally.won
    assert tally.flips_total == tally.images - tally.agreed == len(kinds)
    for flip in tally.flips:
        assert flip.float_label != flip.artefact_label
        assert (flip.changed == "lost") == (flip.label == flip.float_label)
        assert (flip.changed == "won") == (flip.label == flip.artefact_label)


def test_photos_without_labels_still_count() -> None:
    tally = tally_of(60, 0.4, labelled=False)
    assert (tally.images, tally.labelled, tally.classes) == (60, 0, ())
    assert tally.agreed > 0
    assert {flip.changed for flip in tally.flips} <= {"other"}


def test_what_is_kept_does_not_grow_with_the_photos() -> None:
    tally = tally_of(3000, 2.0)
    assert tally.flips_total > len(tally.flips) == 200
    assert len(tally.points) == 2000


def test_equal_outputs() -> None:
    tally = tally_of(5, 0.0)
    assert tally.snr_db == tally.snr_worst == EQUAL_DB == decibels(1.0, 0.0)
    assert tally.cosine_worst == pytest.approx(1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    logits = np.zeros(8, np.float32)
    broken = logits.copy()
    broken[3] = value
    with pytest.raises(EdgeDeitError, match="NaN or infinite"):
        compare(logits, broken)


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(EdgeDeitError, match="values"):
        compare(np.zeros(8, np.float32), np.zeros(7, np.float32))
