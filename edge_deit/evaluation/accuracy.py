"""Runs artefacts and their float model over photos, and can go on after an interruption.

It is one photo at a time; an artefact that takes several at once gets as many, and photos are then judged
in groups. Photos are decoded ahead by a few processes. What each photo showed goes to a journal
(`evaluation.journal`), so a second run counts what fits the photos there and computes only the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_deit.artefacts.runners import RunnerCrashError
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path
from edge_deit.evaluation.decode import DecoderDiedError, decoded_ahead
from edge_deit.evaluation.journal import Journal, Judged
from edge_deit.evaluation.request import (
    EvaluationRequest,
    ModelCrashError,
    broken_image,
    shown_photo,
)
from edge_deit.evaluation.tally import Seen, Tally, answer, compare
from edge_deit.exporters import Runner
from edge_deit.metrics.outputs import aligned
from edge_deit.report.report import BrokenImage

__all__ = ["Evaluation", "EvaluationRequest", "ModelCrashError", "evaluate", "judge"]


@dataclass
class Evaluation:
    """A tally a model, and what is known about the photos; `resumed` were read from the journal.

    `overlap` counts, by model, the photos that it was calibrated with.
    """

    tallies: dict[str, Tally]
    calibration: Mapping[str, frozenset[str]] = field(default_factory=dict)
    broken: list[BrokenImage] = field(default_factory=list)
    images: int = 0
    labelled: int = 0
    resumed: int = 0
    overlap: dict[str, int] = field(default_factory=dict)
    classes: set[int] = field(default_factory=set)
    digest: Any = field(default_factory=hashlib.sha256)

    def add(self, one: Judged | BrokenImage) -> None:
        """Count one photo."""
        if isinstance(one, BrokenImage):
            self.broken.append(one)
            return
        self.images += 1
        if one.label is not None:
            self.labelled += 1
            self.classes.add(one.label)
        self.digest.update(f"{one.file}\0{one.sha256}\0{one.label}\n".encode())
        for tally, seen in zip(self.tallies.values(), one.seen, strict=True):
            tally.add(one.file, one.label, one.reference, seen)
        for name, hashes in self.calibration.items():
            self.overlap[name] = self.overlap.get(name, 0) + (one.sha256 in hashes)


def evaluate(
    request: EvaluationRequest,
    on_photo: Callable[[], None] = lambda: None,
    note: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Run everything; `on_photo` is called once a photo, also for those in the journal.

    `note` is told in one line what a journal gave, and what in it could not be used.

    Raises:
        EdgeDeitError: no photo can be read, one cannot and `strict` is set, or a model returned something
            that cannot be compared.
        ModelCrashError: the process of a model died.
    """
    tallies = {name: Tally(request.labels) for name in request.models}
    result = Evaluation(tallies, request.calibration)
    journal = Journal(request.journal, _key(request))
    done = journal.restore(_Fit(request))
    result.resumed = len(done)
    if journal.left_out:
        note(
            f"{request.journal}: {journal.left_out} lines left out (damaged, doubled, of another run, or "
            "not of the photo in their place); what they lack is judged again"
        )
    if done:
        note(f"{len(done)} photos were done before; went on behind them")
    with journal:
        for one in judge(request, journal, done):
            result.add(one)
            on_photo()
    if not result.images:
        first = result.broken[0]
        raise EdgeDeitError(
            f"none of {len(result.broken)} photos can be read; the first: {first.reason}"
        )
    return result


def judge(
    request: EvaluationRequest, journal: Journal | None = None, done: Sequence[int] = ()
) -> Iterator[Judged | BrokenImage]:
    """Each photo in order: from the journal where its place is in `done`, else from the models."""
    journal = journal or Journal(None, {})
    kept, there = journal.kept(), set(done)
    missing = [index for index in range(len(request.photos)) if index not in there]
    judges = request.judged_by or _fresh
    with contextlib.closing(judges(request, missing, journal.add)) as fresh:
        for index in range(len(request.photos)):
            yield next(kept) if index in there else next(fresh)


# Photos


