"""A folder in one piece, as ExecuTorch's Core ML delegate keeps it: files, then a table read from the end.

The table is JSON, written backwards from the last byte. Its `nodes` are files (`kind` 0), each with a part
of the data, and folders (1), whose `children` are names and places of earlier nodes; the last is the top.

The delegate's own reader trusts all of it. This one takes what may be anybody's: each name is a plain one,
each part lies in the data and in no other part, and each node in one folder, so that what is written is
never more than what was there, and never elsewhere.

Source: executorch/backends/apple/coreml/runtime/inmemoryfs/inmemory_filesystem.cpp, its utils and keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_deit.common.strict_json import parse_json

__all__ = ["read_flattened", "write_files"]

_MOST_TABLE_BYTES: Final = 1 << 20
_MOST_NODES: Final = 1000
_MOST_NAME_BYTES: Final = 255
_DEEPEST: Final = 16  # folders in folders; a package has five

Files = dict[tuple[str, ...], memoryview]
"""Names from the top folder to a file -> its content."""


@dataclass(frozen=True)
class _Node:
    """A file, or a folder: the places of what is in it, by name."""

    name: str
    folder: bool
    children: dict[str, int]
    start: int
    size_bytes: int


def read_flattened(data: memoryview) -> Files:
    """The files of a flattened folder; the top folder's name is the first of each.

    Raises:
        ValueError: it is none, is cut short, or names what it may not; in words.
    """
    table = _table_text(data)
    nodes = _nodes(table)
    parents = _parents(nodes)
    end, most = 0, len(data) - len(table)
    for one in sorted((n for n in nodes if not n.folder), key=lambda n: (n.start, n.size_bytes)):
        if one.start < end:
            raise ValueError(f"{one.name!r:.80} shares bytes with another file")
        end = one.start + one.size_bytes
        if end > most:
            raise ValueError(f"{one.name!r:.80} would end at byte {end} of {most}")
    return {
        _names(nodes, parents, place): data[one.start : one.start + one.size_bytes]
        for place, one in enumerate(nodes)
        if not one.folder
    }


def write_files(files: Files, folder: Path) -> None:
    """Write the files into an empty folder; errors are the system's own (OSError)."""
    for names, content in files.items():
        place = folder.joinpath(*names)
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as stream:  # what the system takes for the same name is refused
            stream.write(content)


# The table


def _nodes(table: bytes) -> list[_Node]:
    try:
        nodes = parse_json(table).get("nodes")
    except ValueError as error:
        raise ValueError(f"its table is not readable: {error}") from error
    if not isinstance(nodes, list) or not 0 < len(nodes) <= _MOST_NODES:
        raise ValueError("its table has no nodes, or too many")
    return [_node(one) for one in nodes]


def _table_text(data: memoryview) -> bytes:
    """The table, from the last byte backwards to where its outermost brace closes."""
    text = bytes(data[-_MOST_TABLE_BYTES:])[::-1]
    if not text.startswith(b"{"):
        raise ValueError("it does not end in a table")
    depth, quoted, escaped = 0, False, False
    for place, byte in enumerate(text):
        if quoted:
            quoted, escaped = escaped or byte != ord('"'), not escaped and byte == ord("\\")
        elif byte == ord('"'):
            quoted = True
        elif byte in b"{}":
            depth += 1 if byte == ord("{") else -1
            if not depth:
                return text[: place + 1]
    raise ValueError("its table does not end")


def _node(entry: Any) -> _Node:
    """One node of the table, its values of the right types."""
    try:
        name, kind, children = entry["name"], entry["kind"], entry["children"]
        region = entry["dataRegion"]
        numbers = [kind, region["offset"], region["size"], *children.values()]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("its table has a node that is none") from error
    if not all(type(number) is int and number >= 0 for number in numbers) or kind > 1:
        raise ValueError("its table has a node that is none")
    _check_name(name)
    return _Node(name, kind == 1, children, region["offset"], region["size"])


def _check_name(name: object) -> None:
    """Refuse a name that means another place than a file or folder called so."""
    if (
        not isinstance(name, str)
        or name in ("", ".", "..")
        or not name.isprintable()
        or any(mark in name for mark in "/\\:")
        or len(name.encode()) > _MOST_NAME_BYTES
    ):
        raise ValueError(f"its table has the name {name!r:.80}")


def _parents(nodes: list[_Node]) -> dict[int, int]:
    """The folder of each node but the last, which is the top; a folder comes after all that is in it."""
    parents = dict[int, int]()
    for place, node in enumerate(nodes):
        for name, child in node.children.items():
            if not node.folder or child >= place or nodes[child].name != name:
                raise ValueError(f"its table has {name!r:.80} where it cannot be")
            if child in parents:
                raise ValueError(f"its table has {name!r:.80} in two folders")
            parents[child] = place
    if len(parents) != len(nodes) - 1:
        raise ValueError("its table has something in no folder")
    return parents


def _names(nodes: list[_Node], parents: dict[int, int], place: int) -> tuple[str, ...]:
    """The names on the way from the top."""
    names = [nodes[place].name]
    while (above := parents.get(place)) is not None:
        place = above
        names.insert(0, nodes[place].name)
        if len(names) > _DEEPEST:
            raise ValueError(f"its table has {names[-1]!r:.80} more than {_DEEPEST} folders deep")
    return tuple(names)
