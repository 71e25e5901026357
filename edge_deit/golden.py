"""Write what a phone app must compute, to the last bit: `python -m edge_deit.golden ARTEFACT`.

`golden_spec.json` says how a photo becomes pixels and logits become classes; `golden_cases.json` holds
examples with their answers. The apps' tests and their self-test screens read both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edge_deit.artefacts.artefact import read_artefact
from edge_deit.artefacts.runners import open_runner, stand_in
from edge_deit.common.console import new_app, out, run
from edge_deit.common.errors import EdgeDeitError
from edge_deit.mobile.golden import golden_cases, golden_spec, measured_logits, write_golden

app = new_app(__doc__)


# Classes


# The two files


def golden(
    artefact: Annotated[
        Path, typer.Argument(help="An exported file; its manifest lies beside it.")
    ],
    photos: Annotated[
        Path | None, typer.Option(help="Photos for the logits; default: bundled or generated ones.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the two files.")] = Path("golden"),
    threads: Annotated[int, typer.Option(help="Threads of the runner.")] = 2,
) -> None:
    """Write golden_spec.json and golden_cases.json, which the phone apps' tests obey."""
    if threads < 1:
        raise EdgeDeitError(f"--threads is {threads}; it must be at least 1")
    opened = read_artefact(artefact)
    manifest = opened.manifest
    spec = golden_spec(manifest)
    with open_runner(opened, threads) as runner:
        logits = measured_logits(runner, manifest, photos)
    cases = golden_cases(manifest, logits)
    write_golden(output, spec, cases)
    table = Table(title=f"{artefact.name} -> {output}", title_justify="left")
    table.add_column("cases")
    table.add_column("number", justify="right")
    for name in ("images", "classification", "refused"):
        table.add_row(name, str(len(cases[name])))
    out().print(table)
    if reason := stand_in(manifest):
        out().print(reason, markup=False)


app.command()(golden)

if __name__ == "__main__":
    run(app, "python -m edge_deit.golden")
