#!/usr/bin/env python3
"""Copies a trained checkpoint and small balanced sets of Fashion-MNIST photos into the package.

python tools/build_assets.py --checkpoint build/stage3/model.safetensors --data build/fashion
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Annotated

import typer

from edge_deit.checkpoint.load import load_model
from edge_deit.checkpoint.save import save_checkpoint
from fashion_mnist import LABELS, folder_name

ASSETS = Path(__file__).parents[1] / "edge_deit" / "assets"
CHECKPOINT = "deit_tiny_distilled_fashion_mnist.safetensors"
SETS = {"calibration": ("train", 20), "validation": ("test", 100)}  # photos a class

app = typer.Typer(add_completion=False, help=__doc__)


def copy_photos(data: Path, name: str) -> int:
    """Write `name`/labels.csv and its photos, evenly spaced over each class; returns their number."""
    split, each = SETS[name]
    target = ASSETS / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    rows = []
    for label in range(len(LABELS)):
        files = sorted((data / split / folder_name(label)).glob("*.png"))
        for file in files[:: len(files) // each][:each]:
            shutil.copyfile(file, target / file.name)
            rows.append((file.name, label))
    with (target / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([("file", "label"), *sorted(rows)])
    return len(rows)


@app.command()
def build(
    data: Annotated[Path, typer.Option(help="Output of `fashion_mnist.py folders`.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Output of `finetune`.")] = None,
) -> None:
    """Refresh `edge_deit/assets`."""
    for name in SETS:
        print(f"{name}: {copy_photos(data, name)} photos")
    if checkpoint:
        trained = load_model(str(checkpoint))
        target = ASSETS / CHECKPOINT
        save_checkpoint(target, trained.model, trained.preprocess, LABELS, half=True)
        print(f"{target.name}: {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    app()
