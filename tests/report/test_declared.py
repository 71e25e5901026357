"""What follows from the figures' declarations: schemas, documents, tables; and that they are whole."""

from __future__ import annotations

import json
import runpy
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from edge_deit.report import report as report_module
from edge_deit.report.emulated import EmulatedCore
from edge_deit.report.figure import Figure, declared
from edge_deit.report.figures import cells, console_heads, console_row
from edge_deit.report.report import ArtefactResult
from edge_deit.report.result import FIGURES
from report_examples import EXAMPLES, artefact

ROOT = Path(__file__).parents[2]
SCHEMA_FILE = ROOT / "docs" / "report.schema.json"
DOCUMENTS = runpy.run_path(str(ROOT / "tools" / "declared.py"))["documents"]()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_generated_is_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == DOCUMENTS[path], "run: python tools/declared.py"


# The declarations


def test_every_number_of_a_result_is_declared() -> None:
    """A field that is no figure holds a text or the parts of a page."""
    others = {one.name for one in fields(ArtefactResult)} - FIGURES.keys()
    identity = {"path", "sha256", "target", "backend", "precision", "model", "weights_sha256"}
    parts = {"classes", "flips", "scatter", "layers", "device", "arm64", "notes"}
    assert others == identity | parts | {"runner"}


@pytest.mark.parametrize("name", FIGURES)
def test_a_declaration_is_whole(name: str) -> None:
    figure = FIGURES[name]
    assert figure.name == name
    assert figure.explanation.endswith(".")
    assert not figure.interval or figure.interval in FIGURES
    assert all(one in FIGURES for one in figure.reasons)
    if figure.change:
        assert figure.better != "neither", "no change would be for the worse"
    for limit in figure.limits:
        assert limit.end == "value" or figure.interval
        assert figure.better == ("lower" if limit.at_most else "higher")


def test_limits_have_keys_of_their_own() -> None:
    figures = [*FIGURES.values(), *declared(EmulatedCore).values()]
    keys = [limit.key for figure in figures for limit in figure.limits]
    keys += [figure.change_key for figure in figures if figure.change]
    assert len(set(keys)) == len(keys)


def test_tables_name_figures_that_exist() -> None:
    assert [cell.label for cell in cells(artefact())] == [
        *("top-1", "top-1 lost, points", "same answer", "logit SNR", "size"),
        *("latency p50", "load", "peak memory"),
    ]
    assert len(console_heads()) == len(console_row(artefact()))
    assert console_row(artefact()) == (
        *("75.9 % / 76.2 %", "0.3 [-0.7 to 1.7]", "98.3 %", "24.6 dB", "0.63", "0.27"),
    )
    assert console_row(artefact(top1=None, top1_drop=None))[:2] == ("-", "-")


def test_a_figure_of_a_property_is_declared_too() -> None:
    assert isinstance(FIGURES["size_ratio"], Figure)
    assert artefact(size_float_bytes=0).size_ratio is None


# docs/report.schema.json


def schema() -> dict[str, Any]:
    found = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def plain(value: object) -> Any:
    """As it is in the file."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_what_the_schema_says(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.Draft202012Validator.check_schema(schema())
    validator = jsonschema.Draft202012Validator(schema())
    assert [error.message for error in validator.iter_errors(plain(asdict(EXAMPLES[name]())))] == []


@pytest.mark.parametrize(
    "change",
    [
        {"snr_db": None},
        {"snr_db": 201},
        {"agreement": 1.01},
        {"images": 1.5},
        {"images": 0},
        {"top1": 101},
        {"top1_drop_ci95": [0.0]},
        {"sha256": "a"},
        {"size_bytes": 0},
        {"size_float_bytes": 0},
        {"speed": 1},
        {"notes": {"top1": 1}},
        {"flips": [{"file": "x"}]},
        {"device": [{"path": "x"}]},
        {"arm64": {"cpus": {"cortex-a76": {}}, "runtime": "", "note": ""}},
        {"calibration_overlap": -1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_schema_refuses(change: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    data = plain(asdict(EXAMPLES["phones and emulated cores"]()))
    data["artefacts"][0].update(change)
    assert not jsonschema.Draft202012Validator(schema()).is_valid(data)


def test_the_schema_is_of_this_version() -> None:
    found = schema()
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert found["properties"]["schema"]["const"] == report_module.SCHEMA
    assert "schema" in found["required"]


@pytest.mark.parametrize(
    "name", ["report.schema.json", "manifest.schema.json", "device-report.schema.json"]
)
def test_every_property_is_described_and_no_other_allowed(name: str) -> None:
    def faults(node: Any, path: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        properties = node.get("properties", {})
        said = {"description", "$ref"}
        missing = [f"{path}.{key}" for key, one in properties.items() if not said & one.keys()]
        if properties and node.get("additionalProperties") is not False:
            missing.append(f"{path} takes other names")
        return missing + [bad for key, one in node.items() for bad in faults(one, f"{path}.{key}")]

    found = json.loads((ROOT / "docs" / name).read_text(encoding="utf-8"))
    assert faults(found, "") == []
