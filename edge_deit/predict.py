"""Classify photos with an exported file: `python -m edge_deit.predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edge_deit.artefacts.manifest import read_manifest
from edge_deit.artefacts.runners import open_runner, rank, stand_in
from edge_deit.common.console import new_app, out, run
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.quiet import quiet
from edge_deit.data.preprocess import load_pixels

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
