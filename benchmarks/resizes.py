#!/usr/bin/env python3
"""What an app's own resize costs: answers on squares made by other filters, beside those of the reference.

    EDGE_DEIT_REAL=FOLDER python benchmarks/resizes.py FILE... --output DIR [--into FILE.md]

FILE are exported files of one model. Each runs on the same validation photos, made into squares by the
reference preprocessing and by what platforms offer (benchmarks/resizing/ways.py says how each is known); a
canvas is drawn by Chromium itself. Each file is compared with itself, so that only the resize counts; a
last row compares it with the first file, both on the reference's squares. It writes resizes.json and
resizes.md; `--into` puts the tables between the marks `<!-- resizes -->` and `<!-- /resizes -->`, as
benchmarks/table.py does with resizes.json.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from edge_deit.artefacts.artefact import Artefact, read_artefacts
from edge_deit.artefacts.runners import open_runner
from edge_deit.common.console import new_app, progress, run
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import write_text
from edge_deit.data.labels import match_labels
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import PreprocessSpec, load_image, normalise
from edge_deit.metrics.outputs import EQUAL_DB, aligned, closeness, softmax, top_k
from harness.real import real_folder
from resizing.canvas import chromium_version, draw_squares
from resizing.ways import QUALITIES, WAYS, reference
from tables.grid import insert, show, to_markdown
from tables.resizes import REFERENCE
from tables.results import grids, write_result

app = new_app(__doc__)

_TOP: Final = 5


@app.command()
def resizes(
    artefacts: Annotated[
        list[Path], typer.Argument(help="Files of one model; the float one first.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for resizes.json and resizes.md.")],
    data: Annotated[Path | None, typer.Option(help="Photos; default: EDGE_DEIT_REAL's.")] = None,
    images: Annotated[int, typer.Option(help="At most so many photos.")] = 300,
    threads: Annotated[int, typer.Option(help="Threads of the runners.")] = 2,
    into: Annotated[Path | None, typer.Option(help="Markdown file to put the tables into.")] = None,
) -> None:
    """Measure every way on every file."""
    found = read_artefacts(artefacts)
    spec = _same_spec(found)
    paths, classes = _photos(data or real_folder() / "imagenet400", found, images)
    with progress() as bar:
        steps = len(QUALITIES) + (1 + len(WAYS)) * len(found)
        task = bar.add_task("photos", total=len(paths) * steps)
        squares, qualities_differ = _squares(paths, spec, lambda: bar.advance(task))
        logits = {
            one.path.name: {
                way: _logits(one, made, spec, threads, lambda: bar.advance(task))
                for way, made in squares.items()
            }
            for one in found
        }
    result = {
        "kind": "resizes",
        "model": found[0].manifest.model,
        "photos": len(paths),
        "chromium": chromium_version(),
        "canvas_qualities_differ": qualities_differ,
        "weights_sha256": found[0].manifest.weights["sha256"],
        "files": {name: _figures(name, logits, classes) for name in logits},
    }
    output.mkdir(parents=True, exist_ok=True)
    write_result(result, output / "resizes.json")
    if into is not None:
        text = to_markdown(grids(result))
        write_text(into, insert(into.read_text(encoding="utf-8"), "resizes", text))
    for grid in grids(result):
        show(grid)


def _same_spec(found: Sequence[Artefact]) -> PreprocessSpec:
    first, *others = (one.manifest for one in found)
    for other in others:
        if (other.weights["sha256"], other.preprocessing) != (
            first.weights["sha256"],
            first.preprocessing,
        ):
            raise EdgeDeitError(f"{first.artefact} and {other.artefact} are of two models")
    return first.preprocess_spec


def _photos(data: Path, found: Sequence[Artefact], images: int) -> tuple[list[Path], np.ndarray]:
    """Photos that took no part in making the files, and their classes (M,).

    Raises:
        EdgeDeitError: one did, or has no class.
    """
    listing = list_photos(data, use="validation").pick(images)
    photos = match_labels(listing, found[0].manifest.labels).photos
    if any(photo.label is None for photo in photos):
        raise EdgeDeitError(f"{data} has photos without labels")
    seen = {
        sha for one in found for sha in (one.manifest.calibration or {}).get("photo_sha256", [])
    }
    for photo in photos:
        if hashlib.sha256(photo.path.read_bytes()).hexdigest() in seen:
            raise EdgeDeitError(f"{photo.path} is one of the calibration photos; name others")
    return [photo.path for photo in photos], np.array([photo.label for photo in photos])


def _squares(
    paths: Sequence[Path], spec: PreprocessSpec, step: Callable[[], None]
) -> tuple[dict[str, np.ndarray], bool]:
    """Way -> squares (M, crop, crop, 3) uint8, and whether the canvas's qualities gave different ones."""
    photos = [np.asarray(load_image(path)) for path in paths]
    found = {REFERENCE: np.stack([reference(rgb, spec) for rgb in photos])}
    drawn = draw_squares(photos, spec, QUALITIES, step)
    for way in WAYS:
        make = way.square
        found[way.name] = (
            drawn[QUALITIES[0]] if make is None else np.stack([make(rgb, spec) for rgb in photos])
        )
    default, *others = drawn.values()
    return found, any(not np.array_equal(default, other) for other in others)


def _logits(
    artefact: Artefact,
    squares: np.ndarray,
    spec: PreprocessSpec,
    threads: int,
    step: Callable[[], None],
) -> np.ndarray:
    """(M, K) logits of squares."""
    found = []
    with open_runner(artefact, threads) as runner:
        for square in squares:
            found.append(runner(normalise(square, spec)[None])[0])
            step()
    return np.stack(found)


def _figures(
    name: str, logits: Mapping[str, Mapping[str, np.ndarray]], classes: np.ndarray
) -> dict[str, Any]:
    """A file's figures by way, each beside its own on the reference; then the first file's on that."""
    first, own = next(iter(logits)), logits[name][REFERENCE]
    found = {way.name: compare(own, logits[name][way.name], classes) for way in WAYS}
    found[REFERENCE] = compare(own, own, classes)
    if name != first:
        found[f"the reference, but {first}"] = compare(own, logits[first][REFERENCE], classes)
    return found


def compare(own: np.ndarray, other: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """How far logits (M, K) are from `own`, and their accuracy.

    `same_answer` and `same_five` (in order) are shares of photos, `score_mean` and `score_max` the mean and
    the maximum over photos of the largest difference of a class's probability.
    """
    near = closeness(own, aligned(own, other), classes=True)
    scores = np.array(
        [np.abs(softmax(a) - softmax(b)).max() for a, b in zip(own, other, strict=True)]
    )
    fives = [top_k(a, _TOP) == top_k(b, _TOP) for a, b in zip(own, other, strict=True)]
    return {
        "same_answer": float(near.agreement or 0.0),
        "same_five": float(np.mean(fives)),
        "score_mean": float(scores.mean()),
        "score_max": float(scores.max()),
        "snr_db": min(near.snr_db, EQUAL_DB),
        "top1": float((other.argmax(1) == classes).mean()),
    }


if __name__ == "__main__":
    run(app, "python benchmarks/resizes.py")
