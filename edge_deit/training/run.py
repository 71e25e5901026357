"""From labelled photos to a trained checkpoint: what `finetune` runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from edge_deit.checkpoint.load import load_model
from edge_deit.common.console import out, progress
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.photos import Photo
from edge_deit.data.preprocess import PreprocessSpec, default_spec
from edge_deit.model.config import variant
from edge_deit.model.deit import DeiT
from edge_deit.training.recipe import Distillation, Teacher
from edge_deit.training.train import accuracy, load_teacher


def _student(
    weights: str, model: str | None, image_size: int | None, crop_ratio: float | None, classes: int
) -> tuple[DeiT, PreprocessSpec]:
    if crop_ratio is not None and not 0 < crop_ratio <= 1:
        raise EdgeDeitError(f"--crop-ratio is {crop_ratio}; it must be in (0, 1]")
    if weights != "none":
        start = load_model(
            weights, model, image_size=image_size, num_classes=classes, allow_new_head=True
        )
        return start.model, _cropped(start.preprocess, crop_ratio)
    if model is None:
        raise EdgeDeitError("--weights none needs --model, e.g. --model deit_tiny_distilled")
    config = replace(variant(model), num_classes=classes)
    if image_size:
        config = replace(config, image_size=image_size)
    return DeiT(config), default_spec(config.image_size, crop_ratio or 0.9)


def _cropped(spec: PreprocessSpec, crop_ratio: float | None) -> PreprocessSpec:
    if crop_ratio is None:
        return spec
    return replace(spec, resize_size=round(spec.crop_size / crop_ratio))


def _distillation(name: str, student: DeiT) -> Distillation:
    if name not in ("none", "soft", "hard"):
        raise EdgeDeitError(f"--distillation {name!r}; choose one of: none, soft, hard")
    if name != "none" and not student.config.distillation_head:
        raise EdgeDeitError(
            f"--distillation {name} needs a distilled model, e.g. --model deit_tiny_distilled"
        )
    return name  # type: ignore[return-value]


def _teacher(distillation: Distillation, path: Path | None, weights: str | None) -> Teacher | None:
    if distillation == "none":
        if path or weights:
            raise EdgeDeitError("a teacher was named; say --distillation soft or hard too")
        return None
    if path and weights:
        raise EdgeDeitError("--teacher and --teacher-weights exclude each other")
    if path:
        return load_teacher(path)
    if weights:
        guide: Teacher = load_model(weights).model
        return guide
    raise EdgeDeitError(f"--distillation {distillation} needs --teacher or --teacher-weights")


def _report(model: DeiT, photos: list[Photo], spec: PreprocessSpec, output: Path) -> None:
    with progress() as bar:
        task = bar.add_task("accuracy", total=len(photos))
        top1 = accuracy(model, photos, spec, lambda count: bar.advance(task, count))
    figures = {"images": len(photos), "top1": round(top1, 4)}
    (output / "accuracy.json").write_text(json.dumps(figures) + "\n", encoding="utf-8")
    out().print(f"top-1 {100 * top1:.2f} % on {len(photos)} photos")
