"""Writes one artefact: exported beside its place, run on photos, compared, and only then kept."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from edge_deit.artefacts.manifest import Manifest, manifest_path, write_manifest
from edge_deit.common.quiet import quiet
from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.describe import _manifest, _request
from edge_deit.conversion.parity import check_parity
from edge_deit.metrics.outputs import Closeness
from edge_deit.quantization.scheme import Scheme
from exporters import Runner, Target

__all__ = ["Accept", "Exported", "export_one"]


@dataclass(frozen=True)
class Exported:
    """One artefact that was written and checked; `closeness` is None where nothing here can run it."""

    path: Path
    manifest: Manifest
    closeness: Closeness | None
    stand_in: str | None
    seconds: float


Accept = Callable[[Runner], None]
"""A further check of the loaded file; it raises EdgeDeitError where the file is not good enough."""


def export_one(
    job: ExportContext,
    target: Target,
    scheme: Scheme,
    backend: str,
    bar: Progress,
    accept: Accept = lambda runner: None,
) -> Exported:
    """Write, run, compare and only then keep one artefact.

    Raises:
        EdgeDeitError: the target cannot do it, the file's outputs differ from the float model's, or
            `accept` refuses it.
    """
    started = time.monotonic()
    mark = "" if backend == target.backends[0] else f"-{backend}"
    name = f"{job.checkpoint.name}.{scheme.precision}{mark}{target.suffix}"
    with _workplace(job.output) as folder:
        request = _request(job, target, scheme, backend, folder / name)
        with quiet():
            target.export(request)
        unchecked = target.unchecked(backend)
        stand_in = unchecked or target.runs_on()
        result = None
        if unchecked is None:
            result = _check(job, target, scheme, request.output, bar, accept)
        manifest = _manifest(job, target, request, result, stand_in)
        write_manifest(manifest, manifest_path(request.output))
        final = job.output / name
        _move(request.output, final, folder)
    return Exported(final, manifest, result, stand_in, time.monotonic() - started)


@contextmanager
def _workplace(output: Path) -> Iterator[Path]:
    """A hidden folder beside the artefacts that is gone afterwards, whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix=".export-", dir=output))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check(
    job: ExportContext, target: Target, scheme: Scheme, path: Path, bar: Progress, accept: Accept
) -> Closeness:
    task = bar.add_task("  check on photos", total=len(job.photos))
    try:
        with quiet():
            runner = target.load_runner(path, job.threads)
            result = check_parity(
                runner,
                job.photos,
                job.reference,
                scheme,
                classes=job.checkpoint.config.task == "classification",
                on_photo=lambda: bar.advance(task),
            )
            accept(runner)
            return result
    finally:
        bar.remove_task(task)


def _move(built: Path, final: Path, folder: Path) -> None:
    """Put artefact and manifest in place; the former ones go only when the new ones are complete."""
    for source, place in ((built, final), (manifest_path(built), manifest_path(final))):
        if place.is_dir():
            place.rename(folder / f"former-{place.name}")
        source.replace(place)
