"""Classify photos with an exported file: `python -m edge_deit.predict`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from edge_deit.common.console import Bars, new_app, out, run

if TYPE_CHECKING:
    from edge_deit.artefacts.predict import Prediction

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
    from edge_deit.artefacts.predict import predict_photos

    with Bars() as bars:
        found = predict_photos(artefact, images, top=top, threads=threads, progress=bars)
    if as_json:
        report = [{"image": str(one.image), "top": list(map(asdict, one.top))} for one in found]
        print(json.dumps(report, indent=2, ensure_ascii=False))
        return
    for one in found:
        _print(one)
    for reason in {one.stand_in for one in found if one.stand_in}:
        out().print(reason)


def _print(prediction: Prediction) -> None:
    table = Table(title=str(prediction.image), title_justify="left")
    table.add_column("label")
    table.add_column("probability", justify="right")
    for one in prediction.top:
        table.add_row(one.label, f"{100 * one.probability:.1f} %")
    out().print(table)


app.command()(predict)

if __name__ == "__main__":
    run(app, "python -m edge_deit.predict")
