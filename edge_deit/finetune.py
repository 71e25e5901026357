"""Adapt a DeiT to your own classes: `python -m edge_deit.finetune`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from edge_deit._console import new_app, out, progress, run
from edge_deit.checkpoint import load_checkpoint, save_checkpoint
from edge_deit.config import variant
from edge_deit.dataset import Photo, class_names, list_photos, spread
from edge_deit.errors import EdgeDeitError
from edge_deit.model import DeiT
from edge_deit.preprocess import PreprocessSpec, default_spec
from edge_deit.recipe import Distillation, Recipe, Teacher
from edge_deit.train import accuracy, load_teacher, train

__all__ = ["finetune"]

app = new_app(__doc__)


def finetune(
    data: Annotated[
        Path, typer.Option(help="Training photos: one subfolder a class, or labels.csv.")
    ],
    output: Annotated[
        Path, typer.Option(help="Folder for model.safetensors and the resume state.")
    ],
    val: Annotated[Path | None, typer.Option(help="Photos for the accuracy at the end.")] = None,
    val_images: Annotated[int, typer.Option(help="At most so many of them; 0: all.")] = 0,
    weights: Annotated[
        str, typer.Option(help="Start: bundled, a file, a folder, hub:ORG/NAME, or none (random).")
    ] = "bundled",
    model: Annotated[
        str | None, typer.Option(help="Variant, e.g. deit_small; needed with --weights none.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Train at this size; positions are interpolated.")
    ] = None,
    crop_ratio: Annotated[
        float | None, typer.Option(help="Evaluation crop / short side; default: the checkpoint's.")
    ] = None,
    distillation: Annotated[str, typer.Option(help="none, soft or hard.")] = "none",
    teacher: Annotated[
        Path | None, typer.Option(help="Teacher: ExportedProgram (.pt2) or TorchScript file.")
    ] = None,
    teacher_weights: Annotated[
        str | None, typer.Option(help="Teacher: a DeiT checkpoint, named as --weights is.")
    ] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the photos; may be a fraction.")] = 3.0,
    batch_size: Annotated[int, typer.Option()] = 64,
    learning_rate: Annotated[float, typer.Option(help="Peak, after the warm-up.")] = 5e-4,
    weight_decay: Annotated[float, typer.Option()] = 0.05,
    label_smoothing: Annotated[float, typer.Option()] = 0.1,
    min_crop_area: Annotated[
        float, typer.Option(help="Smallest random crop, as a share of the photo's area.")
    ] = 0.7,
    flip: Annotated[bool, typer.Option(help="Mirror half of the photos.")] = True,
    patch_dropout: Annotated[
        float, typer.Option(help="Share of patches left out of a step: 0.75 is about 4x faster.")
    ] = 0.0,
    seed: Annotated[int, typer.Option()] = 0,
    resume: Annotated[bool, typer.Option(help="Go on from OUTPUT's state.")] = False,
    workers: Annotated[int, typer.Option(help="Processes that decode photos.")] = 1,
    threads: Annotated[int, typer.Option(help="Threads that compute.")] = torch.get_num_threads(),
) -> None:
    """Train a DeiT on labelled photos, starting from any checkpoint, with an optional teacher.

    The classes are those of the data; a checkpoint with others gets new heads. The result,
    OUTPUT/model.safetensors, holds weights (float16), shape, labels and preprocessing, and is what
    `export --weights` takes.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    photos = list_photos(data)
    validation = list_photos(val) if val else []
    names = _labels(data, photos)
    student, spec = _student(weights, model, image_size, crop_ratio, len(names))
    recipe = Recipe(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        distillation=_distillation(distillation, student),
        min_crop_area=min_crop_area,
        flip=flip,
        patch_dropout=patch_dropout,
        seed=seed,
    )
    guide = _teacher(recipe.distillation, teacher, teacher_weights)
    output.mkdir(parents=True, exist_ok=True)
    with progress() as bar:
        task = bar.add_task("training", total=None)

        def on_step(step: int, steps: int, loss: float) -> None:
            bar.update(task, completed=step, total=steps, description=f"training loss {loss:.3f}")

        train(
            student,
            photos,
            spec,
            recipe,
            teacher=guide,
            state_path=output / "state.pt",
            resume=resume,
            workers=workers,
            on_step=on_step,
        )
    result = output / "model.safetensors"
    save_checkpoint(result, student, spec, names, half=True)
    out().print(f"wrote {result} ({result.stat().st_size / 1e6:.1f} MB)")
    if validation:
        _report(student, spread(validation, val_images or len(validation)), spec, output)


def _labels(data: Path, photos: list[Photo]) -> tuple[str, ...]:
    names = [] if (data / "labels.csv").is_file() else class_names(data)
    highest = max((photo.label for photo in photos if photo.label is not None), default=-1)
    if highest < 0:
        raise EdgeDeitError(f"{data} has no labels; use one subfolder a class, or a labels.csv")
    return tuple(names) if names else tuple(str(index) for index in range(highest + 1))


def _student(
    weights: str, model: str | None, image_size: int | None, crop_ratio: float | None, classes: int
) -> tuple[DeiT, PreprocessSpec]:
    if crop_ratio is not None and not 0 < crop_ratio <= 1:
        raise EdgeDeitError(f"--crop-ratio is {crop_ratio}; it must be in (0, 1]")
    if weights != "none":
        start = load_checkpoint(
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
        guide: Teacher = load_checkpoint(weights).model
        return guide
    raise EdgeDeitError(f"--distillation {distillation} needs --teacher or --teacher-weights")


def _report(model: DeiT, photos: list[Photo], spec: PreprocessSpec, output: Path) -> None:
    with progress() as bar:
        task = bar.add_task("accuracy", total=len(photos))
        top1 = accuracy(model, photos, spec, lambda count: bar.advance(task, count))
    figures = {"images": len(photos), "top1": round(top1, 4)}
    (output / "accuracy.json").write_text(json.dumps(figures) + "\n", encoding="utf-8")
    out().print(f"top-1 {100 * top1:.2f} % on {len(photos)} photos")


app.command()(finetune)

if __name__ == "__main__":
    run(app, "python -m edge_deit.finetune")
