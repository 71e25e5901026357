"""A table of texts, for a terminal and for a document."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_deit.common.console import out
from edge_deit.common.errors import EdgeDeitError

__all__ = ["Grid", "insert", "show", "to_markdown", "to_rich"]

_FILE_WIDTH: Final = 170
_LEFT: Final = (
    *("artefact", "bar", "measured", "file", "runner", "made by", "holds"),
    *("resized by", "filter", "known from"),
)


@dataclass(frozen=True)
class Grid:
    """A table of texts, and lines to stand under it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def to_markdown(tables: Sequence[Grid]) -> str:
    """GitHub's pipe tables, one after the other.

    >>> print(to_markdown([Grid("T", ("artefact", "x"), (("a|b", "1"),), ("n",))]))
    **T**
    <BLANKLINE>
    | artefact | x |
    |---|---:|
    | a\\|b | 1 |
    <BLANKLINE>
    n
    """
    parts = []
    for grid in tables:
        rule = ["---" if name in _LEFT else "---:" for name in grid.head]
        lines = [_row(grid.head), f"|{'|'.join(rule)}|", *(_row(row) for row in grid.rows)]
        parts += [f"**{grid.title}**", "\n".join(lines), *grid.notes]
    return "\n\n".join(parts)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def to_rich(grid: Grid) -> Table:
    """The same for a terminal, without Markdown's stars."""
    table = Table(title=grid.title, caption=_plain("\n".join(grid.notes)), caption_justify="left")
    for name in grid.head:
        table.add_column(name, justify="left" if name in _LEFT else "right", overflow="fold")
    for row in grid.rows:
        table.add_row(*(_plain(cell) for cell in row))
    return table


def show(grid: Grid) -> None:
    """Print it to standard output, wide where that is no terminal."""
    console = out() if sys.stdout.isatty() else Console(width=_FILE_WIDTH)
    console.print(to_rich(grid))


def _plain(cell: str) -> str:
    return escape(cell.replace("**", "").replace("\\*", "*"))


def insert(document: str, kind: str, text: str) -> str:
    """The document with `text` between the marks of `kind`.

    Raises:
        EdgeDeitError: the marks are not there, once each and in order.

    >>> insert("a <!-- x -->old<!-- /x --> b", "x", "new")
    'a <!-- x -->\\n\\nnew\\n\\n<!-- /x --> b'
    """
    start, end = f"<!-- {kind} -->", f"<!-- /{kind} -->"
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(document)) != 1:
        raise EdgeDeitError(f"the document needs {start} and {end}, once each and in this order")
    return pattern.sub(lambda _: f"{start}\n\n{text}\n\n{end}", document)
