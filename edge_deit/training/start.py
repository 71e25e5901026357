"""What training begins with: weights or random ones, and the teacher that it listens to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from edge_deit.checkpoint.load import MOST_PIXELS
from edge_deit.checkpoint.options import LoadOptions
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Progress
from edge_deit.data.preprocess import PreprocessSpec, default_spec
from edge_deit.model.config import variant
from edge_deit.model.deit import DeiT
from edge_deit.training.device import Compute
from edge_deit.training.recipe import Recipe
from edge_deit.training.teacher import Guide, checkpoint_teacher, file_teacher

__all__ = ["Lesson", "Start", "choose_teacher", "start_from"]


@dataclass(frozen=True)
class Start:
    """What training begins with.

    `sha256` is that of the weights, and "averaged" behind it where those were taken; "none": random ones.
    `labels` are the checkpoint's classes.
    """

    model: DeiT
    spec: PreprocessSpec
    sha256: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lesson:
    """Which teacher: a file, or weights by path or name; TorchScript has to be `trusted`."""

    path: Path | None = None
    weights: str | None = None
    trusted: bool = False


def start_from(
    weights: str,
    model: str | None,
    options: LoadOptions,
    image_size: int | None,
    crop_ratio: float | None,
    classes: int | None,
    progress: Progress,
) -> Start:
    """A checkpoint's model with a head for so many `classes`, or random weights of the variant `model`.

    None keeps the checkpoint's own classes, which it has to have.

    Raises:
        EdgeDeitError: weights that cannot be loaded, options that random ones have no use for, or a crop
            that no checkpoint may have.
    """
    if weights != "none":
        found = options.load(
            weights,
            model,
            image_size=image_size,
            num_classes=classes,
            allow_new_head=classes is not None,
        )
        for line in found.assumptions:
            progress.note(line)
        if found.trained is not None:
            progress.note(
                "taken: the float model alone, not the integers that were trained with it"
            )
        taken = f"{found.sha256}{' averaged' if options.ema else ''}"
        if not found.config.num_classes:
            raise EdgeDeitError(f"{weights} has no classifier; fine-tune it first")
        return Start(found.model, _cropped(found.preprocess, crop_ratio), taken, found.labels)
    if options != LoadOptions():
        raise EdgeDeitError(
            f"--weights none reads no checkpoint; leave out {', '.join(options.to_json())}"
        )
    if model is None:
        raise EdgeDeitError("--weights none needs --model, e.g. --model deit_tiny_distilled")
    config = replace(variant(model), num_classes=classes or 0)
    if image_size:
        config = replace(config, image_size=image_size)
    spec = _checked(default_spec(config.image_size, crop_ratio or 0.9))
    return Start(DeiT(config), spec, "none")


def _cropped(spec: PreprocessSpec, crop_ratio: float | None) -> PreprocessSpec:
    if crop_ratio is None:
        return spec
    return _checked(replace(spec, resize_size=round(spec.crop_size / crop_ratio)))


def _checked(spec: PreprocessSpec) -> PreprocessSpec:
    """The preprocessing, where the result's file may say so."""
    if spec.resize_size > MOST_PIXELS:
        raise EdgeDeitError(
            f"--crop-ratio scales photos to {spec.resize_size} pixels a side, at most {MOST_PIXELS} are "
            "possible; give a larger one"
        )
    return spec


def choose_teacher(
    recipe: Recipe,
    start: Start,
    lesson: Lesson,
    classes: Sequence[str],
    compute: Compute,
    progress: Progress,
    *,
    quantized: bool = False,
) -> Guide | None:
    """The teacher on the device that trains, tried on a batch; None without distillation.

    A `quantized` student has one head, and the float model teaches it unless another teacher is named.

    Raises:
        EdgeDeitError: a teacher that is missing, superfluous, or that the student cannot learn from.
    """
    kind, config = recipe.distillation, start.model.config
    path, weights = lesson.path, lesson.weights
    if kind == "none":
        if path or weights:
            raise EdgeDeitError("a teacher was named; say --distillation hard, soft or classic too")
        return None
    _check_heads(kind, two=config.distillation_head and not quantized)
    if path and weights:
        raise EdgeDeitError("--teacher and --teacher-weights exclude each other")
    if path:
        guide = file_teacher(path, trusted=lesson.trusted, progress=progress, device=compute.device)
    elif weights:
        guide = checkpoint_teacher(weights, start.spec, classes, progress, device=compute.device)
    elif quantized:
        guide = Guide("of the float model", compute.place(start.model), progress, key=start.sha256)
    else:
        raise EdgeDeitError(f"--distillation {kind} needs --teacher or --teacher-weights")
    side = config.image_size
    with torch.no_grad(), compute.autocast():
        guide.check(compute.pixels(torch.zeros(2, 3, side, side)), config.num_classes)
    return guide


def _check_heads(kind: str, *, two: bool) -> None:
    """Refuse a way to distil that the student has not the heads for."""
    if kind == "classic" and two:
        raise EdgeDeitError(
            "--distillation classic is for a model with one head, this one has a distillation head, which "
            "learns from the teacher alone: say --distillation hard or soft"
        )
    if kind != "classic" and not two:
        raise EdgeDeitError(
            f"--distillation {kind} needs a model with a distillation head, e.g. --model "
            "deit_tiny_distilled; for this one, which has one head, say --distillation classic"
        )
