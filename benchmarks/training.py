#!/usr/bin/env python3
"""How fast `finetune` trains beside a bare PyTorch loop with the same model and batch, on this processor.

    python benchmarks/training.py --data DIR [--rounds 4] [--steps 12] [--batch-size 16]

DIR has photos, EDGE_DEIT_REAL's by default; their classes are made up. Rounds of both take turns.
The bare loop has its pixels in memory: forward, cross-entropy, backward, AdamW, nothing else. `finetune`'s
loop reads, crops and normalises photos in a worker, cuts gradients, keeps a log and writes its state. The
ratio of each pair of rounds counts, so that a busy moment spoils one pair alone.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from edge_deit.common.console import Bars, new_app, out, run
from edge_deit.common.host import describe_host
from edge_deit.data.listing import Photo
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import default_spec
from edge_deit.exporters import tool_versions
from edge_deit.model.config import variant
from edge_deit.model.deit import DeiT
from edge_deit.training.recipe import Recipe
from edge_deit.training.state import RunKey
from edge_deit.training.train import train
from harness.real import real_folder

app = new_app(__doc__)


@app.command()
def training(
    data: Annotated[Path | None, typer.Option(help="Photos; default: EDGE_DEIT_REAL's.")] = None,
    model: Annotated[str, typer.Option()] = "deit_tiny",
    classes: Annotated[int, typer.Option(min=2)] = 10,
    rounds: Annotated[int, typer.Option(min=1)] = 4,
    steps: Annotated[int, typer.Option(min=2, help="Of a round.")] = 12,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode photos.")] = 1,
) -> None:
    """Measure and print the ratios."""
    torch.set_num_threads(threads)
    found = list_photos(data or real_folder() / "imagenet400", use="calibration").photos
    photos = [Photo(one.path, index % classes) for index, one in enumerate(found)]
    recipe = Recipe(epochs=steps * batch_size / len(photos), batch_size=batch_size)
    ratios = []
    with (
        Bars() as bars,
        bars.task("rounds", rounds) as advance,
        tempfile.TemporaryDirectory() as folder,
    ):
        for number in range(rounds):
            ours = _ours(model, classes, photos, recipe, workers, Path(folder) / "state.pt")
            bare = _bare(model, classes, recipe, steps)
            ratios.append(ours / bare)
            advance(1)
            out().print(f"round {number + 1}: finetune {ours:.1f}, bare {bare:.1f} photos/s")
    out().print(f"finetune to bare: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to "
                f"{max(ratios):.3f}; {describe_host(tool_versions())['cpu']}")  # fmt: skip


def _model(name: str, classes: int) -> DeiT:
    return DeiT(replace(variant(name), num_classes=classes))


def _ours(
    name: str, classes: int, photos: list[Photo], recipe: Recipe, workers: int, state: Path
) -> float:
    """Photos a second of `finetune`'s loop."""
    model = _model(name, classes)
    key = RunKey((), "", model.config.image_size, "", "", {})
    spec = default_spec(model.config.image_size, 0.9)
    started, taken = time.monotonic(), recipe.steps(len(photos)) * recipe.batch_size
    train(model, photos, spec, recipe, key, state_path=state, workers=workers)
    return taken / (time.monotonic() - started)


def _bare(name: str, classes: int, recipe: Recipe, steps: int) -> float:
    """Photos a second of a loop that does nothing else than train."""
    model = _model(name, classes).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate)
    side = model.config.image_size
    pixels = torch.randn(recipe.batch_size, 3, side, side)
    labels = torch.arange(recipe.batch_size) % classes
    started = time.monotonic()
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(pixels), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return steps * recipe.batch_size / (time.monotonic() - started)


if __name__ == "__main__":
    run(app, "python benchmarks/training.py")
