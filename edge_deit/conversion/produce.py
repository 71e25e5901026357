"""Writes one artefact: exported beside its place, run on photos, compared, and only then kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edge_deit.artefacts.contract import Contract
from edge_deit.artefacts.manifest import Manifest, manifest_path, write_manifest
from edge_deit.artefacts.process import Worker
from edge_deit.common.collector import rare_collection
from edge_deit.common.files import workplace
from edge_deit.common.quiet import quiet
from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.describe import manifest_of, request_for
from edge_deit.conversion.masks import in_turn
from edge_deit.conversion.parity import check_batches, check_parity
from edge_deit.metrics.outputs import Closeness
from edge_deit.quantization.scheme import Scheme
from exporters import Runner, Target
from exporters.runtime import Sparing

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
    context: ExportContext,
    target: Target,
    scheme: Scheme,
    backend: str,
    accept: Accept = lambda runner: None,
) -> Exported:
    """Write, run, compare and only then keep one artefact.

    Raises:
        EdgeDeitError: the target cannot do it, the file's outputs differ from the float model's, or
            `accept` refuses it.
    """
    started = time.monotonic()
    mark = "" if backend == target.backends[0] else f"-{backend}"
    if (form := context.form_of(target, scheme)) not in (None, target.forms.get(scheme.precision)):
        mark += f"-{form}"
    mark += ".image" if context.file_form.takes == "image" else ""
    mark += f".batch{context.file_form.photos}" if context.file_form.photos > 1 else ""
    name = context.layout.file_name(context.checkpoint.name, scheme.precision, mark, target.suffix)
    unchecked = target.unchecked(backend)
    with workplace(context.output, ".export-") as folder, ExitStack() as stack:
        # it imports its runtime while the converter works
        worker = None if unchecked else stack.enter_context(Worker(target.name))
        request = request_for(context, target, scheme, backend, folder / name)
        with quiet(), rare_collection():
            target.export(request)
        stand_in = unchecked or target.runs_on()
        result = None
        if worker is not None:
            sparing = target.runtime.sparing(scheme.precision, form)
            result = _check(context, worker, scheme, request.output, accept, sparing)
        manifest = manifest_of(context, target, request, result, stand_in)
        write_manifest(manifest, manifest_path(request.output))
        _move(request.output, context.output / name, folder)
    final = (context.home or context.output) / name
    return Exported(final, manifest, result, stand_in, time.monotonic() - started)


def _check(
    context: ExportContext,
    worker: Worker,
    scheme: Scheme,
    path: Path,
    accept: Accept,
    sparing: Sparing | None,
) -> Closeness:
    count = len(context.photos)
    if sparing is not None and sparing.photos < count:
        count = sparing.photos
        context.progress.note(f"{path.name} is checked on {count} photos: {sparing.reason}")
    with context.progress.task("check on photos", count) as advance:
        contract = Contract.of_form(context.file_form, context.checkpoint.preprocess)
        loaded, masks = worker.load(path, context.threads), context.masks
        runner = contract.wrap(loaded if masks is None else in_turn(loaded, masks))
        result = check_parity(
            runner,
            context.photos[:count],
            context.reference[:count],
            scheme,
            up_to_a_constant=contract.probabilities,
            photos=contract.photos,
            classes=context.checkpoint.config.task == "classification",
            on_photo=lambda: advance(1),
        )
        if context.layout.batched:
            check_batches(runner, context.photos, scheme)
        accept(runner)
        return result


def _move(built: Path, final: Path, folder: Path) -> None:
    """Put artefact and manifest in place; the former ones go only when the new ones are complete."""
    for source, place in ((built, final), (manifest_path(built), manifest_path(final))):
        if place.is_dir():
            place.rename(folder / f"former-{place.name}")
        source.replace(place)
