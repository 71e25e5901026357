"""Write what a phone app must compute, to the last bit: `python -m edge_deit.golden ARTEFACT`.

`golden_spec.json` says how a photo becomes pixels and logits become classes; `golden_cases.json` holds
examples with their answers. The apps' tests and their self-test screens read both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edge_deit.common.console import Bars, new_app, out, run

__all__ = ["golden"]

app = new_app(__doc__)


def golden(
    artefact: Annotated[
        Path, typer.Argument(help="An exported file; its manifest lies beside it.")
    ],
    photos: Annotated[
        Path | None, typer.Option(help="Photos for the logits; default: bundled or generated ones.")
    ] = None,
    images: Annotated[
        int, typer.Option(help="At most so many of --photos, evenly spread, for a folder run.")
    ] = 4,
    output: Annotated[Path, typer.Option(help="Folder for the two files.")] = Path("golden"),
    threads: Annotated[int, typer.Option(help="Threads of the runner.")] = 2,
) -> None:
    """Write golden_spec.json and golden_cases.json, which the phone apps' tests obey."""
    from edge_deit.mobile.golden import golden_of

    with Bars() as bars:
        cases, stand_in = golden_of(
            artefact,
            photos=photos,
            images=images,
            output=output,
            threads=threads,
            progress=bars,
        )
    table = Table(title=f"{artefact.name} -> {output}", title_justify="left")
    table.add_column("cases")
    table.add_column("number", justify="right")
    for name, count in cases.items():
        table.add_row(name, str(count))
    out().print(table)
    if stand_in is not None:
        out().print(stand_in)


app.command()(golden)

if __name__ == "__main__":
    run(app, "python -m edge_deit.golden")
