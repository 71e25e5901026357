"""One file to write and check, apart from all that an export knows besides: any process can do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_deit.artefacts.contract import Contract
from edge_deit.artefacts.process import Worker
from edge_deit.common.collector import rare_collection
from edge_deit.common.progress import SILENT, Progress
from edge_deit.common.quiet import quiet
from edge_deit.conversion.masks import in_turn
from edge_deit.conversion.parity import check_batches, check_parity
from edge_deit.exporters import ExportRequest, Runner
from edge_deit.exporters import target as find_target
from edge_deit.exporters.provenance import shared_history
from edge_deit.metrics.outputs import Closeness

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = ["Accept", "Convert", "Job", "convert_here"]

Accept = Callable[[Runner], None]
"""A further check of the loaded file; it raises EdgeDeitError where the file is not good enough."""


@dataclass(frozen=True)
class Job:
    """What `target` is to write, and photos (M, 3, H, W) with the float model's outputs (M, ...) on them.

    `masks` (M, P) go with the photos of a model that reconstructs them; `contract` is what the file takes
    and returns, `classes` says that its outputs are those of a classifier.
    """

    target: str
    request: ExportRequest
    contract: Contract
    photos: Tensor
    reference: np.ndarray
    masks: Tensor | None
    classes: bool
    threads: int


Convert = Callable[[Job], Closeness]
"""Something that does a job: the file lies where its request says, and is as close as returned."""


def convert_here(
    job: Job, accept: Accept = lambda runner: None, progress: Progress = SILENT
) -> Closeness:
    """Write the file, run it on the photos and compare.

    Raises:
        EdgeDeitError: the target cannot do it, the file's outputs differ from the float model's, or
            `accept` refuses it.
    """
    with Worker(job.target, job.request.backend) as worker:
        # it imports its runtime while the converter works
        _write(job)
        return _check(job, worker, accept, progress)


def _write(job: Job) -> None:
    with quiet(), rare_collection(), shared_history():
        find_target(job.target).export(job.request)


def _check(job: Job, worker: Worker, accept: Accept, progress: Progress) -> Closeness:
    with progress.task("check on photos", len(job.photos)) as advance:
        loaded = worker.load(job.request.output, job.threads)
        runner = job.contract.wrap(loaded if job.masks is None else in_turn(loaded, job.masks))
        scheme = job.request.scheme
        result = check_parity(
            runner,
            job.photos,
            job.reference,
            scheme,
            up_to_a_constant=job.contract.probabilities,
            photos=job.contract.photos,
            classes=job.classes,
            on_photo=lambda: advance(1),
        )
        if job.request.dynamic_batch:
            check_batches(runner, job.photos, scheme)
        accept(runner)
        return result
