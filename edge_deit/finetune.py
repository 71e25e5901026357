"""Adapt a DeiT to your own classes: `python -m edge_deit.finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.console import new_app, out, progress, run
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.labels import match_labels, training_classes
from edge_deit.data.photos import Photo, list_photos, pick_evenly
from edge_deit.training.recipe import Recipe
from edge_deit.training.run import _distillation, _report, _student, _teacher
from edge_deit.training.train import train

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
    listing = list_photos(data, use="train")
    names = training_classes(listing)
    photos = list(match_labels(listing, names).photos)
    validation: list[Photo] = []
    for line in listing.remarks():
        out().print(line, markup=False, highlight=False)
    if val is not None:
        seen = list_photos(val, use="validation")
        if not seen.classes:
            raise EdgeDeitError(f"{val} has no labels; use one subfolder a class, or a labels.csv")
        validation = list(match_labels(seen, names).photos)
        for line in seen.remarks():
            out().print(line, markup=False, highlight=False)
        present = {photo.label for photo in validation}
        if absent := [name for index, name in enumerate(names) if index not in present]:
            out().print(f"{val} has no photo of {', '.join(absent)}", markup=False, highlight=False)
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
        chosen = pick_evenly(validation, val_images or len(validation))
        _report(student, chosen, spec, output)


app.command()(finetune)

if __name__ == "__main__":
    run(app, "python -m edge_deit.finetune")
