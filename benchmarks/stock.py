#!/usr/bin/env python3
"""Makes the stock files: what a competent user of each toolchain exports from the same weights.

    python benchmarks/stock.py --weights FILE --calibration DIR --output DIR [--only NAME]

Writes `stock.RECIPE.SUFFIX` and beside it a `.json` that says what it was made from. A file that was made
from the same weights, photos, recipes and tool versions is left as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

import toolchains.builders as stock_builders
from edge_deit.artefacts.manifest import manifest_path
from edge_deit.checkpoint.load import load_model
from edge_deit.common.console import new_app, out, progress, run, status_console
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path, size_of
from edge_deit.common.quiet import quiet
from edge_deit.data.calibration import calibration_set
from edge_deit.exporters import tool_versions
from toolchains.builders import Source
from toolchains.recipes import StockRecipe, at_hand, find_recipe
from toolchains.stamp import Stamp, read_stamp

__all__ = ["make"]

app = new_app(__doc__)


def make(recipe: StockRecipe, source: Source, inputs: dict[str, Any], output: Path) -> Stamp:
    """Make one file, or leave it where it has been made from the same inputs; in place when complete."""
    path = output / recipe.file_name
    known = _known(path)
    if known is not None and known.inputs == inputs:
        return known
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".stock-", dir=output) as folder:
        built = Path(folder) / recipe.file_name
        with quiet(), torch.no_grad():
            recipe.build(source, built)
        stamp = Stamp(
            name=recipe.name,
            target=recipe.target,
            precision=recipe.precision,
            description=recipe.description,
            inputs=inputs,
            sha256=hash_path(built),
            size_bytes=size_of(built),
            seconds=time.monotonic() - started,
        )
        note = Path(folder) / "stamp.json"
        note.write_text(json.dumps(asdict(stamp), indent=2) + "\n", encoding="utf-8")
        manifest_path(path).unlink(missing_ok=True)  # a stamp never describes another file
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(built, path)
        os.replace(note, manifest_path(path))
    return stamp


def _known(path: Path) -> Stamp | None:
    """The stamp of a whole file; None where the file is to be made (again)."""
    if not manifest_path(path).exists():
        return None
    try:
        return read_stamp(path)
    except EdgeDeitError as error:
        status_console().print(f"made again: {error}", soft_wrap=True)
        return None


@app.command()
def stock(
    weights: Annotated[str, typer.Option(help="As for the export command.")],
    calibration: Annotated[
        Path, typer.Option(help="Photos; of a labels.csv, the calibration split.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the files.")],
    only: Annotated[
        list[str] | None,
        typer.Option(help="TARGET.RECIPE; may be repeated; default: all that can be made."),
    ] = None,
    calibration_images: Annotated[int, typer.Option(help="At most so many photos.")] = 100,
    histogram_images: Annotated[
        int, typer.Option(help="At most so many of them for ExecuTorch's histogram observers.")
    ] = 32,
) -> None:
    """Make the stock files from the plain float model."""
    recipes = [find_recipe(name) for name in only] if only else at_hand()
    if remedies := [one.remedy for one in recipes if one.remedy is not None]:
        raise EdgeDeitError(remedies[0])
    if min(calibration_images, histogram_images) < 1:
        raise EdgeDeitError("--calibration-images and --histogram-images must be at least 1")
    checkpoint = load_model(weights)
    photos = calibration_set(calibration, checkpoint.preprocess, calibration_images)
    source = Source(checkpoint.model, tuple(photos), min(histogram_images, len(photos)))
    output.mkdir(parents=True, exist_ok=True)
    done = []
    with progress() as bar:
        task = bar.add_task("stock files", total=len(recipes))
        for recipe in recipes:
            bar.update(task, description=recipe.name)
            inputs = _inputs(recipe, source, checkpoint.sha256, photos.sha256)
            done.append(make(recipe, source, inputs, output))
            if not status_console().is_terminal:
                status_console().print(f"{output / recipe.file_name}", soft_wrap=True)
            bar.advance(task)
    _summary(done, sum(p.numel() for p in checkpoint.model.parameters()))


def _inputs(recipe: StockRecipe, source: Source, weights: str, photos: str) -> dict[str, Any]:
    """All that the file depends on."""
    seen: dict[str, Any] = {}
    if recipe.calibrates:
        seen = {"sha256": photos, "images": len(source.photos)}
    if recipe.name == "executorch.static":
        seen["images_seen"] = len(source.fewer_photos())
    return {
        "weights_sha256": weights,
        "calibration": seen,
        "builders_sha256": hash_path(Path(stock_builders.__file__)),
        "tools": tool_versions(),
    }


def _summary(done: list[Stamp], parameters: int) -> None:
    table = Table(title="stock files")
    for name in ("file", "precision", "of 4 bytes a parameter", "made by"):
        table.add_column(name, justify="right" if name.startswith("of") else "left")
    for stamp in done:
        share = f"{stamp.size_bytes / (4 * parameters):.2f}"
        table.add_row(stamp.name, stamp.precision, share, stamp.description)
    out().print(table)


if __name__ == "__main__":
    run(app, "python benchmarks/stock.py")
