"""Export a DeiT to phone formats: `python -m edge_deit.export`."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Annotated, cast, get_args

import torch
import typer
from rich import box
from rich.table import Table

from edge_deit import assets
from edge_deit.checkpoint.load import load_model
from edge_deit.common.console import new_app, out, progress, run, status_console
from edge_deit.common.errors import EdgeDeitError
from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.fallback import DropLimit, choose_fallback, keeps_limit
from edge_deit.conversion.parity import float_outputs
from edge_deit.conversion.produce import Exported, export_one
from edge_deit.conversion.run import _check_space, _condition, _plan
from edge_deit.data.calibration import calibration_set
from edge_deit.data.photos import pick_evenly
from edge_deit.metrics.outputs import Closeness
from edge_deit.model.config import Task
from edge_deit.model.deploy import deploy
from edge_deit.quantization.scheme import PRECISIONS
from exporters import TARGETS

__all__ = ["export"]

app = new_app(__doc__)


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
    max_drop: Annotated[
        float | None,
        typer.Option(help="int8: points of top-1 it may cost; the worst layers are kept finer."),
    ] = None,
    sensitivity_report: Annotated[
        Path | None, typer.Option(help="int8: folder for a table and a plot of layer x damage.")
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
    wanted = DropLimit(max_drop, sensitivity_report, threads)
    wanted.check([scheme for _, scheme, _ in plan])
    checkpoint = load_model(weights, model, image_size=image_size, task=_task(task))
    static = any(scheme.needs_calibration for _, scheme, _ in plan)
    if calibration is None and weights != "bundled" and static:
        raise EdgeDeitError(
            "int8 needs photos like those the model will see: --calibration DIR (100 are plenty)"
        )
    output.mkdir(parents=True, exist_ok=True)
    _check_space(checkpoint, output)
    with assets.calibration_folder() as bundled:
        photos = calibration_set(calibration or bundled, checkpoint.preprocess, calibration_images)
    form = deploy(checkpoint.model)
    # a pattern without a layer is refused here, before long work
    plan = [(one, one.fit(scheme, form), engine) for one, scheme, engine in plan]
    conditioned = None
    if any(scheme.quantized for _, scheme, _ in plan):
        own = static or calibration is not None or weights == "bundled"
        measured = photos if own else None  # the bundled photos tell nothing about other weights
        conditioned = _condition(form, checkpoint, measured)
    chosen = torch.cat(pick_evenly(list(photos), parity_images))
    reference = float_outputs(checkpoint.model, chosen)
    job = ExportContext(checkpoint, form, conditioned, photos, chosen, reference, output, threads)
    plan = choose_fallback(wanted, job, plan)
    done: list[Exported] = []
    with progress() as bar:
        overall = bar.add_task("artefacts", total=len(plan))
        for one, scheme, engine in plan:
            bar.update(overall, description=f"{one.name} {scheme.precision}")
            accept = keeps_limit(wanted, job, scheme)
            done.append(export_one(job, one, scheme, engine, bar, accept))
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


def _say(done: Exported) -> None:
    if not status_console().is_terminal:
        status_console().print(
            f"{done.path} {done.manifest.size_bytes / 1e6:.1f} MB", soft_wrap=True
        )


def _summary(done: list[Exported], job: ExportContext, seconds: float) -> None:
    float_bytes = 4 * sum(p.numel() for p in job.checkpoint.model.parameters())
    title = f"{job.checkpoint.name}, {len(job.photos)} photos against the float model"
    table = Table(title=title, box=box.SIMPLE, padding=0)  # narrow enough for 80 columns
    for name in ("target", "precision"):
        table.add_column(name, no_wrap=True)
    for name in ("MB", "of\nfloat", "cosine", "SNR\ndB", "agree", "max\ndiff", "s"):
        table.add_column(name, justify="right", no_wrap=True)
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


def _closeness_cells(result: Closeness | None) -> tuple[str, str, str, str]:
    if result is None:
        return "not run", "-", "-", "-"
    agreement = "-" if result.agreement is None else f"{100 * result.agreement:.0f} %"
    return f"{result.cosine:.5f}", f"{result.snr_db:.1f}", agreement, f"{result.max_abs:.1e}"


app.command()(export)

if __name__ == "__main__":
    run(app, "python -m edge_deit.export")
