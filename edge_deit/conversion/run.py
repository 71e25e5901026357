"""Weights to checked files: what `export` runs.

checkpoint -> deployment form -> conditioning on the calibration photos -> conversion -> check on photos ->
manifest. Nothing is printed; progress and notes go to a `Progress`.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from edge_deit.checkpoint.load import Checkpoint
from edge_deit.checkpoint.options import LoadOptions
from edge_deit.common.arguments import Threads, checked_arguments
from edge_deit.common.cache import CacheFolder
from edge_deit.common.progress import SILENT, Progress
from edge_deit.conversion.conditioning import conditioning_cache, find_conditioned
from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.fallback import DropLimit
from edge_deit.conversion.inputs import (
    ExportPhotos,
    check_counts,
    check_patterns,
    check_space,
    export_photos,
    load_named,
    note_place,
    photos_belong,
    with_labels,
)
from edge_deit.conversion.layout import Layout, LayoutName
from edge_deit.conversion.masks import check_masked, masks_for
from edge_deit.conversion.merging import MergeTokens, MergeWish
from edge_deit.conversion.model_card import stored_as, write_card
from edge_deit.conversion.plan import Item, make_plan
from edge_deit.conversion.produce import Exported
from edge_deit.conversion.schedule import export_all
from edge_deit.conversion.steady import steady_threads
from edge_deit.conversion.trained import check_trained, photos_needed, trained_of
from edge_deit.data.label_choice import read_label_choice
from edge_deit.exporters import Form
from edge_deit.model.config import Task
from edge_deit.model.deploy import deploy
from edge_deit.model.file_form import FileForm, InputKind, ReturnKind
from edge_deit.model.merging import merged_form
from edge_deit.model.outputs import outputs
from edge_deit.quantization.condition import Conditioned
from edge_deit.quantization.scheme import Precision

__all__ = ["ExportResult", "export_model"]


class Places(NamedTuple):
    """The layout, where files are written, where they lie in the end, and what the weights are called."""

    layout: Layout
    files: Path
    home: Path
    origin: str


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote, in the order of the request.

    `parity_images` is the number of photos that each file was compared on, `held_back` says that none of
    them took part in the calibration; `notes` say why the calibration
    photos are too few or too alike, what `max_drop` kept finer, and where the table of layers lies.
    """

    checkpoint: Checkpoint
    artefacts: tuple[Exported, ...]
    parity_images: int
    held_back: bool
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
    batch: int = 1,
    model: str | None = None,
    task: Task | None = None,
    image_size: int | None = None,
    backend: str | None = None,
    calibration: Path | None = None,
    calibration_images: int = 100,
    form: Form | None = None,
    options: LoadOptions | None = None,
    labels: str | None = None,
    input_kind: InputKind = "pixels",
    returns: ReturnKind | None = None,
    keep_float: Sequence[str] = (),
    max_drop: float | None = None,
    max_size: float | None = None,
    merge_tokens: MergeTokens | None = None,
    sensitivity_report: Path | None = None,
    parity_images: int = 20,
    threads: Threads = 2,
    jobs: Threads | None = None,
    seed: int = 0,
    cache: bool = True,
    progress: Progress = SILENT,
) -> ExportResult:
    """Write MODEL.PRECISION.SUFFIX and its manifest into `output` for each target and precision.

    `weights` is what `load_model` takes, or a checkpoint that it returned; then `model`, `task`,
    `image_size` and `options` must be None. `options` say what the weights' files do not. `targets` None
    means all that have the precision, `precisions` None int8. With the `layout` `huggingface`, `output`
    becomes a folder for Hugging Face's tools: `.onnx` files under the names that these expect, by default
    in all precisions that have one; it appears whole or not at all. `dynamic_batch` lets files take any
    number of photos at once, `batch` makes them take so many, no fewer and no more. `calibration` is a
    folder of photos like those of the app, of which at most `calibration_images` are used, and some held
    back for the check; without it the bundled photos are, for the bundled weights.
    `labels` names the model's classes: a file or `imagenet-1k`, as `read_label_choice` takes it.
    `form` is how operators are laid out, `ane` or `cpu`, where a target has both (None: each precision's
    own). `input_kind` is `pixels` (normalised, float) or `image` (a photo's bytes, cut to size); `returns`
    is `logits` or `probabilities`, by default logits for pixels and probabilities for an image.
    `keep_float` holds shell patterns of layers that stay float. `max_drop` is the most points of top-1 that
    int8 and int4 may cost on the calibration photos; layers are kept finer until it holds. `max_size` is
    the most MB of an int4 file: as many layers keep 8 bits as it allows. `merge_tokens` makes files an
    approximation: so many tokens, or with `auto` as many as `max_drop` allows, become part of others on
    the way (`model.merging`). `sensitivity_report` is a
    folder for a table and a plot of each layer's damage.
    `threads` is for what runs the files, `jobs` how many are made at the same time, each in a process of
    its own; None means as many as cores and free memory allow.
    `seed` is that of everything that is drawn: the same one gives the same files.
    With `cache` what conditioning finds, and where the weights lie, is kept in the user's cache.
    Each file is run on at most `parity_images` photos that took no part in the calibration, and compared
    with the float model before it is kept.

    Raises:
        EdgeDeitError: a request that cannot be met, weights or photos that cannot be read, or a file whose
            outputs differ from the float model's; it names the remedy. Files made before it stay, in the
            plain layout.
    """
    started, laid = time.monotonic(), Layout(layout, dynamic_batch, batch, form)
    wanted = laid.targets(targets), laid.precisions(precisions)
    plan = make_plan(*wanted, keep_float, backend, progress)
    laid.check(plan, input_kind)
    check_counts(calibration_images, parity_images, threads, jobs, seed=seed)
    choice = None if labels is None else read_label_choice(labels)
    limit = DropLimit(max_drop, sensitivity_report, max_size)
    wish = MergeWish(merge_tokens, max_drop)
    limit.check([scheme for _, scheme, _ in plan], merging=wish.auto)
    wish.check(plan, laid)
    checkpoint = load_named(weights, model, task, image_size, options, choice, progress)
    note_place(checkpoint, cache=cache)
    _check_weights(checkpoint, plan, limit, wish)
    check_masked(checkpoint.config, plan, laid, input_kind)
    file_form = laid.file_form(input_kind, returns, checkpoint.config.task)
    own = photos_belong(checkpoint, calibration, plan)
    with laid.opened(output) as folder, steady_threads():
        stored = stored_as(laid, checkpoint, folder, output, progress)
        check_space(checkpoint, folder)
        photos = export_photos(
            stored,
            calibration,
            count=calibration_images,
            checked=parity_images,
            calibrates=any(scheme.looks_at_photos for _, scheme, _ in plan),
            progress=progress,
        )
        context, plan = _prepare(
            stored,
            plan,
            with_labels(photos, stored, choice, max_drop, progress),
            own=own,
            places=Places(laid, laid.files_in(folder), laid.files_in(output), checkpoint.source),
            file_form=file_form,
            wish=wish,
            threads=threads,
            seed=seed,
            cache=conditioning_cache() if cache else None,
            progress=progress,
            options=LoadOptions() if options is None or laid.whole_folder else options,
        )
        done, notes = export_all(context, plan, limit, jobs)
        write_card(laid, folder, checkpoint, tuple(done))
        told = tuple(done), len(context.photos), context.held_back, tuple(notes)
    return ExportResult(stored, *told, time.monotonic() - started)


