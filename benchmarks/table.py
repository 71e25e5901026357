#!/usr/bin/env python3
"""Renders measured results as Markdown, so that no figure in a document is typed by hand.

    python benchmarks/table.py RESULT.json...                  prints the tables
    python benchmarks/table.py RESULT.json... --into FILE.md   puts them between the marks of that file

The marks are `<!-- accuracy -->` and `<!-- /accuracy -->`, and the same for `latency`, `resizes`, `scale`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from edge_deit.common.console import new_app, out, run
from tables.grid import insert, to_markdown
from tables.results import grids, read_result

app = new_app(__doc__)


@app.command()
def table(
    results: Annotated[
        list[Path], typer.Argument(help="JSON files of accuracy, latency, resizes or scale.py.")
    ],
    into: Annotated[Path | None, typer.Option(help="Markdown file to put the tables into.")] = None,
) -> None:
    """Render results as Markdown."""
    found = [read_result(path) for path in results]
    if into is None:
        for result in found:
            out().print(to_markdown(grids(result)), markup=False, highlight=False)
        return
    document = into.read_text(encoding="utf-8")
    for result in found:
        document = insert(document, result["kind"], to_markdown(grids(result)))
    partial = into.with_name(f"{into.name}.part")
    partial.write_text(document, encoding="utf-8")
    os.replace(partial, into)


if __name__ == "__main__":
    run(app, "python benchmarks/table.py")
