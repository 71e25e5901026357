"""Documents: paths and options that they name exist, tables say what the code does."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import typer

import edge_deit
from edge_deit.exporters import TARGETS
from edge_deit.exporters import target as find_target
from edge_deit.quantization.scheme import PRECISIONS
from source_tree import ROOT, extras

DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "android_demo/README.md", "ios_demo/README.md"),
    "web_demo/README.md",
    *("docs/validation.md", "docs/gate.md", "docs/mobile.md", "docs/arm64.md"),
    *(
        "docs/finetuning.md",
        "docs/quantization.md",
        "docs/int4.md",
        "docs/tables.md",
        "docs/merging.md",
    ),
    *("docs/benchmarks.md", "docs/clients.md", "docs/pins.md"),
)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def paths_named(name: str) -> set[str]:
    """Repository paths in a document: targets of links, `folder/...`, and `FILE.md`-like names."""
    text = text_of(name)
    folder = Path(name).parent
    links = re.findall(r"\]\(([^)#:\s]+)\)", text)
    found = {str(folder / link) for link in links}
    tops = "|".join(re.escape(entry.name) for entry in ROOT.iterdir() if is_source(entry))
    found |= set(re.findall(rf"(?<![\w./-])((?:{tops})/[\w./-]*[\w/])", text))
    found |= set(re.findall(r"`([\w.-]+\.(?:md|toml|lock|yaml))`", text))
    return found


def is_source(entry: Path) -> bool:
    return entry.is_dir() and entry.name not in (".git", ".venv", "build", "dist", "out")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_name_paths_that_exist(name: str) -> None:
    named = paths_named(name)
    assert named, f"{name} names no path: is the pattern right?"
    missing = sorted(path for path in named if not (ROOT / path).exists())
    assert not missing, f"{name} names {missing}"


def commands_in(name: str) -> list[list[str]]:
    """[`export`, `--target`, ...] of each `python -m edge_deit.X` in a document's code."""
    text = text_of(name).replace("\\\n", " ")
    lines = re.findall(r"python -m edge_deit\.(\w+)([^\n`|>#]*)", text)
    return [[module, *re.findall(r"--[a-z][a-z-]*", rest)] for module, rest in lines]


@pytest.mark.parametrize("name", [*DOCUMENTS, ".github/workflows/ci.yml", "Makefile"])
def test_documents_use_options_that_exist(name: str) -> None:
    text = text_of(name)
    commands = commands_in(name)
    assert commands or "python -m edge_deit." not in text
    for module, *options in commands:
        command = typer.main.get_command(importlib.import_module(f"edge_deit.{module}").app)
        known = {name for parameter in command.params for name in parameter.opts}
        known |= {name for parameter in command.params for name in parameter.secondary_opts}
        assert set(options) <= known, f"{module} has no {sorted(set(options) - known)}"


def readme_table() -> dict[str, tuple[str, dict[str, bool]]]:
    """Target -> (suffix, precision -> whether README's table says yes)."""
    rows = [line.strip("| \n").split("|") for line in text_of("README.md").splitlines()]
    cells = [[cell.strip().replace("`", "") for cell in row] for row in rows]
    (head,) = [row for row in cells if row[0] == "target"]
    table: dict[str, tuple[str, dict[str, bool]]] = {}
    for row in cells:
        if len(row) == len(head) and row[0] in TARGETS:
            named = dict(zip(head, row, strict=True))
            table[row[0]] = (named["file"], {p: named[p] == "yes" for p in PRECISIONS})
    return table


def test_readme_table_is_what_the_targets_say() -> None:
    expected = {
        name: (target.suffix, {p: p in target.precisions for p in PRECISIONS})
        for name, target in ((name, find_target(name)) for name in TARGETS)
    }
    assert readme_table() == expected


def test_readme_names_every_extra_and_exit_code() -> None:
    text = text_of("README.md")
    absent = [name for name in extras() if name not in ("dev",) and f"[{name}]" not in text]
    assert not absent, f"README does not say how to install {absent}"
    for word in ("make demo", "make test", "EDGE_DEIT_VERBOSE=1", "`0`", "`2`", "`130`"):
        assert word in text, word


def test_changelog_has_this_version() -> None:
    assert re.search(rf"^## \[?{re.escape(edge_deit.__version__)}\b", text_of("CHANGELOG.md"), re.M)
