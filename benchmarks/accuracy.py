#!/usr/bin/env python3
"""Accuracy of every artefact, ours and stock, on photos that none of them has seen.

    EDGE_DEIT_REAL=FOLDER python benchmarks/accuracy.py --output DIR [--ours DIR] [--stock DIR]

One run makes all files (the export command for ours, benchmarks/stock.py for the others), runs each in a
process of its own and compares its logits with the float model's. It writes accuracy.json and accuracy.md.
Ranges come from the split `calibration`, figures from `validation`. Logits are kept in DIR/cache, so a
second run computes only what changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from edge_deit.checkpoint.load import Checkpoint, load_model
from edge_deit.common.console import new_app, progress, run, status_console
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path
from edge_deit.common.host import describe_host
from edge_deit.data.labels import match_labels
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import load_pixels
from edge_deit.exporters import TARGETS, tool_versions
from edge_deit.exporters import target as find_target
from edge_deit.quantization.scheme import PRECISIONS
from harness.candidates import Candidate, find_ours, find_stock, select, torch_candidate
from harness.processes import run_logits
from harness.real import real_folder
from tables.accuracy import judge_accuracy, score
from tables.grid import show
from tables.results import grids, write_result
from toolchains.recipes import RECIPES, StockRecipe, at_hand

app = new_app(__doc__)

_ROOT: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Photos:
    """Validation photos on disk, (M, 3, H, W), their hash and their labels (M,)."""

    file: Path
    sha256: str
    labels: np.ndarray


@app.command()
def accuracy(
    output: Annotated[Path, typer.Option(help="Folder for results, files and cache.")],
    ours: Annotated[Path | None, typer.Option(help="Our artefacts; default: export them.")] = None,
    stock: Annotated[Path | None, typer.Option(help="Where the stock files lie or go.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Default: EDGE_DEIT_REAL's DeiT-tiny.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="labels.csv with two splits; default: EDGE_DEIT_REAL's.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Names such as 'ours/tflite/*'; may be repeated.")
    ] = None,
    images: Annotated[int, typer.Option(help="At most so many validation photos.")] = 300,
    calibration_images: Annotated[int, typer.Option(help="At most so many for ranges.")] = 100,
    histogram_images: Annotated[
        int, typer.Option(help="Of these, for ExecuTorch's stock histogram observers.")
    ] = 32,
    threads: Annotated[int, typer.Option(help="Threads of each runner.")] = 2,
) -> None:
    """Measure agreement, SNR, top-1 and size of every precision and target, and of the stock files."""
    environment = describe_host(tool_versions())
    weights = weights or real_folder() / "deit_tiny_patch16_224" / "model.safetensors"
    data = data or real_folder() / "imagenet400"
    checkpoint = load_model(str(weights))
    (output / "cache").mkdir(parents=True, exist_ok=True)
    photos = _photos(data, checkpoint, images, output / "cache")
    stock = stock or output / "stock"
    shared = (
        *("--weights", str(weights), "--calibration", str(data)),
        *("--calibration-images", str(calibration_images)),
    )
    if ours is None:
        ours = output / "ours"
        _export(ours, shared, threads)
    everything = find_ours(ours)
    if recipes := _wanted(only or []):
        _command(
            str(_ROOT / "benchmarks" / "stock.py"),
            *(*shared, "--output", str(stock), "--histogram-images", str(histogram_images)),
            *(text for recipe in recipes for text in ("--only", recipe.name)),
        )
        everything += find_stock(stock)
    rows = _measure(torch_candidate(weights), everything, only or [], photos, output, threads)
    result = {
        "kind": "accuracy",
        "model": checkpoint.name,
        "environment": environment,
        "settings": {
            "images": len(photos.labels),
            "calibration_images": calibration_images,
            "histogram_images": histogram_images,
            "threads": threads,
            "weights_sha256": checkpoint.sha256,
            "photos_sha256": photos.sha256,
        },
        "artefacts": rows,
        "bars": judge_accuracy(rows),
    }
    write_result(result, output / "accuracy.json")
    for grid in grids(result):
        show(grid)


# Files


def _export(folder: Path, shared: Sequence[str], threads: int) -> None:
    """Every precision of every target, with the project's own command."""
    made = {name for target in TARGETS for name in find_target(target).precisions}
    precisions = [text for name in PRECISIONS if name in made for text in ("--precision", name)]
    _command(
        *("-m", "edge_deit.export", "--target", "all", *precisions, *shared),
        *("--output", str(folder), "--threads", str(threads)),
    )


