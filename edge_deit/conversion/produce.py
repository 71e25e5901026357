"""Writes one artefact: exported beside its place, run on photos, compared, and only then kept."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from edge_deit.artefacts.contract import Contract
from edge_deit.artefacts.manifest import Manifest, manifest_path, write_manifest
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import size_of, workplace
from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.describe import manifest_of, request_for
from edge_deit.conversion.job import Convert, Job
from edge_deit.exporters import Runtime, Target, runtime_of
from edge_deit.metrics.outputs import Closeness
from edge_deit.quantization.scheme import Scheme

__all__ = ["Exported", "OverSizeError", "export_one"]


@dataclass(frozen=True)
class Exported:
    """One artefact that was written and checked, `stand_in` saying by what if not by its own runtime."""

    path: Path
    manifest: Manifest
    closeness: Closeness
    stand_in: str | None
    seconds: float


class OverSizeError(EdgeDeitError):
    """An int4 file is larger than `--max-size`."""

    def __init__(
        self, size_bytes: int, max_size: float, what: str = "the smallest int4 file has"
    ) -> None:
        super().__init__(
            f"{what} {size_bytes / 1e6:.2f} MB, more than --max-size {max_size}; allow more"
        )
        self.excess_bytes = size_bytes - int(max_size * 1e6)

    @property
    def short(self) -> str:
        """What the file did, in a few words."""
        return f"was {self.excess_bytes / 1e3:.0f} kB too large"


def export_one(
    context: ExportContext,
    target: Target,
    scheme: Scheme,
    backend: str,
    convert: Convert,
    max_size: float | None = None,
) -> Exported:
    """Have `convert` write, run and compare one artefact, and only then keep it.

    `max_size` is the most MB of an int4 file.

    Raises:
        EdgeDeitError: the target cannot do it, or the file's outputs differ from the float model's.
        OverSizeError: the file is too large.
    """
    started = time.monotonic()
    name = context.layout.file_name(
        context.checkpoint.name,
        scheme.precision,
        _mark(context, target, scheme, backend),
        target.suffix,
    )
    runtime = runtime_of(target.name, backend)
    with workplace(context.output, ".export-") as folder:
        request = request_for(context, target, scheme, backend, folder / name)
        count = _photos(context, runtime, context.form_of(target, scheme), scheme, name)
        result = convert(
            Job(
                target=target.name,
                request=request,
                contract=Contract.of_form(context.file_form, context.checkpoint.preprocess),
                photos=context.photos[:count],
                reference=context.reference[:count],
                masks=None if context.masks is None else context.masks[:count],
                classes=context.checkpoint.config.task == "classification",
                threads=context.threads,
            )
        )
        _check_size(request.output, scheme, max_size)
        stand_in = runtime.runs_on()
        manifest = manifest_of(context, target, request, result, stand_in)
        write_manifest(manifest, manifest_path(request.output))
        _move(request.output, context.output / name, folder)
    final = (context.home or context.output) / name
    return Exported(final, manifest, result, stand_in, time.monotonic() - started)


def _check_size(path: Path, scheme: Scheme, max_size: float | None) -> None:
    if max_size is not None and scheme.grouped and size_of(path) > max_size * 1e6:
        raise OverSizeError(size_of(path), max_size)


def _mark(context: ExportContext, target: Target, scheme: Scheme, backend: str) -> str:
    """What a file's name says beside model and precision."""
    mark = "" if backend == target.backends[0] else f"-{backend}"
    if (form := context.form_of(target, scheme)) not in (None, target.forms.get(scheme.precision)):
        mark += f"-{form}"
    mark += ".image" if context.file_form.takes == "image" else ""
    mark += f".merge{context.merging.total}" if context.merging is not None else ""
    return mark + (f".batch{context.file_form.photos}" if context.file_form.photos > 1 else "")


def _photos(
    context: ExportContext, runtime: Runtime, form: str | None, scheme: Scheme, name: str
) -> int:
    """How many photos the check takes: a few, with a note, where the runtime is very slow here."""
    count = len(context.photos)
    slow = runtime.sparing(scheme.precision, form)
    if slow is not None and slow.photos < count:
        count = slow.photos
        context.progress.note(f"{name} is checked on {count} photos: {slow.reason}")
    return count


def _move(built: Path, final: Path, folder: Path) -> None:
    """Put artefact and manifest in place; the former ones go only when the new ones are complete."""
    for source, place in ((built, final), (manifest_path(built), manifest_path(final))):
        if place.is_dir():
            place.rename(folder / f"former-{place.name}")
        source.replace(place)
