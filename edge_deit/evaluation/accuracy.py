"""Runs artefacts and their float model over photos, one photo at a time, and can go on after an
interruption.

Photos are decoded ahead by a few threads. What each photo showed goes to a journal, one JSON line a
photo, so a second run with the same files and photos counts those lines and computes only the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.photos import Photo
from edge_deit.data.preprocess import PreprocessSpec, load_pixels
from edge_deit.evaluation.tally import Answer, Seen, Tally, answer, compare
from edge_deit.report.report import BrokenImage

__all__ = ["Evaluation", "EvaluationRequest", "evaluate"]

Model = Callable[[np.ndarray], np.ndarray]
"""(1, 3, H, W) float32 pixels -> (1, K) logits."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What is to be evaluated: `models` by name, on `photos` below `root`, against `reference`.

    `key` holds what the answers depend on beside the photos (hashes of files, threads); a journal with
    another key is not used. With `strict` a broken photo is an error.
    """

    photos: Sequence[Photo]
    root: Path
    spec: PreprocessSpec
    labels: tuple[str, ...]
    reference: Model
    models: Mapping[str, Model]
    key: Mapping[str, Any]
    journal: Path
    workers: int
    strict: bool


@dataclass
class Evaluation:
    """A tally a model, and what is known about the photos; `resumed` were read from the journal."""

    tallies: dict[str, Tally]
    broken: list[BrokenImage] = field(default_factory=list)
    images: int = 0
    labelled: int = 0
    resumed: int = 0
    classes: set[int] = field(default_factory=set)
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, line: Mapping[str, Any]) -> None:
        """Count one line of the journal."""
        if "broken" in line:
            self.broken.append(BrokenImage(line["file"], line["broken"]))
            return
        self.images += 1
        label = line["label"]
        if label is not None:
            self.labelled += 1
            self.classes.add(label)
        self.digest.update(f"{line['file']}\0{line['sha256']}\0{label}\n".encode())
        top, probability = line["float"]
        reference = Answer(tuple(top), probability)
        for tally, seen in zip(self.tallies.values(), line["seen"], strict=True):
            tally.add(line["file"], label, reference, Seen.from_json(seen))


def evaluate(task: EvaluationRequest, on_photo: Callable[[], None] = lambda: None) -> Evaluation:
    """Run everything; `on_photo` is called once a photo, also for those in the journal.

    Raises:
        EdgeDeitError: no photo can be read, one cannot and `strict` is set, or a model returned something
        that
            cannot be compared.
    """
    result = Evaluation({name: Tally(task.labels) for name in task.models})

    def count(line: Mapping[str, Any]) -> None:
        result.add(line)
        on_photo()

    result.resumed = _resume(task, count)
    with task.journal.open("a", encoding="utf-8") as journal:
        for line in _lines(task, task.photos[result.resumed :]):
            print(json.dumps(line), file=journal, flush=True)
            count(line)
    if not result.images:
        first = result.broken[0]
        raise EdgeDeitError(
            f"none of {len(result.broken)} photos can be read; the first: {first.reason}"
        )
    return result


# Photos


def _lines(task: EvaluationRequest, photos: Sequence[Photo]) -> Iterator[dict[str, Any]]:
    """The journal's line of each photo."""
    for photo, decoded in _decoded(photos, task.spec, task.workers):
        file = photo.path.relative_to(task.root).as_posix()
        try:
            pixels, sha256 = decoded.result()
        except EdgeDeitError as error:
            if task.strict:
                raise EdgeDeitError(f"{error} (--strict)") from error
            yield {"file": file, "broken": str(error)}
            continue
        yield {"file": file, "label": photo.label, "sha256": sha256, **_answers(task, file, pixels)}


def _answers(task: EvaluationRequest, file: str, pixels: np.ndarray) -> dict[str, Any]:
    reference = np.asarray(task.reference(pixels))[0]
    if not np.isfinite(reference).all():
        raise EdgeDeitError(f"the float model returned NaN or infinite logits for {file}")
    first = answer(reference)
    seen = []
    for name, model in task.models.items():
        try:
            seen.append(compare(reference, np.asarray(model(pixels))[0]).to_json())
        except EdgeDeitError as error:
            raise EdgeDeitError(f"{name} on {file}: {error}") from error
    return {"float": [list(first.top), first.probability], "seen": seen}


def _decoded(
    photos: Sequence[Photo], spec: PreprocessSpec, workers: int
) -> Iterator[tuple[Photo, Future[tuple[np.ndarray, str]]]]:
    """Each photo with its pixels to come; at most two photos a thread are held ahead."""
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        waiting: deque[tuple[Photo, Future[tuple[np.ndarray, str]]]] = deque()
        for photo in photos:
            waiting.append((photo, pool.submit(_decode, photo.path, spec)))
            if len(waiting) > 2 * workers:
                yield waiting.popleft()
        yield from waiting


def _decode(path: Path, spec: PreprocessSpec) -> tuple[np.ndarray, str]:
    """Pixels (1, 3, H, W) and the sha256 of the file."""
    pixels = load_pixels(path, spec)
    with path.open("rb") as stream:
        return pixels, hashlib.file_digest(stream, "sha256").hexdigest()


# Journal


def _resume(task: EvaluationRequest, count: Callable[[Mapping[str, Any]], None]) -> int:
    """Count the whole lines that an interrupted run of the same task left, and leave a journal to add to.

    The first line holds what the others depend on; a last line that was cut is removed.
    """
    key = json.dumps(_key(task)) + "\n"
    lines, end = 0, len(key.encode())
    if _first_line(task.journal) != key:
        task.journal.write_text(key, encoding="utf-8")
        return 0
    with task.journal.open("rb") as journal:
        journal.readline()
        for text in journal:
            if not text.endswith(b"\n"):
                break
            count(json.loads(text))
            lines, end = lines + 1, end + len(text)
    os.truncate(task.journal, end)
    return lines


def _first_line(journal: Path) -> str | None:
    if not journal.is_file():
        return None
    with journal.open(encoding="utf-8") as stream:
        return stream.readline()


def _key(task: EvaluationRequest) -> dict[str, Any]:
    """All that the lines depend on; a photo counts by name, size, time of change and label."""
    digest = hashlib.sha256()
    for photo in task.photos:
        try:
            found = photo.path.stat()
            state = f"{found.st_size} {found.st_mtime_ns}"
        except FileNotFoundError:
            state = "missing"
        digest.update(f"{photo.path}\0{state}\0{photo.label}\n".encode())
    return {
        **task.key,
        "spec": task.spec.to_json(),
        "labels": hashlib.sha256("\n".join(task.labels).encode()).hexdigest(),
        "photos": digest.hexdigest(),
    }
