"""Classify photos with an exported file: `python -m edge_deit.predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from edge_deit._console import new_app, out, run
from edge_deit._quiet import quiet
from edge_deit.errors import EdgeDeitError
from edge_deit.manifest import Manifest, read_manifest
from edge_deit.metrics import softmax, top_k
from edge_deit.preprocess import load_pixels
from edge_deit.runners import open_runner, stand_in
from exporters import Runner

__all__ = ["predict"]

app = new_app(__doc__)


def predict(
    artefact: Annotated[
        Path, typer.Argument(help="An exported file; its manifest lies beside it.")
    ],
    images: Annotated[list[Path], typer.Argument(help="Photos.")],
    top: Annotated[int, typer.Option(help="How many classes to print.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    threads: Annotated[int, typer.Option(help="Threads of the runner.")] = 2,
) -> None:
    """Print the most probable classes of each photo, computed by the artefact's own runner."""
    manifest = read_manifest(artefact)
    if manifest.task != "classification":
        raise EdgeDeitError(f"{artefact} returns {manifest.task}, not classes; nothing to rank")
    pixels = [load_pixels(image, manifest.preprocess_spec) for image in images]
    reason = stand_in(manifest)
    with quiet():
        runner = open_runner(artefact, threads)
        ranked = [rank(runner, photo, manifest, top) for photo in pixels]
    if as_json:
        report = [{"image": str(i), "top": r} for i, r in zip(images, ranked, strict=True)]
        print(json.dumps(report, indent=2, ensure_ascii=False))
        return
    for image, rows in zip(images, ranked, strict=True):
        _print(image, rows)
    if reason:
        out().print(reason, markup=False)


def rank(
    runner: Runner, pixels: np.ndarray, manifest: Manifest, top: int
) -> list[dict[str, str | int | float]]:
    """The `top` classes of one photo, most probable first.

    Raises:
        EdgeDeitError: logits that are not finite, or not as many as there are labels.
    """
    logits = np.asarray(runner(pixels))[0]
    if not np.isfinite(logits).all():
        raise EdgeDeitError(f"{manifest.artefact} returned NaN or infinite logits; export it again")
    if len(logits) != len(manifest.labels):
        raise EdgeDeitError(
            f"{manifest.artefact} returns {len(logits)} values for {len(manifest.labels)} labels"
        )
    probabilities = softmax(logits)
    return [
        {
            "index": index,
            "label": manifest.labels[index],
            "probability": float(probabilities[index]),
            "logit": float(logits[index]),
        }
        for index in top_k(logits, top)
    ]


def _print(image: Path, rows: list[dict[str, str | int | float]]) -> None:
    table = Table(title=str(image), title_justify="left")
    table.add_column("label")
    table.add_column("probability", justify="right")
    for row in rows:
        table.add_row(str(row["label"]), f"{100 * float(row['probability']):.1f} %")
    out().print(table)


app.command()(predict)

if __name__ == "__main__":
    run(app, "python -m edge_deit.predict")
