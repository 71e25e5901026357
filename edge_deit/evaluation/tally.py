"""Adds up what each photo showed, so that any number of photos takes the same memory.

One `Seen` is what one artefact answered to one photo, small enough for a journal line; a `Tally` takes them
one by one. Shapes: K classes.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from pydantic import ConfigDict

from edge_deit.common.errors import EdgeDeitError
from edge_deit.metrics.outputs import decibels, kl_divergence, softmax, top_k
from edge_deit.report.report import ClassResult, Flip

__all__ = ["Answer", "Seen", "Tally", "answer", "compare"]

_STRICT: Final = ConfigDict(extra="forbid", allow_inf_nan=False)  # as lines of a journal are read
_TOP: Final = 5
_MOST_FLIPS: Final = 200
_MOST_POINTS: Final = 2_000


@dataclass(frozen=True)
class Answer:
    """A model's five largest logits: `top` class indices, `probability` of the first one."""

    __pydantic_config__ = _STRICT

    top: tuple[int, ...]
    probability: float

    def fits(self, classes: int) -> bool:
        """Whether a model of so many classes can have said this."""
        known = all(0 <= index < classes for index in self.top)
        return known and len(set(self.top)) == len(self.top) == min(_TOP, classes)


@dataclass(frozen=True)
class Seen:
    """An artefact's answer to a photo, and how far it was from the float model's.

    `signal` is the sum of the float logits squared, `noise` that of the squared differences; `points` pairs
    the logits of both models for the float model's first five classes; `kl` is the Kullback-Leibler
    divergence of its softmax from the float model's, in nats.
    """

    __pydantic_config__ = _STRICT

    answer: Answer
    signal: float
    noise: float
    cosine: float
    kl: float
    points: tuple[tuple[float, float], ...]


def answer(logits: np.ndarray) -> Answer:
    """The five first classes of logits (K,)."""
    top = top_k(logits, _TOP)
    return Answer(tuple(top), float(softmax(logits)[top[0]]))


def compare(reference: np.ndarray, logits: np.ndarray) -> Seen:
    """One photo's logits (K,) against the float model's.

    Raises:
        EdgeDeitError: another number of classes, or values that are not finite.
    """
    if logits.shape != reference.shape:
        raise EdgeDeitError(f"returned {logits.shape} values, the float model {reference.shape}")
    if not np.isfinite(logits).all():
        raise EdgeDeitError("returned logits that are NaN or infinite; export the file again")
    a, b = reference.astype(np.float64), logits.astype(np.float64)
    signal, noise = float(a @ a), float(((a - b) ** 2).sum())
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(a @ b) / lengths if lengths > 0 else float(not noise)
    points = tuple((float(a[index]), float(b[index])) for index in top_k(reference, _TOP))
    return Seen(answer(logits), signal, noise, min(cosine, 1.0), kl_divergence(a, b), points)


class Tally:
    """The sums of one artefact over all photos; figures come from its methods and counters."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels
        self.images = self.labelled = self.agreed = 0
        self.right = self.right_float = self.right5 = self.right5_float = 0
        self.lost = self.won = 0
        self.cosine_sum, self.cosine_worst, self.kl_sum = 0.0, 2.0, 0.0
        self.snr_worst, self.worst_image = math.inf, ""
        self.flips_total = 0
        self.flips: list[Flip] = []
        self.points: list[tuple[float, float]] = []
        self._signal = self._noise = 0.0
        self._offered = 0
        self._random = random.Random(0)  # noqa: S311 # which points a plot shows is no secret
        self._classes = np.zeros((len(labels), 3), np.int64)  # photos, float right, artefact right

    def add(self, file: str, label: int | None, reference: Answer, seen: Seen) -> None:
        """Count one photo; `label` is the index of its class, None where it is not known."""
        first, first_float = seen.answer.top[0], reference.top[0]
        self.images += 1
        self.agreed += first == first_float
        self._signal += seen.signal
        self._noise += seen.noise
        self.cosine_sum += seen.cosine
        self.kl_sum += seen.kl
        self.cosine_worst = min(self.cosine_worst, seen.cosine)
        if (snr_db := decibels(seen.signal, seen.noise)) < self.snr_worst:
            self.snr_worst, self.worst_image = snr_db, file
        if label is not None:
            self._add_label(label, reference, seen.answer)
        if first != first_float:
            self._add_flip(file, label, reference, seen.answer)
        for point in seen.points:
            self._offer(point)

    @property
    def snr_db(self) -> float:
        """Signal-to-noise ratio over all logits of all photos."""
        return decibels(self._signal, self._noise)

    @property
    def classes(self) -> tuple[ClassResult, ...]:
        """The classes that have photos, in the order of their labels."""
        return tuple(
            ClassResult(label, int(images), int(right_float), int(right))
            for label, (images, right_float, right) in zip(self._labels, self._classes, strict=True)
            if images
        )

    def _add_label(self, label: int, reference: Answer, answer: Answer) -> None:
        ours, floats = answer.top[0] == label, reference.top[0] == label
        self.labelled += 1
        self.right += ours
        self.right_float += floats
        self.right5 += label in answer.top
        self.right5_float += label in reference.top
        self.lost += floats and not ours
        self.won += ours and not floats
        self._classes[label] += (1, floats, ours)

    def _add_flip(self, file: str, label: int | None, reference: Answer, answer: Answer) -> None:
        self.flips_total += 1
        if len(self.flips) == _MOST_FLIPS:
            return
        first, first_float = answer.top[0], reference.top[0]
        known: dict[int | None, Literal["lost", "won"]] = {first_float: "lost", first: "won"}
        self.flips.append(
            Flip(
                file=file,
                label=None if label is None else self._labels[label],
                float_label=self._labels[first_float],
                float_probability=reference.probability,
                artefact_label=self._labels[first],
                artefact_probability=answer.probability,
                changed=known.get(label, "other"),
            )
        )

    def _offer(self, point: tuple[float, float]) -> None:
        """Keep an even sample of the points (Vitter, "Random sampling with a reservoir", 1985)."""
        self._offered += 1
        if len(self.points) < _MOST_POINTS:
            self.points.append(point)
        elif (place := self._random.randrange(self._offered)) < _MOST_POINTS:
            self.points[place] = point
