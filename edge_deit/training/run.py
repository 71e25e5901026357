"""From labelled photos to a trained checkpoint: what `finetune` runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from edge_deit.checkpoint.options import LoadOptions
from edge_deit.common.arguments import Threads, checked_arguments
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.lock import claimed
from edge_deit.common.progress import SILENT, Progress
from edge_deit.data.listing import Photo
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.quantization.trained import TrainedPrecision
from edge_deit.training.classes import (
    judging_photos,
    photos_of_classes,
    say_shared,
    training_photos,
)
from edge_deit.training.device import DeviceChoice, PrecisionChoice, choose_compute
from edge_deit.training.group import Group, group_here, joined
from edge_deit.training.keeper import ACCURACY, LAST, RESULT, STATE, Keeper
from edge_deit.training.kinds import Learning
from edge_deit.training.loading import decoders_watched
from edge_deit.training.log import Log
from edge_deit.training.page import PAGE
from edge_deit.training.quantize import begin_quantized, check_quantized
from edge_deit.training.recipe import Recipe
from edge_deit.training.records import METRICS
from edge_deit.training.result import Finetuned, finish
from edge_deit.training.start import Lesson, Start, choose_teacher, start_from
from edge_deit.training.state import RunKey, photo_list_hash
from edge_deit.training.teacher import Guide
from edge_deit.training.train import train

__all__ = ["Finetuned", "finetune_model"]


@checked_arguments
def finetune_model(
    data: Path,
    output: Path,
    *,
    val: Path | None = None,
    val_images: int = 0,
    test: Path | None = None,
    patience: int | None = None,
    weights: str = "bundled",
    model: str | None = None,
    options: LoadOptions | None = None,
    image_size: int | None = None,
    crop_ratio: float | None = None,
    recipe: Recipe | None = None,
    device: DeviceChoice = "auto",
    precision: PrecisionChoice = "auto",
    teacher: Path | None = None,
    teacher_weights: str | None = None,
    trust_teacher: bool = False,
    quantize: TrainedPrecision | None = None,
    resume: bool = False,
    workers: int = 1,
    threads: Threads | None = None,
    progress: Progress = SILENT,
) -> Finetuned:
    """Train a DeiT on the labelled photos in `data` and write `output`/model.safetensors.

    The classes are those of `data`; the folders of `val` and `test` are matched to them by name. After each
    epoch `val` is measured, and the result is the epoch with the best top-1; `patience` epochs without a
    better one end the training. `val_images` 0 means all. `test` is measured once, at the end. Without
    `val` the result is the last step. `weights` is what `load_model` takes, or "none" for random ones of
    the variant `model`; `options` say what the weights' files do not. `crop_ratio` is the evaluation's crop
    by short side, in (0, 1]. `device` auto is CUDA, else MPS, else the processor; `precision` auto is
    bfloat16 or float16 on CUDA and float32 elsewhere. `teacher` is a file, `teacher_weights` a DeiT
    checkpoint or another image classifier of Hugging Face's, by folder or hub name; TorchScript needs
    `trust_teacher`. `output`/state.pt lets `resume` go on.

    `quantize` goes on with the rounding of a precision simulated: the result carries the float model as it
    was and integers that an export takes as they are. The classes are the checkpoint's then, and the recipe
    should be `Recipe.named("finetune", ..., quantized=True)`.

    Started by torchrun, several processes train together, each with the recipe's `batch_size`; the first of
    them writes and speaks, and the others return no figures. All need the same `output`.

    Raises:
        EdgeDeitError: photos, weights or a teacher that cannot be used, said before the first step; a state
            of another run; a loss that is not finite; another process that has gone.
    """
    group, recipe = group_here(), recipe or Recipe.named("finetune", quantized=quantize is not None)
    if not group.leads:
        progress = SILENT
    recipe = replace(recipe, batch_size=recipe.batch_size * group.size)
    _check_numbers(val_images, workers, threads, crop_ratio)
    _check_validated(patience, val_images, val)
    if quantize is not None:
        precision = check_quantized(quantize, recipe, weights, precision, group.size)
    torch.manual_seed(recipe.seed)
    if threads is not None:
        torch.set_num_threads(threads)
    compute = choose_compute(device, precision, group.local_rank)
    found = weights, model, options or LoadOptions(), image_size, crop_ratio
    own = quantize is not None
    start, photos = _begin(found, data, output, recipe, progress, own_classes=own)
    names = start.labels
    validation = judging_photos(val, "validation", names, val_images, progress)
    testing = judging_photos(test, "test", names, 0, progress)
    say_shared(photos, validation, testing, progress)
    lesson = Lesson(teacher, teacher_weights, trust_teacher)
    guide = choose_teacher(recipe, start, lesson, names, compute, progress, quantized=own)
    sets = (photos, data), (validation, val)
    key = _key(start, *sets, guide.key if guide else "none", quantize or "none")
    with decoders_watched(), _taken(output, group), joined(group, compute.device):
        learning: Learning = start.model
        kind = None
        if quantize is not None:
            kind = begin_quantized(start, quantize, photos, recipe.seed, progress)
            learning = kind.learner
        keeper = Keeper(
            output, start.spec, names, validation, kind=kind,
            epochs=recipe.epochs, compute=compute, workers=workers, progress=progress,
        )  # fmt: skip
        log = _train(
            learning, start.spec, photos, recipe, key, guide, keeper, group, resume, patience
        )
        if group.leads:
            done = finish(learning, log, keeper, testing, recipe, len(photos))
        else:
            epoch = log.rows[-1].epoch
            done = Finetuned(output / RESULT, names, 0, None, epoch=epoch, epochs=epoch)
        group.told(0, compute.device)  # the first has written by then
    return done


def _begin(
    found: tuple[str, str | None, LoadOptions, int | None, float | None],
    data: Path,
    output: Path,
    recipe: Recipe,
    progress: Progress,
    *,
    own_classes: bool,
) -> tuple[Start, list[Photo]]:
    """The model that training begins with, with its classes, and the photos that it learns from.

    The classes are those of the photos, or with `own_classes` the checkpoint's.
    """
    if own_classes:
        start = start_from(*found, None, progress)
        return start, photos_of_classes(
            data, start.labels, progress, balanced=recipe.balanced, output=output
        )
    names, photos = training_photos(data, progress, balanced=recipe.balanced, output=output)
    return replace(start_from(*found, len(names), progress), labels=names), photos


def _key(
    start: Start,
    training: tuple[list[Photo], Path],
    validation: tuple[list[Photo], Path | None],
    teacher: str,
    quantize: str,
) -> RunKey:
    """What a resumed run has to repeat; photos come with the folder that their names count from."""
    judging, folder = validation
    return RunKey(
        labels=start.labels,
        photos=photo_list_hash(*training),
        image_size=start.spec.crop_size,
        start=start.sha256,
        teacher=teacher,
        preprocessing=start.spec.to_json(),
        validation=photo_list_hash(judging, folder) if folder else "none",
        quantize=quantize,
    )


def _check_numbers(
    val_images: int, workers: int, threads: int | None, crop_ratio: float | None
) -> None:
    if val_images < 0 or workers < 0:
        raise EdgeDeitError(
            f"--val-images is {val_images}, --workers {workers}; they must be 0 or more"
        )
    if threads is not None and threads < 1:
        raise EdgeDeitError(f"--threads is {threads}; it must be at least 1")
    if crop_ratio is not None and not 0 < crop_ratio <= 1:
        raise EdgeDeitError(f"--crop-ratio is {crop_ratio}; it must be in (0, 1]")


def _check_validated(patience: int | None, val_images: int, val: Path | None) -> None:
    if patience is not None and patience < 1:
        raise EdgeDeitError(f"--patience is {patience}; it must be 1 or more")
    if patience is not None and val is None:
        raise EdgeDeitError("--patience needs --val, the photos that say which epoch is better")
    if val_images and val is None:
        raise EdgeDeitError(f"--val-images {val_images} needs --val, the photos that it counts")


@contextmanager
def _taken(output: Path, group: Group) -> Iterator[None]:
    """The folder, for this training alone; the first process has it for all.

    Raises:
        EdgeDeitError: another training has it, it cannot be written, or a folder has a file's name there.
    """
    if not group.leads:
        yield
        return
    with claimed(output, "training"):
        for name in (RESULT, LAST, STATE, METRICS, ACCURACY, PAGE):
            if (output / name).is_dir():
                raise EdgeDeitError(
                    f"{output / name} is a folder, where a file is written; move it, or choose another "
                    "--output"
                )
        yield


def _say_start(keeper: Keeper, group: Group, resume: bool) -> None:
    """Where training computes, once everything was checked."""
    state = keeper.output / STATE
    if not resume and state.is_file():
        keeper.progress.note(
            f"{state} is of an earlier run, and replaced; --resume goes on from it"
        )
    together = f", {group.size} processes" if group.size > 1 else ""
    keeper.progress.note(f"training on {keeper.words()}{together}")


def _train(
    model: Learning,
    spec: PreprocessSpec,
    photos: list[Photo],
    recipe: Recipe,
    key: RunKey,
    guide: Guide | None,
    keeper: Keeper,
    group: Group,
    resume: bool,
    patience: int | None,
) -> Log:
    seen = Seen(len(photos), recipe)
    with keeper.progress.task("training", seen.total, unit="photos") as advance:
        log = train(
            model,
            photos,
            spec,
            recipe,
            key,
            teacher=guide,
            state_path=keeper.output / STATE,
            resume=resume,
            workers=keeper.workers,
            compute=keeper.compute,
            group=group,
            patience=patience,
            epochs=keeper,
            on_start=lambda: _say_start(keeper, group, resume),
            on_step=lambda step, steps, loss: advance(seen.since_last(step)),
        )
    keeper.events.close()
    if patience is not None and log.stale >= patience and log.last_step < seen.steps:
        keeper.progress.note(
            f"ended early, after epoch {log.rows[-1].epoch:g}: {log.stale} without a better one"
        )
    return log


class Seen:
    """Steps as photos: the last batch of an epoch may be smaller."""

    def __init__(self, photos: int, recipe: Recipe) -> None:
        self._photos, self._batch = photos, recipe.batch_size
        self._per_epoch = recipe.steps_per_epoch(photos)
        self.steps = recipe.steps(photos)
        self.total = self._until(self.steps)
        self._told = 0

    def _until(self, step: int) -> int:
        epochs, rest = divmod(step, self._per_epoch)
        return epochs * self._photos + rest * self._batch

    def since_last(self, step: int) -> int:
        """Photos up to this step that were not told yet."""
        before, self._told = self._told, self._until(step)
        return self._told - before
