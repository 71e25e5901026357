"""Export a DeiT to phone formats: `python -m edge_deit.export`."""

from __future__ import annotations

import json
import math
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import numpy as np
import torch
import typer
from rich.progress import Progress
from rich.table import Table

from edge_deit import assets
from edge_deit._console import new_app, out, progress, run, status_console
from edge_deit._quiet import quiet
from edge_deit.checkpoint import Checkpoint, load_checkpoint
from edge_deit.config import Task
from edge_deit.dataset import CalibrationSet, calibration_set
from edge_deit.deploy import DeployDeiT, deploy
from edge_deit.errors import EdgeDeitError
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
from edge_deit.quantize import PRECISIONS, Precision, Scheme
from exporters import TARGETS, ExportRequest, Target
from exporters import target as find_target
from exporters.parity import check_parity, float_outputs

__all__ = ["Exported", "Job", "export", "export_one"]

app = new_app(__doc__)


@dataclass(frozen=True)
class Job:
    """What all artefacts of one run share; `reference` is the float model's outputs on `photos`."""

    checkpoint: Checkpoint
    form: DeployDeiT
    calibration: CalibrationSet
    photos: torch.Tensor
    reference: np.ndarray
    output: Path
    threads: int


@dataclass(frozen=True)
class Exported:
    """One artefact that was written and checked; `closeness` is None where nothing here can run it."""

    path: Path
    manifest: Manifest
    closeness: Closeness | None
    stand_in: str | None
    seconds: float


