"""Weights to checked files: what `export` runs.

checkpoint -> deployment form -> conditioning on the calibration photos -> conversion -> check on photos ->
manifest. Nothing is printed; progress and notes go to a `Progress`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from edge_deit import assets
from edge_deit.checkpoint.load import Checkpoint
from edge_deit.checkpoint.options import LoadOptions
from edge_deit.common.arguments import Threads, checked_arguments
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import SILENT, Progress
from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.fallback import (
    DropLimit,
    Fallback,
    OverLimitError,
    choose_fallback,
    keeps_limit,
    kept_finer,
)
from edge_deit.conversion.layout import Layout, LayoutName
from edge_deit.conversion.model_card import stored_as, write_card
from edge_deit.conversion.plan import Item, calibration_needed, make_plan
from edge_deit.conversion.produce import Exported, export_one
from edge_deit.data.calibration import CalibrationSet, calibration_set
from edge_deit.data.label_choice import LabelChoice, read_label_choice
from edge_deit.data.labels import model_labels
from edge_deit.data.listing import pick_evenly
from edge_deit.model.config import Task
from edge_deit.model.deploy import deploy
from edge_deit.model.form import DeployDeiT
from edge_deit.model.outputs import outputs
from edge_deit.quantization.condition import (
    Conditioned,
    condition,
    condition_without_photos,
    passes,
)
from edge_deit.quantization.scheme import Precision

__all__ = ["ExportResult", "export_model"]


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote, in the order of the request.

    `parity_images` is the number of photos that each file was compared on; `notes` say why the calibration
    photos are too few or too alike, what `max_drop` kept finer, and where the table of layers lies.
    """

    checkpoint: Checkpoint
    artefacts: tuple[Exported, ...]
    parity_images: int
    notes: tuple[str, ...]
    seconds: float


@checked_arguments
def export_model(
    weights: str | Checkpoint = "bundled",
    *,
    targets: Sequence[str] | None = None,
    precisions: Sequence[Precision] | None = None,
    output: Path = Path("out"),
    layout: LayoutName = "plain",
    dynamic_batch: bool = False,
    model: str | None = None,
    task: Task | None = None,
    image_size: int | None = None,
    backend: str | None = None,
    calibration: Path | None = None,
    calibration_images: int = 100,
    options: LoadOptions | None = None,
    labels: str | None = None,
    keep_float: Sequence[str] = (),
    max_drop: float | None = None,
    sensitivity_report: Path | None = None,
    parity_images: int = 20,
    threads: Threads = 2,
    progress: Progress = SILENT,
) -> ExportResult:
    """Write MODEL.PRECISION.SUFFIX and its manifest into `output` for each target and precision.

    `weights` is what `load_model` takes, or a checkpoint that it returned; then `model`, `task`,
    `image_size` and `options` must be None. `options` say what the weights' files do not. `targets` None
    means all that have the precision, `precisions` None int8. With the `layout` `huggingface`, `output`
    becomes a folder for Hugging Face's tools: `.onnx` files under the names that these expect, by default
    in all precisions that have one; it appears whole or not at all. `dynamic_batch` lets files take any
    number of photos at once. `calibration` is a folder of photos like those of the app, of which
    at most `calibration_images` are used; without it the bundled photos are, for the bundled weights.
    `labels` names the model's classes: a file or `imagenet-1k`, as `read_label_choice` takes it.
    `keep_float` holds shell patterns of layers that stay float. `max_drop` is the most points of top-1 that
    int8 may cost on the calibration photos; layers are kept finer until it holds. `sensitivity_report` is a
    folder for a table and a plot of each layer's damage.
    Each file is run on `parity_images` photos and compared with the float model before it is kept.

    Raises:
        EdgeDeitError: a request that cannot be met, weights or photos that cannot be read, or a file whose
            outputs differ from the float model's; it names the remedy. Files made before it stay, in the
            plain layout.
    """
    started = time.monotonic()
    laid = Layout(layout, dynamic_batch)
    wanted = laid.targets(targets), laid.precisions(precisions)
    plan = make_plan(*wanted, keep_float, backend, progress)
    laid.check(plan)
    if min(calibration_images, parity_images, threads) < 1:
        raise EdgeDeitError(
            "--calibration-images, --parity-images and --threads must be at least 1"
        )
    choice = None if labels is None else read_label_choice(labels)
    limit = DropLimit(max_drop, sensitivity_report, threads)
    limit.check([scheme for _, scheme, _ in plan])
    checkpoint = _load(weights, model, task, image_size, options)
    checkpoint = _named(checkpoint, choice, progress)
    limit.check_task(checkpoint.config.task)
    if calibration is None and checkpoint.source != "bundled" and calibration_needed(plan):
        raise EdgeDeitError(
            "int8 needs photos like those the model will see: --calibration DIR (100 are plenty)"
        )
    own = calibration is not None or checkpoint.source == "bundled"
    with laid.opened(output) as folder:
        stored = stored_as(laid, checkpoint, folder, output, progress)
        _check_space(checkpoint, folder)
        photos = _calibration(stored, calibration, calibration_images, progress)
        if max_drop is not None:
            photos = _with_labels(photos, stored, choice, progress)
        context, plan = _prepare(
            stored,
            plan,
            photos,
            own=own,
            parity_images=parity_images,
            output=laid.files_in(folder),
            threads=threads,
            progress=progress,
            options=LoadOptions() if options is None or laid.whole_folder else options,
        )
        home = laid.files_in(output)
        context = replace(context, layout=laid, home=home, origin=checkpoint.source)
        fallback = choose_fallback(limit, context, plan)
        notes = [*context.calibration_doubts, *fallback.notes]
        done = tuple(_export_all(context, fallback, limit, notes))
        write_card(laid, folder, checkpoint, done)
    seconds = time.monotonic() - started
    return ExportResult(stored, done, len(context.photos), tuple(notes), seconds)


