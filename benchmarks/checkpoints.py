#!/usr/bin/env python3
"""int8 of other checkpoints than the one that the methods were made on.

    EDGE_DEIT_REAL=FOLDER python benchmarks/checkpoints.py --output DIR [--only small] [--target onnx]

* small: a DeiT-small whose channels, heads and hidden units are those of the real DeiT-tiny twice, every
  weight that reads them split at random, so that its answers are the tiny one's and its weights are not.
* distilled: the tiny one with a distillation token and a second head, near its class token and its head.
* 384: the tiny one at 384 pixels, positions interpolated.
* ten classes: the bundled model, 30 calibration photos.

Ranges come from the split `calibration`, figures from photos of `validation`; of the bundled model's photos
as well. Files that lie in DIR already are taken as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import torch
import typer
from torch import Tensor

from edge_deit.assets import validation_folder
from edge_deit.checkpoint.load import Checkpoint, load_model
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.console import new_app, progress, run
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.quiet import quiet
from edge_deit.conversion.run import export_model
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import load_pixels
from edge_deit.exporters import Target
from edge_deit.exporters import target as find_target
from edge_deit.exporters.target import run_each
from edge_deit.metrics.outputs import closeness
from edge_deit.model.deit import DeiT
from harness.real import real_folder
from tables.grid import Grid, show

__all__ = ["checkpoints", "widened", "with_second_head"]

app = new_app(__doc__)

_TARGETS: Final = ("executorch", "coreml", "tflite", "onnx")
_LEAST_AGREEMENT: Final = 97.0
_LEAST_DB: Final = 20.0


@dataclass(frozen=True)
class Case:
    """A checkpoint, where its photos lie, and how many of them are for ranges."""

    make: Callable[[Checkpoint], DeiT] | None
    calibration_images: int
    image_size: int | None = None


CASES: Final = {
    "small": Case(lambda tiny: widened(tiny.model), 100),
    "distilled": Case(lambda tiny: with_second_head(tiny.model), 100),
    "384": Case(lambda tiny: tiny.model, 100, 384),
    "ten classes": Case(None, 30),
}


@app.command()
def checkpoints(
    output: Annotated[Path, typer.Option(help="Folder for checkpoints and files.")],
    only: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(CASES)}; may be repeated.")
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(_TARGETS)}; may be repeated.")
    ] = None,
    images: Annotated[int, typer.Option(help="At most so many photos judge.")] = 300,
) -> None:
    """Measure same answers, SNR and size of every target's int8 file."""
    targets = [find_target(one) for one in target or _TARGETS]
    rows = []
    for name in only or list(CASES):
        if name not in CASES:
            raise EdgeDeitError(f"--only {name!r} is none of: {', '.join(CASES)}")
        folder = output / name.replace(" ", "_")
        rows += _measure(name, CASES[name], folder, images, targets)
    columns = ("checkpoint", "target", "same answer, %", "SNR, dB", "MB", "holds")
    show(Grid(f"int8, {images} photos at most", columns, tuple(rows)))


def _measure(
    name: str, case: Case, folder: Path, images: int, targets: Sequence[Target]
) -> list[tuple[str, ...]]:
    folder.mkdir(parents=True, exist_ok=True)
    weights, data = _weights(case, folder)
    checkpoint = load_model(weights)
    made = folder / "files"
    if missing := [one.name for one in targets if not list(made.glob(f"*{one.suffix}"))]:
        export_model(
            weights,
            targets=missing,
            precisions=["int8"],
            calibration=data,
            calibration_images=case.calibration_images,
            output=made,
            parity_images=4,
        )
    pixels = _pixels(data, checkpoint, images)
    with torch.inference_mode():
        photos = torch.from_numpy(pixels).split(1)
        reference = torch.cat([checkpoint.model(one) for one in photos]).numpy()
    rows = []
    for target in targets:
        (path,) = made.glob(f"*{target.suffix}")
        with progress() as bar, quiet():
            task = bar.add_task(f"{name} {target.name}", total=len(pixels))
            runner = target.load_runner(path, 2)
            found = run_each(runner, pixels, lambda: bar.advance(task))  # noqa: B023 # used at once
        result = closeness(reference, found, classes=True)
        same = 100 * (result.agreement or 0.0)
        holds = same >= _LEAST_AGREEMENT and result.snr_db >= _LEAST_DB
        size = sum(one.stat().st_size for one in [path, *path.rglob("*")] if one.is_file())
        texts = f"{same:.1f}", f"{result.snr_db:.1f}", f"{size / 1e6:.1f}"
        rows.append((name, target.name, *texts, "yes" if holds else "no"))
    return rows


