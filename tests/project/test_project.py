"""Rules about the project itself: who imports whom, what the documents and pyproject.toml promise."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from edge_deit.quantization.scheme import PRECISIONS
from exporters import TARGETS
from exporters import target as find_target

ROOT = Path(__file__).parents[2]

ORDER = (
    "edge_deit.common.errors",
    "edge_deit.common.files",
    "edge_deit.common.decode",
    "edge_deit.common.quiet",
    "edge_deit.common.console",
    "edge_deit.model.config",
    "edge_deit.model.deit",
    "edge_deit",
    "edge_deit.data.preprocess",
    "edge_deit.assets",
    "edge_deit.artefacts.manifest",
    "edge_deit.common.host",
    "edge_deit.checkpoint.huggingface",
    "edge_deit.checkpoint.tensor_names",
    "edge_deit.checkpoint.files",
    "edge_deit.checkpoint.checks",
    "edge_deit.checkpoint.load",
    "edge_deit.data.photos",
    "edge_deit.training.recipe",
    "edge_deit.training.train",
    "edge_deit.model.form",
    "edge_deit.model.deploy",
    "edge_deit.quantization.scheme",
    "edge_deit.metrics.outputs",
    "edge_deit.report.device_report",
    "edge_deit.report.verdict",
    "edge_deit.report.report",
    "edge_deit.gating.thresholds",
    "edge_deit.metrics.paired",
    "edge_deit.evaluation.tally",
    "edge_deit.evaluation.accuracy",
    "edge_deit.evaluation.latency",
    "edge_deit.artefacts.float_model",
    "edge_deit.evaluation.results",
    "edge_deit.report.figures",
    "edge_deit.report.text",
    "edge_deit.report.junit",
    "edge_deit.report.svg",
    "edge_deit.report.plots",
    "edge_deit.report.device_rows",
    "edge_deit.report.html",
    "edge_deit.gating.judge",
    "edge_deit.quantization.rotate",
    "edge_deit.quantization.narrow",
    "edge_deit.quantization.observe",
    "edge_deit.quantization.ranges",
    "edge_deit.quantization.rounding",
    "edge_deit.quantization.half",
    "edge_deit.quantization.equalise",
    "edge_deit.quantization.fakequant",
    "edge_deit.quantization.condition",
    "edge_deit.quantization.sensitivity",
    "edge_deit.evaluation.layers",
    "exporters.graph_points",
    "exporters.target",
    "exporters",
    "edge_deit.conversion.parity",
    "exporters.coreml.operators",
    "exporters.coreml.package",
    "exporters.coreml.reference",
    "exporters.coreml.layers",
    "exporters.executorch.runtime",
    "exporters.executorch.layers",
    "exporters.onnx.session",
    "exporters.onnx.layers",
    "exporters.pt2e",
    "exporters.tflite.file",
    "exporters.tflite.names",
    "exporters.tflite.quantize",
    "exporters.tflite.observe",
    "exporters.tflite.full",
    "exporters.tflite.integer_form",
    "exporters.tflite.layers",
    "exporters.executorch.export",
    "exporters.coreml.export",
    "exporters.tflite.export",
    "exporters.onnx.convert",
    "exporters.onnx.quantize",
    "exporters.onnx.export",
    "edge_deit.artefacts.runners",
    "edge_deit.evaluation.worker",
    "edge_deit.conversion.produce",
    "edge_deit.conversion.fallback",
    "edge_deit.export",
    "edge_deit.predict",
    "edge_deit.evaluation.run",
    "edge_deit.validate",
    "edge_deit.gate",
    "edge_deit.pytest_plugin",
    "edge_deit.mobile.golden_images",
    "edge_deit.golden",
    "edge_deit.mobile.deliveries",
    "edge_deit.bundle",
    "edge_deit.emulation",
    "edge_deit.emulation.counts",
    "edge_deit.emulation.inner",
    "edge_deit.emulation.sysroot",
    "edge_deit.emulation.setup",
    "edge_deit.emulation.emulator",
    "edge_deit.emulation.figures",
    "edge_deit.emulation.check",
    "edge_deit.arm64",
    "edge_deit.finetune",
    "edge_deit.doctor",
    "edge_deit.__main__",
    "edge_deit.__main__",
)
"""Every module, left to right; one imports only what stands before it."""

CORE = ORDER[: ORDER.index("exporters.target")]
MAY_IMPORT_EXPORTERS = (
    *("runners", "_worker", "produce", "fallback", "export", "predict", "measure", "validate"),
    *("golden", "bundle", "doctor", "cli"),
)
HEAVY = (
    *(
        "executorch",
        "torchao",
        "coremltools",
        "litert_torch",
        "ai_edge_litert",
        "ai_edge_quantizer",
    ),
    *("tensorflow", "jax", "onnx", "onnxruntime", "onnxscript", "transformers", "huggingface_hub"),
)
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "android_demo/README.md", "ios_demo/README.md"),
    *("docs/validation.md", "docs/gate.md", "docs/mobile.md", "docs/arm64.md"),
)


def module_files() -> dict[str, Path]:
    """Module name -> file, of all modules of both packages."""
    found = {}
    for package in ("edge_deit", "exporters"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


FILES = module_files()


def tree(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def imported_modules(name: str) -> set[str]:
    """Our own modules that `name` imports, inside functions too."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import; write the module's full name"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & FILES.keys()) or {str(node.module)}
    return {module for module in found if module in FILES}


