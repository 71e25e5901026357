"""What is to be evaluated, and what is said of a photo that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_deit.artefacts.runners import RunnerCrashError
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import shown_name
from edge_deit.data.listing import Photo
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.evaluation.journal import Judged
from edge_deit.exporters import Runner
from edge_deit.report.report import BrokenImage

__all__ = ["EvaluationRequest", "Judges", "ModelCrashError", "broken_image", "shown_photo"]


class ModelCrashError(RunnerCrashError):
    """The process of one model died; `model` is its name in the request."""

    def __init__(self, model: str, line: str) -> None:
        super().__init__(line)
        self.model = model


@dataclass(frozen=True)
class EvaluationRequest:
    """What is to be evaluated: `models` by name, on `photos` below `root`, against `reference`.

    `key` holds what the answers depend on beside the photos (hashes of files, versions, threads); lines of
    a journal with another key are not used. `journal` None: nothing is kept for another run. With `strict`
    a broken photo is an error. `calibration` holds, by model, the sha256 of the photos that it was made
    with, where they are known. `up_to_a_constant` names the models whose logits are known up to one number
    a photo (`metrics.outputs.aligned`), `at_once` how many photos a model takes, 1 if not named.
    `judged_by` judges photos in place of this process.
    """

    photos: Sequence[Photo]
    root: Path
    spec: PreprocessSpec
    labels: tuple[str, ...]
    reference: Runner
    models: Mapping[str, Runner]
    key: Mapping[str, Any]
    journal: Path | None
    workers: int
    strict: bool
    calibration: Mapping[str, frozenset[str]] = field(default_factory=dict)
    up_to_a_constant: frozenset[str] = frozenset()
    at_once: Mapping[str, int] = field(default_factory=dict)
    judged_by: Judges | None = None

    @property
    def group(self) -> int:
        """How many photos are judged together."""
        return max(self.at_once.values(), default=1)


Judges = Callable[
    [EvaluationRequest, Sequence[int], Callable[[Judged], None]],
    Generator[Judged | BrokenImage, None, None],
]
"""What the photos at some places show, in order; each is told as soon as it was judged, in any order."""


def broken_image(request: EvaluationRequest, index: int, error: EdgeDeitError) -> BrokenImage:
    """The photo at a place as one that cannot be read, unless that is an error of its own.

    Raises:
        EdgeDeitError: the request is strict.
    """
    if request.strict:
        raise EdgeDeitError(f"{error} (--strict)") from error
    photo = request.photos[index]
    file = shown_photo(request, photo)
    return BrokenImage(file, str(error).replace(str(photo.path), file))


def shown_photo(request: EvaluationRequest, photo: Photo) -> str:
    """The photo's path below the root; bytes that are no UTF-8 appear escaped, as no file takes them."""
    return shown_name(photo.path.relative_to(request.root).as_posix())