def _load(
    weights: str | Checkpoint,
    model: str | None,
    task: Task | None,
    image_size: int | None,
    options: LoadOptions | None,
) -> Checkpoint:
    if isinstance(weights, str):
        chosen = options or LoadOptions()
        return chosen.load(weights, model, image_size=image_size, task=task)
    if (model, task, image_size, options) != (None, None, None, None):
        raise EdgeDeitError(
            "a loaded checkpoint has its variant, task, image size and options; give them to load_model"
        )
    return weights


def _named(checkpoint: Checkpoint, choice: LabelChoice | None, progress: Progress) -> Checkpoint:
    """The checkpoint with the names of classes that were asked for; its assumptions are said."""
    for line in checkpoint.assumptions:
        progress.note(line)
    return replace(checkpoint, labels=model_labels(checkpoint.labels, choice))


def _calibration(
    checkpoint: Checkpoint, folder: Path | None, count: int, progress: Progress
) -> CalibrationSet:
    with ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(assets.calibration_folder())
        found = calibration_set(folder, checkpoint.preprocess, count)
    for line in found.remarks():
        progress.note(line)
    return found


def _with_labels(
    photos: CalibrationSet, checkpoint: Checkpoint, choice: LabelChoice | None, progress: Progress
) -> CalibrationSet:
    found = photos.with_labels(checkpoint.labels, choice)
    progress.note(f"labels of the calibration photos: {found.labels_matched}")
    return found


def _check_space(checkpoint: Checkpoint, output: Path) -> None:
    need = 6 * checkpoint.size_bytes
    free = shutil.disk_usage(output).free
    if free < need:
        raise EdgeDeitError(
            f"{output} has {free / 1e6:.0f} MB free, an export needs about {need / 1e6:.0f} MB; "
            "free some space or choose another --output"
        )


def _prepare(
    checkpoint: Checkpoint,
    plan: Sequence[Item],
    photos: CalibrationSet,
    *,
    own: bool,
    parity_images: int,
    output: Path,
    threads: int,
    progress: Progress,
    options: LoadOptions,
) -> tuple[ExportContext, list[Item]]:
    """What all files share, and the plan with each target's own layers.

    `own`: the photos belong to these weights; others say nothing about their ranges.
    """
    form = deploy(checkpoint.model)
    # a pattern without a layer is refused here, before long work
    fitted = [(target, target.fit(scheme, form), backend) for target, scheme, backend in plan]
    conditioned = None
    if any(scheme.quantized for _, scheme, _ in fitted):
        measured = photos if own or calibration_needed(fitted) else None
        conditioned = _condition(form, checkpoint, measured, progress)
    chosen = pick_evenly(list(photos), parity_images)
    reference = outputs(checkpoint.model, chosen).numpy()
    context = ExportContext(
        checkpoint=checkpoint,
        form=form,
        conditioned=conditioned,
        calibration=photos,
        photos=torch.cat(chosen),
        reference=reference,
        output=output,
        threads=threads,
        progress=progress,
        options=options,
    )
    return context, fitted


def _condition(
    form: DeployDeiT, checkpoint: Checkpoint, photos: CalibrationSet | None, progress: Progress
) -> Conditioned:
    if photos is None:
        return condition_without_photos(form, checkpoint.preprocess)
    with progress.task("conditioning", passes(len(photos))) as advance:
        return condition(form, photos, checkpoint.preprocess, on_photo=lambda: advance(1))


def _export_all(
    context: ExportContext, fallback: Fallback, limit: DropLimit, notes: list[str]
) -> list[Exported]:
    done: list[Exported] = []
    with context.progress.task("artefacts", len(fallback.items)) as advance:
        for item in fallback.items:
            done.append(_export_within(context, item, fallback, limit, notes))
            size_mb = done[-1].manifest.size_bytes / 1e6
            context.progress.note(f"{done[-1].path} {size_mb:.1f} MB")
            advance(1)
    return done


def _export_within(
    context: ExportContext, item: Item, fallback: Fallback, limit: DropLimit, notes: list[str]
) -> Exported:
    """One file; where it loses more than the limit, made again with more layers kept finer.

    `notes` gets a line on what each file that is made again has.
    """
    target, scheme, backend = item
    while True:
        try:
            return export_one(context, target, scheme, backend, keeps_limit(limit, context, scheme))
        except OverLimitError as error:
            following = fallback.finer(target, scheme)
            if following is None:
                raise
            scheme = following
            notes.append(
                f"{target.name}: made again with {kept_finer(context, scheme)}; the file lost {error.drop}"
            )
            context.progress.note(notes[-1])
