"""`labels.csv` as users have it, with other separators, marks, quotes and column names: read or refused."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_deit.common.errors import EdgeDeitError

__all__ = ["SPLITS", "Row", "Table", "is_number", "read_table"]

SPLITS: Final = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "calibration": ("calibration", "train", "training"),
    "test": ("test", "testing"),
}
"""For each use of a table, the splits that it takes unless told otherwise, the first that is there."""

_COLUMNS: Final = {
    "file": ("file", "filename", "image", "path"),
    "label": ("label", "class"),
    "split": ("split",),
}
_SEPARATORS: Final = ",;\t|"
_NEEDS: Final = "it needs the columns file,label[,split]"


@dataclass(frozen=True)
class Row:
    """One photo of a table: its path below the table's folder, and its class as it is written there."""

    path: Path
    label: str


@dataclass(frozen=True)
class Table:
    """The rows of one split, each photo once; `split` is None where the table has no such column."""

    rows: tuple[Row, ...]
    split: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Line:
    number: int
    file: str
    label: str
    split: str


def is_number(label: str) -> bool:
    """Whether a cell is a whole number, as `3` or, where a program made floats of them, `3.0`."""
    return re.fullmatch(r"[+-]?[0-9]+(\.0+)?", label) is not None


def read_table(path: Path, split: str | None, use: str | None) -> Table:
    """The photos that a table lists, of one split.

    `split` is what the user asked for; otherwise `use`, a key of `SPLITS`, says which splits are looked for
    where the table has them, and None takes all rows.

    Raises:
        EdgeDeitError: a table that cannot be read in exactly one way, a split that it has not, a photo that
            is absent, outside the folder, or listed with two labels.
    """
    lines, has_split, notes = _read(path)
    taken, chosen = _of_split(path, lines, has_split, split, use)
    if taken is not None and split is None:
        notes.append(f"of {path.name}, the rows of split {taken!r} are taken")
    if not chosen:
        raise EdgeDeitError(f"{path} lists no image")
    places = {line.number: _inside(path, line.file) for line in lines}
    _check_unique(path, lines, places)
    rows: dict[Path, Row] = {}
    for line in chosen:
        rows.setdefault(places[line.number], Row(places[line.number], line.label))
    if absent := [row.path for row in rows.values() if not os.path.isfile(row.path)]:
        names = ", ".join(str(one.relative_to(path.parent)) for one in absent[:3])
        raise EdgeDeitError(
            f"{path} names {len(absent)} of {len(rows)} photos that are not there: {names}"
        )
    if double := len(chosen) - len(rows):
        lines_said = "1 line" if double == 1 else f"{double} lines"
        notes.append(
            f"{path.name} lists photos twice with the same label ({lines_said}); counted once"
        )
    notes += _several_splits(path, lines, places)
    return Table(tuple(rows.values()), taken, tuple(notes))


# The text


def _read(path: Path) -> tuple[list[_Line], bool, list[str]]:
    """Lines of a table, whether it has splits, and what is to be said of it."""
    text = _text(path)
    header, cells = _parse(path, text)
    notes: list[str] = []
    places = {kind: _column(path, header, kind, notes) for kind in _COLUMNS}
    lines = []
    for number, row in cells:
        if any("\n" in cell or "\r" in cell for cell in row):
            raise EdgeDeitError(
                f"{path}, line {number}: a name holds a line break, or a quote is not closed; {_NEEDS}"
            )
        if len(row) < len(header) or any(row[len(header) :]):
            raise EdgeDeitError(
                f"{path}, line {number} has {len(row)} cells, the first line {len(header)}; quote a "
                "name that holds the separator"
            )
        found = {kind: "" if at is None else row[at] for kind, at in places.items()}
        for kind in ("file", "label"):
            if not found[kind]:
                raise EdgeDeitError(f"{path}, line {number} has no {kind}")
        lines.append(_Line(number, found["file"], found["label"], found["split"]))
    return lines, places["split"] is not None, notes


def _text(path: Path) -> str:
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data:
        raise EdgeDeitError(f"{path} is UTF-16 or damaged; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise EdgeDeitError(
            f"{path}, line {line} is not UTF-8 (byte 0x{data[error.start]:02x}); save it as UTF-8"
        ) from error