# Imports


def test_every_module_has_its_place() -> None:
    assert len(set(ORDER)) == len(ORDER)
    new, gone = sorted(FILES.keys() - set(ORDER)), sorted(set(ORDER) - FILES.keys())
    assert (new, gone) == ([], []), "add new modules to ORDER and remove those that are gone"


@pytest.mark.parametrize("name", FILES)
def test_imports_point_left(name: str) -> None:
    place = ORDER.index(name)
    wrong = {module for module in imported_modules(name) if ORDER.index(module) >= place}
    assert not wrong, f"{name} imports {sorted(wrong)}, which do not stand to its left"


@pytest.mark.parametrize("name", FILES)
def test_who_may_import_exporters(name: str) -> None:
    package, _, module = name.partition(".")
    if package == "edge_deit" and module not in MAY_IMPORT_EXPORTERS:
        wrong = {used for used in imported_modules(name) if used.split(".")[0] == "exporters"}
        assert not wrong, f"{name} imports {sorted(wrong)}"


def identifiers_and_strings(name: str) -> Iterator[tuple[int, str]]:
    """(line, text) of each name and string of a module, but not of docstrings and comments."""
    module = tree(name)
    prose = {
        id(node.value)
        for node in ast.walk(module)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    tables = {
        id(inner)
        for node in ast.walk(module)
        if isinstance(node, ast.AnnAssign) and name == "edge_deit.artefacts.manifest"
        if isinstance(node.target, ast.Name) and node.target.id == "_PACKAGES"
        for inner in ast.walk(node)
    }
    for node in ast.walk(module):
        if id(node) in prose | tables:
            continue
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield line, node.value
        for field in ("id", "attr", "name", "arg", "module", "asname"):
            if isinstance(text := getattr(node, field, None), str):
                yield line, text


@pytest.mark.parametrize("name", CORE)
def test_core_names_no_target(name: str) -> None:
    found = [
        (line, text)
        for line, text in identifiers_and_strings(name)
        if any(target in text.lower() for target in TARGETS)
    ]
    assert not found, f"{name} knows of a target: {found}"


def test_a_target_name_in_the_core_would_be_found() -> None:
    """The package table is the one exemption, so without it manifest.py would be caught."""
    texts = {text for _, text in identifiers_and_strings("edge_deit.artefacts.manifest")}
    assert "_PACKAGES" in texts
    assert "onnx" not in texts
    assert "onnx" in FILES["edge_deit.artefacts.manifest"].read_text(encoding="utf-8")
    assert any("coreml" in text.lower() for _, text in identifiers_and_strings("exporters"))


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


@pytest.mark.parametrize(
    "name", [name for name in FILES if not name.rpartition(".")[2].startswith("_")]
)
def test_public_modules_say_what_is_public(name: str) -> None:
    module = importlib.import_module(name)
    assert hasattr(module, "__all__"), f"{name} has no __all__"
    assert module.__doc__, f"{name} has no docstring"
    missing = [public for public in module.__all__ if not hasattr(module, public)]
    assert not missing, f"{name}.__all__ names {missing}, which it has not"


# pyproject.toml


def distribution(requirement: str) -> str:
    """`edge-deit[all]>=1; python_version < "3"` -> `edge-deit`."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def project() -> dict[str, object]:
    with (ROOT / "pyproject.toml").open("rb") as stream:
        found = tomllib.load(stream)["project"]
    assert isinstance(found, dict)
    return found


def extras() -> dict[str, list[str]]:
    found = project()["optional-dependencies"]
    assert isinstance(found, dict)
    return found


def brought_by(requirement: str) -> set[str]:
    """A distribution and those it requires without conditions, as its own metadata says."""
    name = distribution(requirement)
    try:
        needs = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        needs = []
    return {name, *(distribution(need) for need in needs if ";" not in need)}


@pytest.mark.parametrize("name", TARGETS)
def test_an_extra_brings_what_its_target_requires(name: str) -> None:
    target = find_target(name)
    assert target.name == name
    if missing := target.missing():
        pytest.skip(f"{', '.join(missing)} not installed: its dependencies are not known here")
    brought = {found for need in extras()[target.extra] for found in brought_by(need)}
    absent = {distribution(needed) for needed in target.requires.values()} - brought
    assert not absent, f"extra {target.extra} does not bring {sorted(absent)}"


def test_all_is_the_sum_of_the_targets() -> None:
    (everything,) = extras()["all"]
    named = set(re.findall(r"[\w-]+", everything.partition("[")[2]))
    assert named == extras().keys() - {"all", "dev"}
    assert {find_target(name).extra for name in TARGETS} <= named


def test_package_data_and_licences_exist() -> None:
    files = project()["license-files"]
    assert isinstance(files, list)
    for name in files:
        assert (ROOT / name).stat().st_size > 500, name


# Documents


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
    assert commands or "edge_deit." not in text or name in ("CONTRIBUTING.md",)
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
    import edge_deit

    assert re.search(rf"^## \[?{re.escape(edge_deit.__version__)}\b", text_of("CHANGELOG.md"), re.M)
