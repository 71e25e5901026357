"""From labelled photos to a trained checkpoint: what `finetune` runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch

from edge_deit.checkpoint.options import LoadOptions
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.arguments import Threads, checked_arguments
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path, write_text
from edge_deit.common.progress import SILENT, Progress
from edge_deit.data.labels import match_labels, training_classes
from edge_deit.data.listing import Photo, pick_evenly
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import PreprocessSpec, default_spec
from edge_deit.model.config import variant
from edge_deit.model.deit import DeiT
from edge_deit.training.recipe import Recipe
from edge_deit.training.state import RunKey, photo_list_hash
from edge_deit.training.teacher import Guide, checkpoint_teacher, file_teacher
from edge_deit.training.train import accuracy, train

__all__ = ["Finetuned", "finetune_model"]

_SETS: Final = frozenset({"train", "training", "val", "valid", "validation", "test", "eval"})
"""Folder names that are sets of photos rather than classes."""


@dataclass(frozen=True)
class Finetuned:
    """The checkpoint that was written, its classes, and its top-1 share on `images` validation photos.

    `top1` lies between 0 and 1; it is None where no validation photos were given.
    """

    path: Path
    labels: tuple[str, ...]
    images: int
    top1: float | None


@dataclass(frozen=True)
class _Start:
    """What training begins with.

    `sha256` is that of the weights, and "averaged" behind it where those were taken; "none": random ones.
    """

    model: DeiT
    spec: PreprocessSpec
    sha256: str


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
    say what the weights' files do not. `crop_ratio` is the evaluation's crop / short side, in (0, 1].
    `teacher` is a file, `teacher_weights` a DeiT checkpoint; TorchScript needs `trust_teacher`.
    `output`/state.pt lets `resume` go on.

    Raises:
        EdgeDeitError: photos, weights or a teacher that cannot be used, said before the first step; a state
            of another run; a loss that is not finite.
    """
    recipe = recipe or Recipe()
    _check_numbers(val_images, workers, threads, crop_ratio)
    torch.manual_seed(recipe.seed)
    if threads is not None:
        torch.set_num_threads(threads)
    names, photos = _training_photos(data, progress)
    validation = _validation_photos(val, names, val_images, progress)
    start = _start(
        weights, model, options or LoadOptions(), image_size, crop_ratio, len(names), progress
    )
    guide = _teacher(recipe, start, teacher, teacher_weights, trust_teacher, progress)
    key = RunKey(
        labels=names,
        photos=photo_list_hash(photos, data),
        image_size=start.spec.crop_size,
        start=start.sha256,
        teacher=_teacher_key(teacher, teacher_weights),
        preprocessing=start.spec.to_json(),
    )
    output.mkdir(parents=True, exist_ok=True)
    _train(start, photos, recipe, key, guide, output, resume, workers, progress)
    result = output / "model.safetensors"
    save_checkpoint(result, start.model, start.spec, names, half=True)
    top1 = None
    if validation:
        top1 = _measure(start, validation, output, progress)
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


def _training_photos(data: Path, progress: Progress) -> tuple[tuple[str, ...], list[Photo]]:
    """The classes, and the photos with their numbers; what is odd about them is said."""
    listing = list_photos(data, use="train")
    names = training_classes(listing)
    remedy = "train on photos whose classes have these names"
    photos = list(match_labels(listing, names, remedy=remedy).photos)
    for line in listing.remarks():
        progress.note(line)
    if len(names) < 2:
        raise EdgeDeitError(
            f"{data} has one class only, {names[0]!r}; there is nothing to tell apart, give at least two"
        )
    if {name.casefold() for name in names} <= _SETS:
        raise EdgeDeitError(
            f"{data} has the folders {', '.join(names)}, which are sets of photos, not classes; name the "
            f"one with the training photos, --data {data / names[0]}"
        )
    counts = Counter(photo.label for photo in photos)
    if few := [name for index, name in enumerate(names) if counts[index] == 1]:
        progress.note(f"classes of one photo, which teach little: {', '.join(few[:5])}")
    return names, photos


