"""Writes one artefact: exported beside its place, run on photos, compared, and only then kept."""

from __future__ import annotations

import functools
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from edge_deit._quiet import quiet
from edge_deit.checkpoint import Checkpoint
from edge_deit.condition import Conditioned
from edge_deit.dataset import CalibrationSet
from edge_deit.form import DeployDeiT
from edge_deit.half import fits_half
from edge_deit.manifest import (
    SCHEMA,
    Manifest,
    hash_path,
    manifest_path,
    size_of,
    tool_versions,
    write_manifest,
)
from edge_deit.metrics import Closeness
from edge_deit.quantize import Scheme
from edge_deit.reshape import token_scaled
from exporters import ExportRequest, Runner, Target
from exporters.parity import check_parity

__all__ = ["Accept", "Exported", "Job", "export_one"]


@dataclass(frozen=True)
class Job:
    """What all artefacts of one run share.

    `form` is the deployment form, `conditioned` what integer precisions start from (None when there are
    none), `reference` the float model's outputs on `photos`.
    """

    checkpoint: Checkpoint
    form: DeployDeiT
    conditioned: Conditioned | None
    calibration: CalibrationSet
    photos: Tensor
    reference: np.ndarray
    output: Path
    threads: int

    @functools.cached_property
    def fits_half(self) -> bool:
        """Whether the float part of the conditioned form can run in half precision (`edge_deit.half`).

        Not known, so False, where no photos were measured.
        """
        found = self.conditioned
        return (
            found is not None
            and bool(found.ranges)
            and fits_half(found.unrounded, self.calibration)
        )

    @functools.cached_property
    def calibration_outputs(self) -> Tensor:
        """The float model's outputs on all calibration photos (M, ...), computed when first asked for."""
        with torch.inference_mode():
            return torch.cat([self.form(photo) for photo in self.calibration])


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
    job: Job,
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
    job: Job, target: Target, scheme: Scheme, path: Path, bar: Progress, accept: Accept
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


def _output_name(checkpoint: Checkpoint) -> str:
    return "logits" if checkpoint.config.task == "classification" else "features"


def _license(checkpoint: Checkpoint) -> str:
    if checkpoint.source == "bundled":
        return "Apache-2.0; trained on Fashion-MNIST (Expat)"
    return f"that of the weights, {checkpoint.source}"


def _request(job: Job, target: Target, scheme: Scheme, backend: str, path: Path) -> ExportRequest:
    checkpoint, model = job.checkpoint, job.form
    if scheme.quantised:
        assert job.conditioned is not None
        layers, dynamic = scheme.quantised_layers(job.form), scheme.dynamic_layers(job.form)
        model = job.conditioned.with_layers(layers, dynamic, token_ranges=target.token_ranges)
    return ExportRequest(
        model=model,
        example=job.photos[:1],
        scheme=scheme,
        calibration=job.calibration if scheme.needs_calibration else None,
        output=path,
        backend=backend,
        ranges=_ranges(job, scheme),
        output_name=_output_name(checkpoint),
        metadata={
            "labels": "\n".join(checkpoint.labels),
            "preprocessing": json.dumps(checkpoint.preprocess.to_json()),
            "author": "Edge DeiT",
            "license": _license(checkpoint),
            "description": f"{checkpoint.name}, {scheme.precision}: pixels (1, 3, H, W) float32, RGB, "
            f"normalised as `preprocessing` says -> {_output_name(checkpoint)}",
            "version": checkpoint.sha256[:12],
        },
        half_remainder=scheme.precision in target.half_remainder and job.fits_half,
    )


def _ranges(job: Job, scheme: Scheme) -> dict[str, Any]:
    if job.conditioned is None or not scheme.needs_calibration:
        return {}
    return {name: job.conditioned.ranges[name] for name in scheme.static_layers(job.form)}


def _manifest(
    job: Job, target: Target, request: ExportRequest, result: Closeness | None, stand_in: str | None
) -> Manifest:
    checkpoint, scheme = job.checkpoint, request.scheme
    calibration = request.calibration
    parity: dict[str, Any] = {"runner": stand_in or f"{target.name} runtime"}
    if result is not None:
        parity |= asdict(result)
        parity["snr_db"] = None if math.isinf(result.snr_db) else result.snr_db
    return Manifest(
        schema=SCHEMA,
        artefact=request.output.name,
        sha256=hash_path(request.output),
        size_bytes=size_of(request.output),
        target=target.name,
        backend=request.backend,
        precision=scheme.precision,
        model=checkpoint.name,
        task=checkpoint.config.task,
        config=asdict(checkpoint.config),
        weights={"source": checkpoint.source, "sha256": checkpoint.sha256},
        input={
            "name": request.input_name,
            "shape": list(request.example.shape),
            "dtype": "float32",
            "layout": "NCHW",
        },
        output={
            "name": request.output_name,
            "shape": [1, *job.reference.shape[1:]],
            "dtype": "float32",
        },
        preprocessing=checkpoint.preprocess.to_json(),
        labels=list(checkpoint.labels),
        scheme=_scheme(job, request),
        calibration=None
        if calibration is None
        else {
            "images": len(calibration),
            "sha256": calibration.sha256,
            "source": calibration.source,
        },
        parity=parity,
        tools=tool_versions(),
    )


def _scheme(job: Job, request: ExportRequest) -> dict[str, Any]:
    """Which layers are integer, and how they came to be so."""
    scheme, form = request.scheme, job.form
    entry: dict[str, Any] = {
        "precision": scheme.precision,
        "keep_float": list(scheme.keep_float),
        "layers": scheme.quantised_layers(form),
        "dynamic": scheme.dynamic_layers(form),
    }
    if scheme.quantised and job.conditioned is not None:
        assert isinstance(request.model, DeployDeiT)
        found = job.conditioned
        entry["token_scaled"] = token_scaled(request.model)
        entry["half_remainder"] = request.half_remainder
        entry["equalised"] = found.exponents
        entry["ranges"] = {
            name: {"input": ends.input, "output": ends.output, "methods": found.methods[name]}
            for name, ends in request.ranges.items()
        }
    return entry