def _pixels(data: Path | None, checkpoint: Checkpoint, images: int) -> np.ndarray:
    """Photos that took no part, (M, 3, H, W)."""
    with contextlib.ExitStack() as stack:
        folder = data or stack.enter_context(validation_folder())
        chosen = list_photos(folder, use="validation").pick(images)
        return np.concatenate(
            [load_pixels(one.path, checkpoint.preprocess) for one in chosen.photos]
        )


def _weights(case: Case, folder: Path) -> tuple[str, Path | None]:
    """What `export` is told: weights, and photos, None for the bundled ones."""
    if case.make is None:
        return "bundled", None
    real = real_folder()
    path = folder / "model.safetensors"
    if not path.exists():
        source = str(real / "deit_tiny_patch16_224" / "model.safetensors")
        tiny = load_model(source, image_size=case.image_size)
        torch.manual_seed(0)
        save_checkpoint(path, case.make(tiny), tiny.preprocess, tiny.labels, half=False)
    return str(path), real / "imagenet400"


def widened(model: DeiT) -> DeiT:
    """The same function with twice the channels, heads and hidden units."""
    config = model.config
    made = DeiT(
        replace(
            config,
            embed_dim=2 * config.embed_dim,
            num_heads=2 * config.num_heads,
            mlp_dim=2 * config.mlp_dim,
        )
    )
    old, new = model.state_dict(), made.state_dict()
    for name, value in old.items():
        new[name] = _widened(name, value)
    made.load_state_dict(new)
    return made.eval()


def _widened(name: str, value: Tensor) -> Tensor:
    """A parameter with its outputs twice; what reads doubled channels gets random parts of its weight."""
    layer = name.rpartition(".")[0]
    if name.endswith(".bias") and layer == "head":
        return value
    if layer.endswith("qkv"):
        value = value.unflatten(0, (3, -1))  # queries, keys, values: each as heads, twice
        value = torch.cat([value, value], 1).flatten(0, 1)
    elif layer != "head":
        axis = -1 if name.endswith(("token", "pos_embed")) else 0
        value = torch.cat([value, value], axis)
    if value.ndim == 2 and name.endswith("weight"):
        share = 0.5 + 0.3 * torch.randn_like(value)
        value = torch.cat([share * value, (1 - share) * value], 1)
    return value


def with_second_head(model: DeiT) -> DeiT:
    """The model with a distillation token and head, each near what it has for the class."""
    made = DeiT(replace(model.config, distilled=True, distillation_head=True))
    state = dict(model.state_dict())
    first, rest = state["pos_embed"][:, :1], state["pos_embed"][:, 1:]
    state["pos_embed"] = torch.cat([first, _near(first), rest], 1)
    state["dist_token"] = _near(state["cls_token"])
    state |= {f"head_dist.{end}": _near(state[f"head.{end}"]) for end in ("weight", "bias")}
    made.load_state_dict(state)
    return made.eval()


def _near(value: Tensor) -> Tensor:
    return value + 0.2 * value.std() * torch.randn_like(value)


if __name__ == "__main__":
    run(app, "python benchmarks/checkpoints.py")
