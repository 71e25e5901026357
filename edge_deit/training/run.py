"""From labelled photos to a trained checkpoint: what `finetune` runs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from edge_deit.checkpoint.options import LoadOptions
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.arguments import Threads, checked_arguments
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import write_text
from edge_deit.common.progress import SILENT, Progress
from edge_deit.data.listing import Photo
from edge_deit.training.classes import training_photos, validation_photos
from edge_deit.training.device import Compute, DeviceChoice, PrecisionChoice, choose_compute
from edge_deit.training.recipe import Recipe
from edge_deit.training.start import Lesson, Start, choose_teacher, start_from
from edge_deit.training.state import RunKey, photo_list_hash
from edge_deit.training.teacher import Guide
from edge_deit.training.train import accuracy, train

__all__ = ["Finetuned", "finetune_model"]


@dataclass(frozen=True)
class Finetuned:
    """The checkpoint that was written, its classes, and its top-1 share on `images` validation photos.

    `top1` lies between 0 and 1; it is None where no validation photos were given.
    """

    path: Path
    labels: tuple[str, ...]
    images: int
    top1: float | None


@checked_arguments
def finetune_model(
    data: Path,
    output: Path,
    *,
    val: Path | None = None,
    val_images: int = 0,
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
    resume: bool = False,
    workers: int = 1,
    threads: Threads | None = None,
    progress: Progress = SILENT,
) -> Finetuned:
    """Train a DeiT on the labelled photos in `data` and write `output`/model.safetensors.

    The classes are those of `data`; the folders of `val` are matched to them by name. `val_images` 0 means
    all. `weights` is what `load_model` takes, or "none" for random ones of the variant `model`; `options`
    say what the weights' files do not. `device` auto is CUDA, else MPS, else the processor; `precision`
    auto is bfloat16 or float16 on CUDA and float32 elsewhere. `crop_ratio` is the evaluation's crop / short
    side, in (0, 1]. `teacher` is a file, `teacher_weights` a DeiT checkpoint; TorchScript needs
    `trust_teacher`. `output`/state.pt lets `resume` go on.

    Raises:
        EdgeDeitError: photos, weights or a teacher that cannot be used, said before the first step; a state
            of another run; a loss that is not finite.
    """
    recipe = recipe or Recipe()
    _check_numbers(val_images, workers, threads, crop_ratio)
    torch.manual_seed(recipe.seed)
    if threads is not None:
        torch.set_num_threads(threads)
    compute = choose_compute(device, precision)
    progress.note(f"training on {compute.words()}")
    names, photos = training_photos(data, progress)
    validation = validation_photos(val, names, val_images, progress)
    start = start_from(
        weights, model, options or LoadOptions(), image_size, crop_ratio, len(names), progress
    )
    lesson = Lesson(teacher, teacher_weights, trust_teacher)
    guide = choose_teacher(recipe, start, lesson, compute, progress)
    key = RunKey(
        labels=names,
        photos=photo_list_hash(photos, data),
        image_size=start.spec.crop_size,
        start=start.sha256,
        teacher=lesson.key,
        preprocessing=start.spec.to_json(),
    )
    output.mkdir(parents=True, exist_ok=True)
    _train(start, photos, recipe, key, guide, compute, output, resume, workers, progress)
    result = output / "model.safetensors"
    save_checkpoint(result, start.model, start.spec, names, half=True)
    top1 = None
    if validation:
        top1 = _measure(start, validation, compute, output, progress)
    return Finetuned(result, names, len(validation), top1)


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


def _train(
    start: Start,
    photos: list[Photo],
    recipe: Recipe,
    key: RunKey,
    guide: Guide | None,
    compute: Compute,
    output: Path,
    resume: bool,
    workers: int,
    progress: Progress,
) -> None:
    seen = Seen(len(photos), recipe)
    with progress.task("training", seen.total, unit="photos") as advance:

        def on_step(step: int, total: int, loss: float) -> None:
            advance(seen.since_last(step))

        train(
            start.model,
            photos,
            start.spec,
            recipe,
            key,
            teacher=guide,
            state_path=output / "state.pt",
            resume=resume,
            workers=workers,
            compute=compute,
            on_step=on_step,
        )


class Seen:
    """Steps as photos: the last batch of an epoch may be smaller."""

    def __init__(self, photos: int, recipe: Recipe) -> None:
        self._photos, self._batch = photos, recipe.batch_size
        self._per_epoch = math.ceil(photos / recipe.batch_size)
        self.total = self._until(recipe.steps(photos))
        self._told = 0

    def _until(self, step: int) -> int:
        epochs, rest = divmod(step, self._per_epoch)
        return epochs * self._photos + rest * self._batch

    def since_last(self, step: int) -> int:
        """Photos up to this step that were not told yet."""
        before, self._told = self._told, self._until(step)
        return self._told - before


def _measure(
    start: Start, photos: list[Photo], compute: Compute, output: Path, progress: Progress
) -> float:
    with progress.task("accuracy", len(photos)) as advance:
        top1 = accuracy(start.model, photos, start.spec, advance, compute=compute)
    figures = {"images": len(photos), "top1": round(top1, 4)}
    write_text(output / "accuracy.json", json.dumps(figures) + "\n")
    return top1
