"""Who imports whom, which module may name a target, how long modules and functions are."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from importlinter.api import read_configuration

from conftest import LONGEST
from edge_deit.exporters import TARGETS
from source_tree import (
    COMMANDS,
    FILES,
    ROOT,
    functions,
    imported_modules,
    package_of,
    texts,
    tree,
)

HEAVY = (
    *(
        "executorch",
        "torchao",
        "coremltools",
        "coreai",
        "coreai_torch",
        "litert_torch",
        "ai_edge_litert",
        "litert_quantizer",
    ),
    *("tensorflow", "jax", "onnx", "onnxruntime", "onnxscript", "transformers", "huggingface_hub"),
)
MAY_NAME_TARGETS = {"edge_deit.exporters", "edge_deit.mobile", "edge_deit.emulation", *COMMANDS}
MAY_FILL_INIT = {"edge_deit", "edge_deit.assets", "edge_deit.exporters"} | set(TARGETS.values())
UNDECLARED = {"edge_deit.checkpoint.hub", "edge_deit.gating.run", "edge_deit.training.run"}
"""Each goes when its module gets its public function and an `__all__`."""
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))


@cache
def contracts() -> dict[str, dict[str, Any]]:
    """The contracts of pyproject.toml, by id."""
    found = read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
    return {contract["id"]: contract for contract in found}


# Imports


@pytest.fixture(scope="module")
def kept() -> dict[str, str]:
    """Each contract's name -> KEPT or BROKEN, from the program that users run, in a process of its own."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    lines = re.findall(r"^(.+?) (KEPT|BROKEN)", done.stdout, re.MULTILINE)
    assert lines, done.stdout + done.stderr
    assert (done.returncode == 0) == all(state == "KEPT" for _, state in lines), done.stdout
    return dict(lines)


@pytest.mark.parametrize("contract", contracts())
def test_imports(contract: str, kept: dict[str, str]) -> None:
    assert kept[contracts()[contract]["name"]] == "KEPT", "make lint shows what breaks it"


def test_the_layers_name_every_package_and_command() -> None:
    rows = " | ".join(contracts()["layers"]["layers"])
    named = {name.strip() for name in re.split(r"[|:]", rows)}
    packages = {package_of(name) for name in FILES} - {"edge_deit"}
    assert named == packages, "pyproject.toml's layers and the packages differ"


@pytest.mark.parametrize("name", [name for name in FILES if name != "edge_deit"])
def test_only_the_version_is_taken_from_the_top(name: str) -> None:
    """`edge_deit/__init__.py` hands on names of the layers above; importing them from it is a circle."""
    taken = {
        found
        for found in imported_modules(FILES[name])
        if found.startswith("edge_deit.") and found.count(".") == 1 and found not in FILES
    }
    assert taken <= {"edge_deit.__version__"}, f"{name} takes {sorted(taken)} from edge_deit itself"


@pytest.mark.parametrize(
    "name", [name for name in FILES if package_of(name) not in MAY_NAME_TARGETS]
)
def test_the_core_names_no_target(name: str) -> None:
    found = [
        (line, text)
        for line, text in texts(FILES[name])
        if any(target in text.lower() for target in TARGETS)
    ]
    assert not found, f"{name} knows of a target: {found}"


def test_a_target_name_in_the_core_would_be_found() -> None:
    assert any("coreml" in text.lower() for _, text in texts(FILES["edge_deit.exporters"]))
    assert any("tflite" in text.lower() for _, text in texts(FILES["edge_deit.mobile.deliveries"]))


@pytest.mark.parametrize(
    "modules",
    [["edge_deit"], [name for name in FILES if name != "edge_deit.__main__"]],
    ids=["edge_deit", "every module"],
)
def test_importing_needs_no_converter(modules: list[str]) -> None:
    code = (
        "import importlib, json, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    assert done.stderr == ""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_no_benchmark_imports_a_benchmark(script: Path) -> None:
    names = {path.stem for path in SCRIPTS}
    taken = {found.split(".")[0] for found in imported_modules(script)}
    assert not taken & names, f"{script.name} imports {sorted(taken & names)}"


@pytest.mark.parametrize(
    ("folder", "above"),
    [
        ("toolchains", {"harness", "tables"}),
        ("tables", {"harness", "toolchains"}),
        ("harness", set()),
    ],
)
def test_layers_of_the_benchmarks(folder: str, above: set[str]) -> None:
    above = above | {path.stem for path in SCRIPTS}
    for path in sorted((ROOT / "benchmarks" / folder).glob("*.py")):
        taken = {found.split(".")[0] for found in imported_modules(path)}
        assert not taken & above, f"{path.name} imports {sorted(taken & above)}"


# Modules


@pytest.mark.parametrize(
    "name", [name for name in FILES if not name.rpartition(".")[2].startswith("_")]
)
def test_modules_say_what_is_public(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    if name in UNDECLARED or (FILES[name].name == "__init__.py" and name not in MAY_FILL_INIT):
        return
    assert hasattr(module, "__all__"), f"{name} has no __all__"
    missing = [public for public in module.__all__ if not hasattr(module, public)]
    assert not missing, f"{name}.__all__ names {missing}, which it has not"


@pytest.mark.parametrize(
    "name",
    [n for n, path in FILES.items() if path.name == "__init__.py" and n not in MAY_FILL_INIT],
)
def test_an_init_holds_a_docstring_and_nothing_else(name: str) -> None:
    (statement,) = tree(FILES[name]).body
    assert isinstance(statement, ast.Expr)
    assert isinstance(statement.value, ast.Constant)


def test_the_top_holds_commands_and_packages() -> None:
    packages = {package_of(name) for name in FILES} - {"edge_deit", "edge_deit.exporters"}
    assert len(packages) <= 27, "a step of the flow belongs into a package, not to the top"


@pytest.mark.parametrize("name", FILES)
def test_no_private_module(name: str) -> None:
    last = name.rpartition(".")[2]
    assert last == "__main__" or not last.startswith("_"), (
        f"{name}: a package's inside needs no mark"
    )


# Length

MOST_LINES = 300
MOST_LINES_OF_A_FUNCTION = 45  # without its docstring and its parameters
MOST_LINES_OF_A_COMMAND = 30  # without its options too, which are the command line's documentation


@pytest.mark.parametrize("name", FILES)
def test_modules_are_short(name: str) -> None:
    lines = len(FILES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{name} has {lines} lines; divide it by concept"


@pytest.mark.parametrize("name", FILES)
def test_functions_are_short(name: str) -> None:
    command = name in COMMANDS
    most = MOST_LINES_OF_A_COMMAND if command else MOST_LINES_OF_A_FUNCTION
    long = {
        f"{name}.{function}": body for function, _, body in functions(FILES[name]) if body > most
    }
    assert not long, f"over {most} lines: {long}"


# Words


def tracked_texts() -> list[Path]:
    """Every text file that git tracks."""
    listed = subprocess.run(
        ["git", "grep", "-I", "--name-only", "-e", ""],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    if listed.returncode:
        pytest.skip("this is no git checkout: which files are the project's is not known")
    return [ROOT / name for name in listed.stdout.splitlines()]


def test_one_spelling_of_quantize() -> None:
    """All four toolchains write it with z."""
    other = "quanti" + "s"
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked_texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if other in line.lower()
    ]
    assert not found, f"write quantize: {found}"


def test_the_order_of_tests_names_files_that_are_there() -> None:
    assert not [name for name in LONGEST if not (ROOT / "tests" / f"{name}.py").is_file()]
    assert len(set(LONGEST)) == len(LONGEST)