def export(
    target: Annotated[str, typer.Option(help=f"One of {', '.join(TARGETS)}, or all.")],
    model: Annotated[
        str | None, typer.Option(help="Variant, e.g. deit_tiny; default: what the weights hold.")
    ] = None,
    weights: Annotated[
        str,
        typer.Option(help="bundled, a file, a Hugging Face folder, or hub:ORG/NAME[@REVISION]."),
    ] = "bundled",
    precision: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(PRECISIONS)}; may be repeated.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Photos like those of the app; default: the bundled ones.")
    ] = None,
    calibration_images: Annotated[int, typer.Option(help="At most so many of them.")] = 100,
    keep_float: Annotated[
        list[str] | None, typer.Option(help="Layers that stay float, e.g. 'blocks.0.mlp.*'.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="classification or features (final tokens, no head).")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Another input size; positions are interpolated.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="ExecuTorch: xnnpack or coreml; default: the target's first.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for artefacts and manifests.")] = Path("out"),
    parity_images: Annotated[
        int, typer.Option(help="Photos for the check that ends each export.")
    ] = 20,
    threads: Annotated[int, typer.Option(help="Threads of the runners.")] = 2,
) -> None:
    """Write MODEL.PRECISION.SUFFIX and its manifest for each target, checked on real photos.

    Example: python -m edge_deit.export --target coreml --precision int8 --weights my.safetensors
    --calibration photos/

    Without --precision int8 is made. Each file is run on photos and compared with the float model
    before it is kept; a file that is wrong is an error. Core ML runs only on macOS: elsewhere its file
    is run by reference numerics, and the table says so.
    """
    started = time.monotonic()
    plan = _plan(target, precision or ["int8"], keep_float or [], backend)
    if min(calibration_images, parity_images, threads) < 1:
        raise EdgeDeitError(
            "--calibration-images, --parity-images and --threads must be at least 1"
        )
    checkpoint = load_checkpoint(weights, model, image_size=image_size, task=_task(task))
    if (
        calibration is None
        and weights != "bundled"
        and any(s.needs_calibration for _, s, _ in plan)
    ):
        raise EdgeDeitError(
            "int8 needs photos like those the model will see: --calibration DIR (100 are plenty)"
        )
    output.mkdir(parents=True, exist_ok=True)
    job = _prepare(checkpoint, calibration, calibration_images, parity_images, output, threads)
    for _, scheme, _ in plan:
        scheme.quantised_layers(job.form)  # a pattern without a layer is refused before long work
    done: list[Exported] = []
    with progress() as bar:
        overall = bar.add_task("artefacts", total=len(plan))
        for chosen, scheme, engine in plan:
            bar.update(overall, description=f"{chosen.name} {scheme.precision}")
            done.append(export_one(job, chosen, scheme, engine, bar))
            _say(done[-1])
            bar.advance(overall)
    _summary(done, job, time.monotonic() - started)


def _task(name: str | None) -> Task | None:
    if name is None:
        return None
    for task in get_args(Task):
        if name == task:
            return cast(Task, task)
    raise EdgeDeitError(f"unknown task {name!r}; choose one of: classification, features")


def _plan(
    target: str, precisions: list[str], keep_float: list[str], backend: str | None
) -> list[tuple[Target, Scheme, str]]:
    names = list(TARGETS) if target == "all" else [target]
    targets = [find_target(name) for name in names]
    plan = []
    for name in dict.fromkeys(precisions):
        if name not in PRECISIONS:
            raise EdgeDeitError(
                f"unknown precision {name!r}; choose one of: {', '.join(PRECISIONS)}"
            )
        precision: Precision = name
        scheme = Scheme(precision, tuple(keep_float) if name.startswith("int8") else ())
        able = [t for t in targets if target != "all" or precision in t.precisions]
        if keep_float and not any(p.startswith("int8") for p in precisions):
            raise EdgeDeitError(
                "--keep-float means nothing without an int8 precision; leave it out"
            )
        for chosen in able:
            chosen.check(precision)
            plan.append((chosen, scheme, _backend(chosen, backend)))
        if skipped := [t.name for t in targets if t not in able]:
            status_console().print(f"no {precision} in {', '.join(skipped)}: left out")
    return plan


def _backend(target: Target, name: str | None) -> str:
    if name is None:
        return target.backends[0]
    if name not in target.backends:
        raise EdgeDeitError(
            f"target {target.name} has no backend {name!r}; it has: {', '.join(target.backends)}"
        )
    return name


def _prepare(
    checkpoint: Checkpoint,
    folder: Path | None,
    count: int,
    parity_count: int,
    output: Path,
    threads: int,
) -> Job:
    with assets.calibration_folder() as bundled:
        source = folder or bundled
        photos = calibration_set(source, checkpoint.preprocess, count)
    need = 6 * sum(p.numel() * 4 for p in checkpoint.model.parameters())
    free = shutil.disk_usage(output).free
    if free < need:
        raise EdgeDeitError(
            f"{output} has {free / 1e6:.0f} MB free, an export needs about {need / 1e6:.0f} MB; "
            "free some space or choose another --output"
        )
    chosen = photos.pixels[_even(len(photos), parity_count)]
    reference = float_outputs(checkpoint.model, chosen)
    return Job(checkpoint, deploy(checkpoint.model), photos, chosen, reference, output, threads)


def _even(length: int, count: int) -> list[int]:
    count = min(length, count)
    return [index * length // count for index in range(count)]


@contextmanager
def _workplace(output: Path) -> Iterator[Path]:
    """A hidden folder beside the artefacts that is gone afterwards, whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix=".export-", dir=output))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def export_one(job: Job, target: Target, scheme: Scheme, backend: str, bar: Progress) -> Exported:
    """Write, run, compare and only then keep one artefact.

    Raises:
        EdgeDeitError: the target cannot do it, or the file's outputs differ from the float model's.
    """
    started = time.monotonic()
    mark = "" if backend == target.backends[0] else f"-{backend}"
    name = f"{job.checkpoint.name}.{scheme.precision}{mark}{target.suffix}"
    with _workplace(job.output) as folder:
        request = _request(job, scheme, backend, folder / name)
        with quiet():
            target.export(request)
        unchecked = target.unchecked(backend)
        stand_in = unchecked or target.runs_on()
        result = None
        if unchecked is None:
            result = _check(job, target, backend, scheme, request.output, bar)
        manifest = _manifest(job, target, request, result, stand_in)
        write_manifest(manifest, manifest_path(request.output))
        final = job.output / name
        _move(request.output, final, folder)
    return Exported(final, manifest, result, stand_in, time.monotonic() - started)


def _check(
    job: Job, target: Target, backend: str, scheme: Scheme, path: Path, bar: Progress
) -> Closeness:
    task = bar.add_task("  check on photos", total=len(job.photos))
    try:
        with quiet():
            return check_parity(
                target.load_runner(path, job.threads),
                job.photos,
                job.reference,
                scheme,
                classes=job.checkpoint.config.task == "classification",
                on_photo=lambda: bar.advance(task),
            )
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


def _request(job: Job, scheme: Scheme, backend: str, path: Path) -> ExportRequest:
    checkpoint = job.checkpoint
    spec = json.dumps(checkpoint.preprocess.to_json())
    return ExportRequest(
        model=job.form,
        example=job.photos[:1],
        scheme=scheme,
        calibration=job.calibration if scheme.needs_calibration else None,
        output=path,
        backend=backend,
        output_name=_output_name(checkpoint),
        metadata={
            "labels": "\n".join(checkpoint.labels),
            "preprocessing": spec,
            "author": "Edge DeiT",
            "license": _license(checkpoint),
            "description": f"{checkpoint.name}, {scheme.precision}: pixels (1, 3, H, W) float32, RGB, "
            f"normalised as `preprocessing` says -> {_output_name(checkpoint)}",
            "version": checkpoint.sha256[:12],
        },
    )


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
        scheme={
            "precision": scheme.precision,
            "keep_float": list(scheme.keep_float),
            "layers": scheme.quantised_layers(job.form),
        },
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


def _say(done: Exported) -> None:
    if not status_console().is_terminal:
        status_console().print(
            f"{done.path} {done.manifest.size_bytes / 1e6:.1f} MB", soft_wrap=True
        )


def _summary(done: list[Exported], job: Job, seconds: float) -> None:
    float_bytes = 4 * sum(p.numel() for p in job.checkpoint.model.parameters())
    table = Table(title=f"{job.checkpoint.name}, {len(job.photos)} photos against the float model")
    for name in ("target", "precision", "MB", "of float", "cosine", "agree", "max diff", "s"):
        table.add_column(name, justify="left" if name in ("target", "precision") else "right")
    for one in done:
        table.add_row(
            one.manifest.target + ("*" if one.stand_in else ""),
            one.manifest.precision,
            f"{one.manifest.size_bytes / 1e6:.1f}",
            f"{one.manifest.size_bytes / float_bytes:.2f}",
            *_closeness_cells(one.closeness),
            f"{one.seconds:.0f}",
        )
    out().print(table)
    out().print("of float: size / 4 bytes a parameter; cosine: worst photo; s: export and check")
    for reason in dict.fromkeys(f"* {one.stand_in}" for one in done if one.stand_in):
        out().print(reason)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_bytes = peak if sys.platform == "darwin" else 1024 * peak
    out().print(
        f"{len(done)} files in {job.output}, {seconds:.0f} s, peak {peak_bytes / 1e9:.1f} GB"
    )


def _closeness_cells(result: Closeness | None) -> tuple[str, str, str]:
    if result is None:
        return "not run", "-", "-"
    agreement = "-" if result.agreement is None else f"{100 * result.agreement:.0f} %"
    return f"{result.cosine:.5f}", agreement, f"{result.max_abs:.1e}"


app.command()(export)

if __name__ == "__main__":
    run(app, "python -m edge_deit.export")