def _parse(path: Path, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and numbered rows, by the separator and quote under which the header makes sense."""
    start = re.match(r"sep=([,;|\t])\r?\n", text)  # a line that Excel writes
    if start:
        text = text[start.end() :]
    first = ""
    for quote in ('"', "'"):
        for separator in _SEPARATORS:
            rows = _rows(path, text, separator, quote, 1 if start else 0)
            if rows is None:
                continue
            header = [re.sub(r"[\s_\-]", "", cell.casefold()) for cell in rows[0][1]]
            if all(any(one in header for one in _COLUMNS[kind]) for kind in ("file", "label")):
                return header, rows[1:]
            first = first or ", ".join(rows[0][1])
    raise EdgeDeitError(f"{path} is not readable: its first line is {first!r}; {_NEEDS}")


def _rows(
    path: Path, text: str, separator: str, quote: str, skipped: int
) -> list[tuple[int, list[str]]] | None:
    """Rows that are not empty, with their line numbers; None where there is none."""
    rows = []
    stream = io.StringIO(text + "\n", newline="")  # so that a quote that is not closed shows
    reader = csv.reader(stream, delimiter=separator, quotechar=quote, skipinitialspace=True)
    try:
        for row in reader:
            cells = [cell.strip(" \t") for cell in row]
            if any(cells):
                rows.append((reader.line_num + skipped, cells))
    except csv.Error as error:
        raise EdgeDeitError(
            f"{path}, line {reader.line_num + skipped} is not readable ({error}); {_NEEDS}"
        ) from error
    return rows or None


def _column(path: Path, header: Sequence[str], kind: str, notes: list[str]) -> int | None:
    """Place of the column of one kind: the documented name, otherwise the only synonym."""
    names = [name for name in _COLUMNS[kind] if name in header]
    if not names:
        return None
    first = names[0]
    if header.count(first) > 1 or (len(names) > 1 and first != _COLUMNS[kind][0]):
        raise EdgeDeitError(
            f"{path} has several columns for the {kind}: {', '.join(n for n in header if n in names)}; "
            f"keep one, or call it {_COLUMNS[kind][0]}"
        )
    if len(names) > 1:
        notes.append(f"{path.name}: column {first} is taken, {', '.join(names[1:])} is not read")
    return header.index(first)


# The rows


def _of_split(
    path: Path, lines: Sequence[_Line], has_split: bool, split: str | None, use: str | None
) -> tuple[str | None, list[_Line]]:
    """The split that is taken, and its rows; None and all rows where there are no splits."""
    if not has_split:
        if split is not None:
            raise EdgeDeitError(
                f"{path} has no column split, so there is no split {split!r}; leave --split out"
            )
        return None, list(lines)
    if split is None and use is None:
        return None, list(lines)
    known = sorted({line.split for line in lines if line.split})
    wanted = SPLITS[use or ""] if split is None else (split,)
    for name in wanted:
        if chosen := [line for line in lines if line.split == name]:
            return name, chosen
    raise EdgeDeitError(f"{path} has no split {wanted[0]!r}; it has: {', '.join(known) or 'none'}")


def _inside(table: Path, name: str) -> Path:
    """The photo's path below the table's folder; a link counts as where it stands."""
    folder = table.parent
    roots = dict.fromkeys((os.path.abspath(folder), os.path.realpath(folder)))
    found = []
    for text in dict.fromkeys((name, name.replace("\\", "/"))):
        whole = Path(os.path.normpath(os.path.join(os.path.abspath(folder), text)))
        found += [folder / whole.relative_to(root) for root in roots if whole.is_relative_to(root)]
    if not found:
        raise EdgeDeitError(f"{table} names {name!r}, which lies outside its folder")
    return next((path for path in found if os.path.isfile(path)), found[0])


def _several_splits(path: Path, lines: Sequence[_Line], places: dict[int, Path]) -> list[str]:
    """A remark on photos that stand in several splits."""
    first: dict[Path, _Line] = {}
    names = [
        line.file
        for line in lines
        if first.setdefault(places[line.number], line).split != line.split
    ]
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{path.name} has photos in several splits: {', '.join(names[:3])}{more}"]


def _check_unique(path: Path, lines: Sequence[_Line], places: dict[int, Path]) -> None:
    """Refuse a photo with two labels, in whatever splits."""
    labels: dict[str, _Line] = {}
    for line in lines:
        first = labels.setdefault(os.path.realpath(places[line.number]), line)
        if first.label != line.label:
            raise EdgeDeitError(
                f"{path} lists {line.file} twice, as {first.label!r} in line {first.number} and as "
                f"{line.label!r} in line {line.number}; keep one"
            )