def _wanted(only: Sequence[str]) -> list[StockRecipe]:
    """The recipes whose files are to be measured, and the fp32 ones that their sizes refer to."""
    names = {recipe.name: f"stock/{recipe.target}/{recipe.recipe}" for recipe in RECIPES}
    able = {recipe.name for recipe in at_hand()}
    asked = {
        name
        for name, full in names.items()
        if full in only or (name in able and any(fnmatch(full, p) for p in only or ["*"]))
    }
    targets = {name.partition(".")[0] for name in asked}
    return [
        recipe
        for recipe in RECIPES
        if recipe.name in asked or (recipe.precision == "fp32" and recipe.target in targets)
    ]


def _command(*arguments: str) -> None:
    status_console().print(f"python {' '.join(arguments)}", soft_wrap=True, highlight=False)
    done = subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise EdgeDeitError(
            f"{arguments[0]} {arguments[1]} ended with {done.returncode}; see above"
        )


def _photos(data: Path, checkpoint: Checkpoint, count: int, cache: Path) -> Photos:
    """Validation photos as one array on disk.

    Raises:
        EdgeDeitError: no labels, or photos that the ranges are taken from too.
    """
    listing = list_photos(data, use="validation")
    others = list_photos(data, use="calibration").photos
    if {photo.path for photo in listing.photos} & {photo.path for photo in others}:
        raise EdgeDeitError(f"{data} needs a labels.csv with the splits calibration and validation")
    chosen = match_labels(listing.pick(count), checkpoint.labels).photos
    if any(photo.label is None for photo in chosen):
        raise EdgeDeitError(f"{data} has photos without labels")
    pixels = np.concatenate([load_pixels(photo.path, checkpoint.preprocess) for photo in chosen])
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    file = cache / f"pixels-{digest[:16]}.npy"
    if not file.exists():
        partial = file.with_suffix(".part.npy")
        np.save(partial, pixels)
        os.replace(partial, file)
    return Photos(file, digest, np.array([photo.label for photo in chosen]))


# Measuring


def _measure(
    plain: Candidate,
    everything: Sequence[Candidate],
    only: Sequence[str],
    photos: Photos,
    output: Path,
    threads: int,
) -> list[dict[str, Any]]:
    """One row an artefact, each run in its own process, one after the other."""
    chosen = select(everything, only)
    sizes = {(o.origin, o.target): o.size_bytes for o in everything if o.precision == "fp32"}
    rows = []
    with progress() as bar:
        overall = bar.add_task("artefacts", total=len(chosen) + 1)
        reference = _logits(plain, photos, output, threads, bar)
        for one in chosen:
            bar.update(overall, description=one.name, advance=1)
            fp32 = sizes.get((one.origin, one.target))
            if fp32 is None:
                raise EdgeDeitError(f"no fp32 file beside {one.path} to compare its size with")
            logits = _logits(one, photos, output, threads, bar)
            rows.append(
                {
                    "name": one.name,
                    "origin": one.origin,
                    "target": one.target,
                    "precision": one.precision,
                    "description": one.description,
                    "stand_in": one.stand_in,
                    "sha256": one.sha256,
                    **score(reference, logits, photos.labels),
                    "size_bytes": one.size_bytes,
                    "size_fp32_bytes": fp32,
                    "size_ratio": one.size_bytes / fp32,
                }
            )
    return rows


def _logits(one: Candidate, photos: Photos, output: Path, threads: int, bar: Any) -> np.ndarray:
    """(M, K) logits, from the cache if the same file met the same photos and runner before."""
    runners = sorted((_ROOT / "exporters").rglob("*.py"))
    runners += sorted((_ROOT / "benchmarks" / "toolchains").rglob("*.py"))
    key = json.dumps(
        [one.sha256, one.origin, one.target, photos.sha256, threads, tool_versions()]
        + [hash_path(path) for path in runners]
    )
    file = output / "cache" / f"logits-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    if not file.exists():
        count = len(photos.labels)
        task = bar.add_task(f"  {one.name}", total=count)
        run_logits(one, threads, photos.file, file, count, lambda: bar.advance(task))
        bar.remove_task(task)
    return np.asarray(np.load(file))


if __name__ == "__main__":
    run(app, "python benchmarks/accuracy.py")
