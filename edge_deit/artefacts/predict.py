"""Photos to classes by an exported file: what the command `predict` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_deit.artefacts.artefact import check_classes, read_artefact
from edge_deit.artefacts.process import Worker
from edge_deit.artefacts.runners import all_logits, open_runner, patiently, stand_in
from edge_deit.common.arguments import Threads, checked_arguments
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.opening import check_regular
from edge_deit.common.progress import SILENT, Progress
from edge_deit.data.preprocess import load_pixels
from edge_deit.metrics.outputs import softmax, top_k

__all__ = ["Prediction", "RankedClass", "predict_photos", "rank"]


@dataclass(frozen=True)
class RankedClass:
    """One class, and what the artefact thinks of it; `index` is its place among the logits."""

    index: int
    label: str
    probability: float
    logit: float


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one photo, best first.

    `stand_in` is None where the artefact's own runtime ran it, otherwise one line that says what did.
    """

    image: Path
    top: tuple[RankedClass, ...]
    stand_in: str | None


@checked_arguments
def predict_photos(
    artefact: Path,
    images: Sequence[Path],
    *,
    top: int = 5,
    threads: Threads = 2,
    progress: Progress = SILENT,
) -> list[Prediction]:
    """Classify photos with an exported file, in its own runtime and in a process of its own.

    The runtime is imported while the first photo is decoded.

    Raises:
        EdgeDeitError: the artefact, one of the photos, or what the artefact returns is not usable.
    """
    if min(top, threads) < 1:
        raise EdgeDeitError(f"top is {top}, threads is {threads}; each must be at least 1")
    opened = read_artefact(artefact)
    check_classes(opened)
    manifest = opened.manifest
    for image in images:
        check_regular(image, "image")
    spec, labels = manifest.preprocess_spec, manifest.labels
    found: list[Prediction] = []
    with Worker(*opened.engine_key) as worker, patiently(opened, len(images), progress) as advance:
        runner = None
        for start in range(0, len(images), manifest.photos_at_once):
            some = images[start : start + manifest.photos_at_once]
            pixels = np.concatenate([load_pixels(image, spec) for image in some])
            runner = runner or open_runner(opened, threads, worker=worker)
            answers = all_logits(runner, pixels, artefact.name, labels)
            for image, logits in zip(some, answers, strict=True):
                found.append(Prediction(image, rank(logits, labels, top), stand_in(manifest)))
            advance(len(some))
    return found


def rank(logits: np.ndarray, labels: Sequence[str], top: int) -> tuple[RankedClass, ...]:
    """The `top` classes of logits (K,), most probable first; of equal ones the lower index comes first."""
    probabilities = softmax(logits)
    return tuple(
        RankedClass(index, labels[index], float(probabilities[index]), float(logits[index]))
        for index in top_k(logits, top)
    )
