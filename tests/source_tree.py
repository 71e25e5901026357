"""The project's own modules as files and syntax trees, for the tests of its rules."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = [
    "COMMANDS",
    "FILES",
    "ROOT",
    "extras",
    "functions",
    "imported_modules",
    "package_of",
    "project",
    "texts",
    "tree",
]

ROOT = Path(__file__).parents[1]


def _module_files() -> dict[str, Path]:
    found = {}
    for folder, within in (("edge_deit", ()), ("exporters", ("edge_deit",))):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not path.is_relative_to(ROOT / "edge_deit/exporters"):  # a link to the other folder
                parts = (*within, *path.relative_to(ROOT).with_suffix("").parts)
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


FILES = _module_files()
"""Module name -> file, of all modules."""

COMMANDS = sorted(
    name
    for name, path in FILES.items()
    if path.parent == ROOT / "edge_deit" and path.name != "__init__.py"
)
"""The modules straight in `edge_deit`."""


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def package_of(name: str) -> str:
    """`edge_deit.data.photos` -> `edge_deit.data`; a command is its own."""
    return ".".join(name.split(".")[:2])


def imported_modules(path: Path) -> set[str]:
    """Full names of what a file imports, inside functions too: modules, and names inside modules."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import; write the module's full name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """(name, lines without the docstring, lines without docstring and signature) of each function."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first, *rest = node.body
            documented = ast.get_docstring(node, clean=False) is not None
            prose = _lines(first) if documented else 0
            after = rest if documented else node.body
            body = _lines(after[0], after[-1]) if after else 0
            yield node.name, _lines(node) - prose, body


def _lines(first: ast.stmt, last: ast.stmt | None = None) -> int:
    end = (last or first).end_lineno
    assert end is not None
    return end - first.lineno + 1


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of each name and string of a file, but not of docstrings and comments."""
    prose = {
        id(node.value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree(path)):
        if id(node) in prose:
            continue
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield line, node.value
        for field in ("id", "attr", "name", "arg", "module", "asname"):
            if isinstance(text := getattr(node, field, None), str):
                yield line, text


def project() -> dict[str, object]:
    """The table `project` of pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as stream:
        found = tomllib.load(stream)["project"]
    assert isinstance(found, dict)
    return found


def extras() -> dict[str, list[str]]:
    """Extra -> its requirements."""
    found = project()["optional-dependencies"]
    assert isinstance(found, dict)
    return found
