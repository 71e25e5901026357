"""Adapt a DeiT to your own classes: `python -m edge_deit.finetune`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_deit.common.console import Bars, new_app, out, run
from edge_deit.common.progress import SILENT
from edge_deit.training.speaking import let_the_first_speak

if TYPE_CHECKING:
    from edge_deit.training.run import Finetuned

__all__ = ["finetune"]

app = new_app(__doc__)


def finetune(
    data: Annotated[
        Path, typer.Option(help="Training photos: one subfolder a class, or labels.csv.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            help="Folder for model.safetensors, the resume state, metrics.csv, training.html and, "
            "where the package tensorboard is installed, its events."
        ),
    ],
    val: Annotated[
        Path | None, typer.Option(help="Photos that are measured each epoch and choose the best.")
    ] = None,
    val_images: Annotated[int, typer.Option(min=0, help="At most so many of them; 0: all.")] = 0,
    test: Annotated[
        Path | None, typer.Option(help="Photos that choose nothing: measured once, at the end.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="End after so many epochs without a better one.")
    ] = None,
    weights: Annotated[
        str, typer.Option(help="Start: bundled, a file, a folder, hub:ORG/NAME, or none (random).")
    ] = "bundled",
    model: Annotated[
        str | None, typer.Option(help="Variant, e.g. deit_small; needed with --weights none.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Train at this size; positions are interpolated.")
    ] = None,
    ema: Annotated[
        bool, typer.Option("--ema", help="Start from the averages of a training checkpoint.")
    ] = False,
    heads: Annotated[
        int | None,
        typer.Option(min=1, help="Attention heads, where no file tells; default: width / 64."),
    ] = None,
    preprocessing: Annotated[
        str | None,
        typer.Option(
            help="Where no file tells: timm, deit, huggingface, or a preprocessor_config.json."
        ),
    ] = None,
    crop_ratio: Annotated[
        float | None, typer.Option(help="Evaluation crop / short side; default: the checkpoint's.")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help="Values of what is not given: finetune; scratch, distil: DeiT's own training, 300 epochs."
        ),
    ] = "finetune",
    distillation: Annotated[
        str | None,
        typer.Option(
            help="none; hard or soft, for a distillation head; classic, for one head; default: none, of "
            "distil hard."
        ),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Teacher: an ExportedProgram (.pt2), or TorchScript.")
    ] = None,
    trust_teacher: Annotated[
        bool,
        typer.Option("--trust-teacher", help="Run TorchScript, which can do whatever it likes."),
    ] = False,
    teacher_weights: Annotated[
        str | None,
        typer.Option(
            help="Teacher: a DeiT checkpoint, or a folder or hub:ORG/NAME of another image classifier."
        ),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(
            help="Go on with int8's or int4's rounding simulated; export takes the integers as they are."
        ),
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(
            help="Passes over the photos; may be a fraction; default: 3, of the others 300."
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Photos of a step and process; default: 64, of the others 256."),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Peak, after the warm-up; default: 5e-4, of the others 2.5e-4."),
    ] = None,
    layer_decay: Annotated[
        float | None,
        typer.Option(
            help="Factor of the learning rate from a block to the one before; default: 1."
        ),
    ] = None,
    weight_decay: Annotated[
        float, typer.Option(min=0, help="AdamW's, on matrices; not on norms, biases, tokens.")
    ] = 0.05,
    label_smoothing: Annotated[
        float, typer.Option(min=0, max=0.99, help="Share of a label that all classes get.")
    ] = 0.1,
    min_crop_area: Annotated[
        float | None,
        typer.Option(
            help="Smallest random crop, a share of the photo's area; default: 0.7, of the others 0.08."
        ),
    ] = None,
    rand_augment: Annotated[
        float | None,
        typer.Option(help="Strength of two random operations, to 10; default: 0, of the others 9."),
    ] = None,
    random_erasing: Annotated[
        float | None,
        typer.Option(help="Share of photos with a hole of noise; default: 0, of the others 0.25."),
    ] = None,
    mixup: Annotated[
        float | None,
        typer.Option(
            help="Photos and labels are mixed: Beta's alpha; default: 0, of the others 0.8."
        ),
    ] = None,
    cutmix: Annotated[
        float | None,
        typer.Option(
            help="Parts of photos change places: Beta's alpha; default: 0, of the others 1."
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How often a photo comes in an epoch, of fewer photos; default: 1, of the others 3.",
        ),
    ] = None,
    stochastic_depth: Annotated[
        float | None,
        typer.Option(
            help="How often the last block's branches are left out; default: 0, of the others 0.1."
        ),
    ] = None,
    average: Annotated[
        float | None,
        typer.Option(
            help="Keep a mean of the weights, of this decay; default: 0, of the others 0.99996."
        ),
    ] = None,
    flip: Annotated[bool, typer.Option(help="Mirror half of the photos.")] = True,
    balanced: Annotated[
        bool,
        typer.Option("--balanced", help="Draw all classes equally often, however many photos."),
    ] = False,
    patch_dropout: Annotated[
        float,
        typer.Option(min=0, help="Share of patches left out of a step: 0.75 is about 4x faster."),
    ] = 0.0,
    device: Annotated[
        str, typer.Option(help="auto (CUDA, else MPS, else CPU), cpu, cuda or mps.")
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            help="auto, float32, bfloat16 or float16 (CUDA). auto: bfloat16 or float16 on CUDA, else "
            "float32."
        ),
    ] = "auto",
    seed: Annotated[
        int, typer.Option(min=0, help="Of the order, the crops and the new heads.")
    ] = 0,
    resume: Annotated[bool, typer.Option(help="Go on from OUTPUT's state.")] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode photos.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads that compute; default: PyTorch's.")
    ] = None,
) -> None:
    """Train a DeiT on labelled photos, starting from any checkpoint, with an optional teacher.

    Example: python -m edge_deit.finetune --data photos/train --val photos/val --output runs/mine

    On several GPUs: torchrun --nproc-per-node N -m edge_deit.finetune ...

    The classes are those of the data; a checkpoint with others gets new heads. The result,
    OUTPUT/model.safetensors, holds weights (float16), shape, labels and preprocessing, and is what
    `export --weights` takes.
    """
    from edge_deit.checkpoint.options import LoadOptions
    from edge_deit.training.group import group_here
    from edge_deit.training.recipe import Recipe
    from edge_deit.training.run import finetune_model

    given = {
        "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate,
        "layer_decay": layer_decay, "weight_decay": weight_decay, "label_smoothing": label_smoothing,
        "min_crop_area": min_crop_area, "rand_augment": rand_augment,
        "random_erasing": random_erasing, "mixup": mixup, "cutmix": cutmix, "repeats": repeats,
        "stochastic_depth": stochastic_depth, "average": average, "flip": flip,
        "balanced": balanced, "patch_dropout": patch_dropout, "distillation": distillation,
        "seed": seed,
    }  # fmt: skip
    with Bars() if group_here().leads else nullcontext(SILENT) as bars:
        done = finetune_model(
            data, output, val=val, val_images=val_images, test=test, patience=patience,
            weights=weights, model=model,
            options=LoadOptions(ema=ema, heads=heads, preprocessing=preprocessing),
            image_size=image_size, crop_ratio=crop_ratio,
            recipe=Recipe.named(recipe, given, quantized=quantize is not None),
            device=device, precision=precision,  # type: ignore[arg-type] # other names are refused
            teacher=teacher, teacher_weights=teacher_weights, trust_teacher=trust_teacher,
            quantize=quantize,  # type: ignore[arg-type] # other names are refused
            resume=resume, workers=workers, threads=threads, progress=bars,
        )  # fmt: skip
    if group_here().leads:
        _print(done)


def _print(done: Finetuned) -> None:
    which = "" if done.top1 is None else f", epoch {done.epoch:g} of {done.epochs:g}"
    size = f"{done.path.stat().st_size / 1e6:.1f} MB, {len(done.labels)} classes"
    out().print(f"wrote {done.path} ({size}{which})")
    if done.top1 is not None:
        out().print(
            f"top-1 {100 * done.top1:.2f} % on {done.images} validation photos, which chose the epoch: "
            "a little flattering"
        )
    if done.test_top1 is not None:
        out().print(f"top-1 {100 * done.test_top1:.2f} % on {done.test_images} test photos")
    elif done.top1 is not None:
        out().print("photos that chose nothing would judge it: --test FOLDER, measured once")
    if done.page is not None:
        out().print(f"how it went: {done.page}")


app.command()(finetune)

if __name__ == "__main__":
    run(app, "python -m edge_deit.finetune", before_error=let_the_first_speak)