def _check_weights(
    checkpoint: Checkpoint, plan: Sequence[Item], limit: DropLimit, wish: MergeWish
) -> None:
    """Refuse what cannot be had of these weights."""
    limit.check_task(checkpoint.config.task)
    wish.check_model(checkpoint.config)
    check_trained(checkpoint, plan, limit)
    check_patterns(checkpoint, plan)


def _prepare(
    checkpoint: Checkpoint,
    plan: Sequence[Item],
    photos: ExportPhotos,
    *,
    own: bool,
    places: Places,
    file_form: FileForm,
    wish: MergeWish,
    threads: int,
    seed: int,
    cache: CacheFolder | None,
    progress: Progress,
    options: LoadOptions,
) -> tuple[ExportContext, list[Item]]:
    """What all files share, and the plan with each target's own layers.

    `own`: the photos belong to these weights; others say nothing about their ranges.
    """
    form = deploy(checkpoint.model)
    fitted = [(target, target.fit(scheme, form), backend) for target, scheme, backend in plan]
    prepare, trained = None, trained_of(checkpoint)
    if trained is not None and any(s.quantized or s.packed for _, s, _ in fitted):
        progress.note("taken: the integers that were trained with these weights")
    if isinstance(trained, Conditioned):
        prepare = functools.partial(copy.copy, trained)
    elif any(scheme.quantized for _, scheme, _ in fitted):
        measured = photos.calibration if own or photos_needed(checkpoint, fitted) else None
        spec = checkpoint.preprocess
        given = form, spec, measured, cache, progress
        prepare = functools.partial(find_conditioned, *given, seed=seed)
    masks = masks_for(checkpoint.config, len(photos.checked), seed)
    for line in wish.remarks(fitted):
        progress.note(line)
    merging = wish.choose(form, photos.calibration, photos.checked, progress)
    model = checkpoint.model if merging is None else merged_form(form, merging.schedule)
    reference = outputs(model, torch.split(photos.checked, 1), masks).numpy()
    context = ExportContext(
        checkpoint=checkpoint,
        form=form,
        prepare=prepare,
        calibration=photos.calibration,
        photos=photos.checked,
        held_back=photos.held_back,
        own_photos=own,
        reference=reference,
        masks=masks,
        output=places.files,
        layout=places.layout,
        home=places.home,
        origin=places.origin,
        file_form=file_form,
        threads=threads,
        seed=seed,
        progress=progress,
        options=options,
        cached=cache is not None,
        merging=merging,
        trained=trained,
    )
    return context, fitted
