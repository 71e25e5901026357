"""What a `.pt2` archive may hold before torch is allowed to read it.

`torch.export.load` evaluates more of an archive than its tensors: it unpickles sample inputs and constants
without limits where its safe reader refuses them, evaluates the expressions of symbolic sizes and the code
of guards, and looks operators up below `torch` by any name. So every member is looked at first, and an
archive with anything but tensors, plain numbers, operators of torch's own operator libraries and
comparisons of sizes is refused.

Source: torch/_export/serde/serialize.py and torch/export/pt2_archive/_package.py of torch 2.13.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch

from edge_deit.common.errors import EdgeDeitError, first_line

__all__ = ["check_archive"]

_MEMBERS: Final = re.compile(
    r"[^/]+/(archive_format|archive_version|byteorder|version|\.data/[\w.]+"
    r"|models/\w+\.json"
    r"|data/(weights|constants)/(\w+_config\.json|(weight|tensor)_\d+)"
    r"|data/sample_inputs/\w+\.pt)"
)
_OPERATORS: Final = re.compile(
    r"torch\.ops\.(aten|prims)\.\w+(\.\w+)?|_operator\.\w+"
    r"|torch\.(sym_(int|float|max|min|not|ite|sqrt|sum)|_check|_check_is_size)"
    r"|math\.(ceil|floor|trunc|sqrt|pow)"
)
_SAFE_OPERATOR: Final = frozenset(
    "_operator." + name
    for name in (
        *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg", "pos", "getitem"),
        *("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_", "lshift", "rshift"),
    )
)
_MOST_BYTES: Final = 8 << 30
_MOST_JSON_BYTES: Final = 64 << 20
_NODES: Final = (
    *(ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.BinOp, ast.Add, ast.Sub, ast.Mult),
    *(ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.Name, ast.Load, ast.Constant, ast.Subscript),
    *(ast.Call, ast.keyword, ast.Attribute, ast.IfExp),
)
_FUNCTIONS: Final = frozenset(
    {
        *("Symbol", "Integer", "Max", "Min", "Mod", "FloorDiv", "ModularIndexing", "PythonMod"),
        *(
            "Add",
            "Mul",
            "Pow",
            "Rational",
            "Abs",
            "Eq",
            "Ne",
            "Lt",
            "Le",
            "Gt",
            "Ge",
            "And",
            "Or",
            "Not",
        ),
        *("CleanDiv", "CeilDiv", "CeilToInt", "FloorToInt", "Where", "PowByNatural", "TruncToInt"),
    }
)
_METHODS: Final = frozenset({"size", "stride", "storage_offset", "dim"})
_NAME: Final = re.compile(r"L|[suz]+\d+|True|False|None|max|min")


def check_archive(path: Path) -> None:
    """Look at every member of the archive.

    Raises:
        EdgeDeitError: not a `.pt2` archive, a member that may run code, or one of a kind that is not known.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > _MOST_BYTES:
                raise EdgeDeitError(f"teacher {path} unpacks to more than {_MOST_BYTES >> 30} GiB")
            for info in infos:
                _check_member(path, info, archive)
    except (zipfile.BadZipFile, OSError, NotImplementedError, EOFError) as error:
        raise EdgeDeitError(
            f"teacher {path} is no .pt2 archive ({first_line(error)}); write it with torch.export.save"
        ) from error


def _check_member(path: Path, info: zipfile.ZipInfo, archive: zipfile.ZipFile) -> None:
    name = info.filename
    if not _MEMBERS.fullmatch(name):
        raise _refused(path, f"it holds {name!r}, which may be code")
    if name.endswith(".json"):
        if info.file_size > _MOST_JSON_BYTES:
            raise _refused(path, f"{name!r} is larger than {_MOST_JSON_BYTES >> 20} MiB")
        try:
            data = json.loads(archive.read(info))
        except (ValueError, RecursionError) as error:
            raise _refused(path, f"{name!r} is not JSON: {first_line(error)}") from error
        for problem in _problems(data):
            raise _refused(path, f"{name!r} {problem}")
        return
    with archive.open(info) as stream:
        start = stream.read(2)
    if name.endswith(".pt") or start == b"PK":
        try:
            torch.load(io.BytesIO(archive.read(info)), weights_only=True)
        except Exception as error:  # noqa: BLE001 # whatever it is, the member is no plain tensor
            raise _refused(path, f"{name!r} holds more than tensors: {first_line(error)}") from None


def _refused(path: Path, why: str) -> EdgeDeitError:
    return EdgeDeitError(
        f"teacher {path} is not read, as {why}; a DeiT checkpoint (--teacher-weights) needs no trust"
    )


def _problems(data: Any) -> Iterator[str]:
    """What in a JSON member could run code when torch reads it."""
    waiting: list[tuple[str, Any]] = [("", data)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(str(name), inner) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(key, inner) for inner in value]
        elif key == "use_pickle" and value not in (False, None):
            yield "says that a member is to be unpickled"
        elif isinstance(value, str):
            if key == "target" and not _known_operator(value):
                yield f"names the operator {value!r:.60}"
            if key in ("expr_str", "guards_code") and not _plain(value):
                yield f"has the expression {value!r:.60}"
            if key == "path_name" and not re.fullmatch(r"\w+", value):
                yield f"names the file {value!r:.60}"


def _known_operator(name: str) -> bool:
    if name.startswith("_operator."):
        return name in _SAFE_OPERATOR
    return _OPERATORS.fullmatch(name) is not None


def _plain(text: str) -> bool:
    """Whether an expression only compares and computes with sizes."""
    if len(text) > 10_000:
        return False
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(_plain_node(node) for node in ast.walk(tree))


def _plain_node(node: ast.AST) -> bool:
    if not isinstance(node, _NODES):
        return False
    if isinstance(node, ast.Name):
        return node.id in _FUNCTIONS or _NAME.fullmatch(node.id) is not None
    if isinstance(node, ast.Attribute):
        return node.attr in _METHODS
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.fullmatch(r"\w+", node.value) is not None
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float | None)
    if isinstance(node, ast.Call):
        function = node.func
        return isinstance(function, ast.Attribute) or (
            isinstance(function, ast.Name) and function.id in _FUNCTIONS | {"max", "min"}
        )
    return True