@dataclass(frozen=True)
class _Pixels:
    """A photo that was read: its place, its name, its pixels (1, 3, H, W) and its file's sha256."""

    index: int
    file: str
    pixels: np.ndarray
    sha256: str


def _fresh(
    request: EvaluationRequest, places: Sequence[int], keep: Callable[[Judged], None]
) -> Generator[Judged | BrokenImage, None, None]:
    """What the photos at these places show, a group of them at a time."""
    with contextlib.closing(_read(request, places)) as read:  # its threads end with an error too
        while group := list(itertools.islice(read, request.group)):
            judged = iter(_judged(request, [one for one in group if isinstance(one, _Pixels)]))
            for one in group:
                if isinstance(one, BrokenImage):
                    yield one
                    continue
                keep(found := next(judged))
                yield found


def _read(
    request: EvaluationRequest, places: Sequence[int]
) -> Generator[_Pixels | BrokenImage, None, None]:
    paths = [request.photos[index].path for index in places]
    with contextlib.closing(decoded_ahead(paths, request.spec, request.workers)) as ahead:
        for index, decoded in zip(places, ahead, strict=True):
            file = shown_photo(request, request.photos[index])
            try:
                yield _Pixels(index, file, *decoded.result())
            except DecoderDiedError:
                raise
            except EdgeDeitError as error:
                yield broken_image(request, index, error)


def _judged(request: EvaluationRequest, photos: Sequence[_Pixels]) -> list[Judged]:
    references = []
    for photo in photos:
        references.append(np.asarray(request.reference(photo.pixels))[0])
        if not np.isfinite(references[-1]).all():
            raise EdgeDeitError(f"the float model returned NaN or infinite logits for {photo.file}")
    seen = [
        _seen(request, name, model, photos, references) for name, model in request.models.items()
    ]
    return [
        Judged(
            photo.index,
            photo.file,
            request.photos[photo.index].label,
            photo.sha256,
            answer(references[place]),
            tuple(of_model[place] for of_model in seen),
        )
        for place, photo in enumerate(photos)
    ]


def _seen(
    request: EvaluationRequest,
    name: str,
    model: Runner,
    photos: Sequence[_Pixels],
    references: Sequence[np.ndarray],
) -> list[Seen]:
    """What one model shows of each photo."""
    found, size = [], request.at_once.get(name, 1)
    for start in range(0, len(photos), size):
        some = photos[start : start + size]
        file = some[0].file if len(some) == 1 else f"{some[0].file} to {some[-1].file}"
        try:
            answers = np.asarray(model(np.concatenate([one.pixels for one in some])))
            for place, logits in enumerate(answers[: len(some)], start):
                wanted = references[place]
                if name in request.up_to_a_constant and logits.shape == wanted.shape:
                    logits = aligned(wanted, logits)
                found.append(compare(wanted, logits))
        except RunnerCrashError as error:
            raise ModelCrashError(name, f"{error} (on {file})") from error
        except EdgeDeitError as error:
            raise EdgeDeitError(f"{name} on {file}: {error}") from error
    return found


# Journal


@dataclass(frozen=True)
class _Fit:
    """Whether a line is what this request would say of the photo in its place."""

    request: EvaluationRequest

    def __call__(self, one: Judged) -> bool:
        if one.index >= len(self.request.photos):
            return False
        photo, classes = self.request.photos[one.index], len(self.request.labels)
        return (
            one.file == shown_photo(self.request, photo)
            and one.label == photo.label
            and len(one.seen) == len(self.request.models)
            and all(found.fits(classes) for found in (one.reference, *(s.answer for s in one.seen)))
            and one.sha256 == _sha256(photo.path)
        )


def _sha256(path: Path) -> str | None:
    """None of a file that cannot be read any more; the evaluation will say so."""
    try:
        return hash_path(path)
    except OSError:
        return None


def _key(request: EvaluationRequest) -> dict[str, Any]:
    """All that the lines depend on but the photos, against which each line is held by itself."""
    return {
        **request.key,
        "spec": request.spec.to_json(),
        "labels": list(request.labels),
        "strict": request.strict,
    }
