"""Opens an artefact with the runtime of its target, whatever of the toolchain is installed here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np

from edge_deit.artefacts.artefact import Artefact, read_artefact
from edge_deit.artefacts.contract import Contract
from edge_deit.artefacts.local import load_local
from edge_deit.artefacts.manifest import Manifest
from edge_deit.artefacts.process import RunnerCrashError, Worker
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Progress
from edge_deit.exporters import FileRunner, Runner, check_units, runtime_of
from edge_deit.exporters.runtime import Sparing

__all__ = [
    "ArtefactRunner",
    "RunnerCrashError",
    "all_logits",
    "logits_of",
    "open_runner",
    "patiently",
    "sparing",
    "stand_in",
]


class ArtefactRunner:
    """A loaded artefact that takes and returns what its manifest says; several threads may call it.

    Close it, or use it as a context manager, to end its process at once; otherwise that ends when nobody
    holds the runner any longer.
    """

    def __init__(self, manifest: Manifest, runner: FileRunner, worker: Worker | None) -> None:
        self._name, self._runner, self._worker = manifest.artefact, runner, worker
        self._takes, self._returns = tuple(manifest.input["shape"]), tuple(manifest.output["shape"])
        self._masks = [] if manifest.mask is None else [tuple(manifest.mask["shape"])]
        self._contract = Contract.of(manifest)

    @property
    def photos(self) -> int:
        """How many photos the file takes at once; fewer cost as much time as so many."""
        return self._contract.photos

    @property
    def up_to_a_constant(self) -> bool:
        """Whether the file returns probabilities, which leave one constant of the logits open."""
        return self._contract.probabilities

    def __call__(self, pixels: np.ndarray, /, *more: np.ndarray) -> np.ndarray:
        """(1, 3, H, W) float32, normalised -> (1, K) float32 logits (or (1, N, D) tokens).

        A file for masked images takes `more`: the mask (1, P) float32, and returns pixels.

        Where the file takes a photo's bytes or returns probabilities, these are made of the pixels, and
        logits of those. Where it takes several photos at once, the 1 may be any number M: the file is
        called as often as it takes, the last time filled up with repeats of the last photo.

        Raises:
            EdgeDeitError: pixels or outputs of another shape than the manifest says, or the runtime failed.
            RunnerCrashError: the process died, or did not answer.
        """
        source = self._contract.input_of(pixels)
        count = source.shape[:1] if self.photos > 1 else self._takes[:1]
        if source.shape != (*count, *self._takes[1:]) or not source.size:
            raise EdgeDeitError(
                f"{self._name} takes pixels {self._takes}, not {source.shape}; its manifest "
                "and its preprocessing do not fit: export it again"
            )
        if [one.shape for one in more] != self._masks:
            wanted = f"a mask {self._masks[0]} beside" if self._masks else "nothing beside"
            raise EdgeDeitError(f"{self._name} takes {wanted} the pixels; its manifest says so")
        if more:
            return self._run(source, *more)
        return self._contract.logits(self._contract.in_batches(self._run, source))

    def _run(self, source: np.ndarray, /, *more: np.ndarray) -> np.ndarray:
        found = self._runner(source, *more)
        if found.shape != self._returns:
            raise EdgeDeitError(
                f"{self._name} returns shape {found.shape}, its manifest says "
                f"{self._returns}; export it again"
            )
        return found

    def close(self) -> None:
        """End its process, where it has one of its own."""
        if self._worker is not None:
            self._worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_runner(
    artefact: Path | Artefact,
    threads: int,
    units: str | None = None,
    *,
    isolated: bool = True,
    timeout_s: float | None = None,
    worker: Worker | None = None,
) -> ArtefactRunner:
    """A runner for the artefact, on the processors called `units` where its target offers a choice.

    It runs in a process of its own, unless `isolated` is false (for processes that exist for that alone). A
    `worker` of the artefact's target that is there already is used, and not closed. `timeout_s` is for
    loading, and for each photo; None: as long as that runtime may take. Running needs less than exporting:
    only the runtime has to be installed.

    Raises:
        EdgeDeitError: as `read_artefact`, a runtime is absent or refuses the file, or there is no such
            choice.
        RunnerCrashError: the process died while loading, or did not answer.
    """
    if threads < 1:
        raise EdgeDeitError(f"threads is {threads}; it must be at least 1")
    opened = artefact if isinstance(artefact, Artefact) else read_artefact(artefact)
    runtime, path = opened.runtime, opened.path
    if units is not None:
        check_units(units)
    chosen = units if runtime.units else None
    if not isolated:
        return ArtefactRunner(opened.manifest, load_local(runtime, path, threads, chosen), None)
    if worker is not None:
        return ArtefactRunner(opened.manifest, worker.load(path, threads, chosen), None)
    own = Worker(*opened.engine_key, timeout_s=timeout_s)
    try:
        return ArtefactRunner(opened.manifest, own.load(path, threads, chosen), own)
    except BaseException:
        own.close()
        raise


def stand_in(manifest: Manifest) -> str | None:
    """None where the artefact's own runtime runs it here, otherwise what does instead, in one line."""
    return runtime_of(manifest.target, manifest.backend).runs_on()


def sparing(manifest: Manifest) -> Sparing | None:
    """Where the artefact is run so slowly here that a check takes few photos: how many, and why."""
    runtime = runtime_of(manifest.target, manifest.backend)
    return runtime.sparing(manifest.precision, manifest.scheme.get("form"))


@contextmanager
def patiently(
    artefact: Artefact, photos: int, progress: Progress
) -> Iterator[Callable[[int], None]]:
    """Say how far `photos` photos are where the runtime is very slow here, and why; nothing elsewhere.

    The block gets a function that is told how many photos were run since the last call.
    """
    if (slow := sparing(artefact.manifest)) is None:
        yield lambda photos: None
        return
    progress.note(f"{artefact.path.name}: {slow.reason}")
    with progress.task("photos", photos) as advance:
        yield advance


def logits_of(runner: Runner, pixels: np.ndarray, name: str, labels: Sequence[str]) -> np.ndarray:
    """The logits (K,) of one photo by the artefact called `name`, one for each label.

    Raises:
        EdgeDeitError: they are not finite, or not as many as there are labels; or as the runner does.
    """
    (logits,) = all_logits(runner, pixels, name, labels)
    return np.asarray(logits)


def all_logits(runner: Runner, pixels: np.ndarray, name: str, labels: Sequence[str]) -> np.ndarray:
    """The logits (M, K) of photos (M, 3, H, W), as many as the runner takes at once.

    Raises:
        EdgeDeitError: as `logits_of`.
    """
    logits = np.asarray(runner(pixels), np.float32)
    if logits.shape != (len(pixels), len(labels)):
        raise EdgeDeitError(
            f"{name} returns shape {logits.shape} for {len(labels)} labels; export it again"
        )
    if not np.isfinite(logits).all():
        raise EdgeDeitError(f"{name} returned NaN or infinite logits; export it again")
    return logits