def _validation_photos(
    folder: Path | None, names: Sequence[str], count: int, progress: Progress
) -> list[Photo]:
    if folder is None:
        return []
    listing = list_photos(folder, use="validation")
    if not listing.classes:
        raise EdgeDeitError(f"{folder} has no labels; use one subfolder a class, or a labels.csv")
    remedy = "train on photos whose classes have these names"
    photos = list(match_labels(listing, names, remedy=remedy).photos)
    for line in listing.remarks():
        progress.note(line)
    present = {photo.label for photo in photos}
    if absent := [name for index, name in enumerate(names) if index not in present]:
        progress.note(f"{folder} has no photo of {', '.join(absent[:5])}")
    return pick_evenly(photos, count or len(photos))


def _start(
    weights: str,
    model: str | None,
    options: LoadOptions,
    image_size: int | None,
    crop_ratio: float | None,
    classes: int,
    progress: Progress,
) -> _Start:
    if weights != "none":
        found = options.load(
            weights, model, image_size=image_size, num_classes=classes, allow_new_head=True
        )
        for line in found.assumptions:
            progress.note(line)
        taken = f"{found.sha256}{' averaged' if options.ema else ''}"
        return _Start(found.model, _cropped(found.preprocess, crop_ratio), taken)
    if options != LoadOptions():
        raise EdgeDeitError(
            f"--weights none reads no checkpoint; leave out {', '.join(options.to_json())}"
        )
    if model is None:
        raise EdgeDeitError("--weights none needs --model, e.g. --model deit_tiny_distilled")
    config = replace(variant(model), num_classes=classes)
    if image_size:
        config = replace(config, image_size=image_size)
    return _Start(DeiT(config), default_spec(config.image_size, crop_ratio or 0.9), "none")


def _cropped(spec: PreprocessSpec, crop_ratio: float | None) -> PreprocessSpec:
    if crop_ratio is None:
        return spec
    return replace(spec, resize_size=round(spec.crop_size / crop_ratio))


def _teacher(
    recipe: Recipe,
    start: _Start,
    path: Path | None,
    weights: str | None,
    trusted: bool,
    progress: Progress,
) -> Guide | None:
    kind, config = recipe.distillation, start.model.config
    if kind == "none":
        if path or weights:
            raise EdgeDeitError("a teacher was named; say --distillation soft or hard too")
        return None
    if not config.distillation_head:
        raise EdgeDeitError(
            f"--distillation {kind} needs a distilled model, e.g. --model deit_tiny_distilled"
        )
    if path and weights:
        raise EdgeDeitError("--teacher and --teacher-weights exclude each other")
    if path:
        guide = file_teacher(path, trusted=trusted, progress=progress)
    elif weights:
        guide = checkpoint_teacher(weights, start.spec, progress)
    else:
        raise EdgeDeitError(f"--distillation {kind} needs --teacher or --teacher-weights")
    side = config.image_size
    with torch.no_grad():
        guide.check(torch.zeros(2, 3, side, side), config.num_classes)
    return guide


def _teacher_key(path: Path | None, weights: str | None) -> str:
    return hash_path(path) if path else weights or "none"


def _train(
    start: _Start,
    photos: list[Photo],
    recipe: Recipe,
    key: RunKey,
    guide: Guide | None,
    output: Path,
    resume: bool,
    workers: int,
    progress: Progress,
) -> None:
    told = 0
    steps = recipe.steps(len(photos))
    with progress.task("training", steps) as advance:

        def on_step(step: int, total: int, loss: float) -> None:
            nonlocal told
            advance(step - told)
            told = step

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
            on_step=on_step,
        )


def _measure(start: _Start, photos: list[Photo], output: Path, progress: Progress) -> float:
    with progress.task("accuracy", len(photos)) as advance:
        top1 = accuracy(start.model, photos, start.spec, advance)
    figures = {"images": len(photos), "top1": round(top1, 4)}
    write_text(output / "accuracy.json", json.dumps(figures) + "\n")
    return top1
