"""report.json and its schema, and the report in words: sentences, Markdown, JUnit."""

from __future__ import annotations

import html
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.host import ARM_NOTE
from edge_deit.report.figures import cells, display_names, summary_sentence
from edge_deit.report.junit import junit
from edge_deit.report.report import (
    ArtefactResult,
    read_report,
    write_report,
)
from edge_deit.report.result import FIGURES
from edge_deit.report.text import headline, markdown, write_step_summary
from edge_deit.report.verdict import Check, Verdict
from report_examples import (
    EXAMPLES,
    NASTY,
    STAND_IN,
    artefact,
    check,
    report,
    without_labels,
    without_latency,
)

# report.json


@pytest.mark.parametrize("name", EXAMPLES)
def test_round_trip(name: str, tmp_path: Path) -> None:
    written = EXAMPLES[name]()
    write_report(written, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == written
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def damaged(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A report's file after `change` of its data."""
    path = tmp_path / "report.json"
    write_report(report(artefact()), path)
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data["artefacts"][0].update(snr_db=float("nan")), "NaN"),
        (lambda data: data["artefacts"][0].update(snr_db=float("inf")), "Infinity"),
        (lambda data: data["artefacts"][0].pop("agreement"), "agreement"),
        (lambda data: data["artefacts"][0].pop("runner"), "runner"),
        (lambda data: data["artefacts"][0].update(speed=1), "speed"),
        (
            lambda data: data["artefacts"][0].update(agreement="1"),
            'agreement is "1"; it must be a number from 0 to 1',
        ),
        (lambda data: data["artefacts"][0].update(agreement=None), "agreement is null"),
        (lambda data: data["artefacts"][0].update(images=True), "images is true"),
        (lambda data: data["artefacts"][0].update(images=1.5), "images is 1.5"),
        (lambda data: data["artefacts"][0].update(top1_drop_ci95=[1, 0]), "top1_drop_ci95"),
        (lambda data: data["artefacts"][0]["flips"][0].pop("changed"), "changed"),
        (lambda data: data["artefacts"][0]["layers"].pop("method"), "method"),
        (lambda data: data["data"].pop("sha256"), "sha256"),
        (lambda data: data.pop("data"), "data"),
        (lambda data: data.update(schema=2), "schema 2"),
        (lambda data: data.pop("schema"), "schema null"),
    ],
)
def test_refused(change: Callable[[dict[str, Any]], object], said: str, tmp_path: Path) -> None:
    path = damaged(tmp_path, change)
    with pytest.raises(EdgeDeitError, match=r"run edge_deit\.validate again") as caught:
        read_report(path)
    assert said in str(caught.value)
    assert path.name in str(caught.value)


def test_no_report_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(EdgeDeitError, match="does not exist"):
        read_report(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"schema": 1,', encoding="utf-8")
    with pytest.raises(EdgeDeitError, match="is not JSON"):
        read_report(tmp_path / "half.json")


def test_a_figure_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(EdgeDeitError, match="JSON"):
        write_report(report(artefact(snr_db=float("inf"))), tmp_path / "report.json")
    assert not (tmp_path / "report.json").exists()


# Sentences and figures


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (
            artefact(),
            "deit_tiny.int8.tflite loses 0.3 points of top-1 (95 %: -0.7 to 1.7), same answer on "
            "98.3 %, 0.27 of the float size, 0.63 of its latency here",
        ),
        (
            artefact(top1_drop=-0.5, top1_drop_ci95=(-1.5, 0.25)),
            "deit_tiny.int8.tflite gains 0.5 points of top-1 (95 %: -0.2 to 1.5), same answer on "
            "98.3 %, 0.27 of the float size, 0.63 of its latency here",
        ),
        (
            artefact(top1_drop=0.0, top1_drop_ci95=(-1.0, 1.0), latency_ratio=1.5),
            "deit_tiny.int8.tflite neither loses nor gains top-1 (95 %: -1.0 to 1.0 points), same "
            "answer on 98.3 %, 0.27 of the float size, 1.50 of its latency here",
        ),
        (
            without_labels(),
            "deit_tiny.int8.tflite gives the same answer on 98.3 % of 300 photos, 0.27 of the float "
            "size, 0.63 of its latency here",
        ),
        (
            without_latency(),
            "deit_tiny.fp16.mlpackage loses 0.3 points of top-1 (95 %: -0.7 to 1.7), same answer on "
            f"98.3 %, 0.27 of the float size, latency not measured here ({STAND_IN})",
        ),
    ],
)
def test_summary_sentence(result: ArtefactResult, sentence: str) -> None:
    assert summary_sentence(result) == sentence


def test_figures_are_fields() -> None:
    assert all(hasattr(artefact(), name) for name in FIGURES)


def test_a_null_figure_has_its_reason() -> None:
    found = {cell.label: cell for cell in cells(without_labels())}
    assert found["top-1"].text == "\N{EN DASH}"
    assert found["top-1"].detail == ""
    assert found["top-1"].reasons == ("the photos have no labels",)
    assert found["same answer"].reasons == ()
    (cell,) = [one for one in cells(artefact(load_ms=None)) if one.label == "load"]
    assert cell.reasons == ("load_ms: the report gives no reason",)


def test_a_null_detail_has_its_reason() -> None:
    result = artefact(latency_ratio_ci95=None, notes={"latency_ratio_ci95": "too few rounds"})
    (cell,) = [one for one in cells(result) if one.label == "latency p50"]
    assert cell.text == "15.2 ms"
    assert cell.reasons == ("too few rounds",)


def test_equal_outputs_are_called_equal() -> None:
    (cell,) = [one for one in cells(artefact(snr_db=200.0)) if one.label == "logit SNR"]
    assert cell.text == "equal"


def test_artefacts_of_the_same_name_are_told_apart() -> None:
    both = report(artefact(path="a/x.onnx"), artefact(path="b/x.onnx"), artefact(path="c/y.onnx"))
    assert display_names(both) == ("a/x.onnx", "b/x.onnx", "y.onnx")


# Verdicts


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (None, "1 artefact compared with the float model"),
        (Verdict((check("passed"),)), "Passed: the one limit holds"),
        (Verdict((check("passed"), check("passed"))), "Passed: all 2 limits hold"),
        (Verdict((check("passed"), check("failed"))), "Failed: 1 of 2 limits does not hold"),
        (Verdict((check("failed"), check("failed"))), "Failed: 2 of 2 limits do not hold"),
        (Verdict((check("error"),)), "Could not judge: 1 problem"),
        (
            Verdict((check("failed"),), ("no baseline",)),
            "Could not judge: 1 problem, and 1 of 1 limits does not hold",
        ),
        (Verdict(()), "Could not judge: no limit was checked"),
    ],
)
def test_headline(verdict: Verdict | None, words: str) -> None:
    assert headline(report(artefact()), verdict) == words


# Markdown


def rows_of(text: str) -> list[list[str]]:
    return [line[1:-1].split("|") for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("name", EXAMPLES)
def test_markdown_tables_are_even(name: str) -> None:
    rows = rows_of(markdown(EXAMPLES[name]()))
    assert len({len(row) for row in rows}) <= 1
    assert len(rows) == (len(EXAMPLES[name]().artefacts) + 2 if rows else 0)


def test_markdown_says_what_matters() -> None:
    verdict = Verdict((check("passed"), check("failed")), ("baseline b.json is stale",))
    text = markdown(report(artefact(), without_latency()), verdict)
    assert text.startswith("### Edge DeiT\n\n**Could not judge: 1 problem, and 1 of 2 limits")
    assert "- **error** baseline b.json is stale" in text
    assert (
        "- **failed** <code>deit&#95;tiny.int8.tflite</code> min&#95;snr&#95;db: it failed" in text
    )
    assert "it passed" not in text
    assert "<sup>1</sup> reference numerics have no speed of their own" in text
    assert "reference numerics &#40;torch&#41;, not Core ML" in text
    assert "5 of 300 answers changed" in text
    assert ARM_NOTE in text
    assert text.count("no speed of their own") == 2, "below the table, and once in the details"
    assert "- 3 lost, 2 won, 0 neither" in text
    assert text.count("<details>") == text.count("</details>") == 2


def test_markdown_escapes() -> None:
    text = markdown(EXAMPLES["nasty names"]())
    for bad in ("<b>", "`x`", "very_long", "x` $"):
        assert bad not in text
    assert html.unescape(text).count(NASTY) >= 4


def test_step_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    write_step_summary("not written")
    path = tmp_path / "summary.md"
    path.write_text("before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    write_step_summary("é")
    assert path.read_text(encoding="utf-8") == "before\né\n"
    assert [found.name for found in tmp_path.iterdir()] == ["summary.md"]


# JUnit


def test_junit() -> None:
    other = check("error", artefact="other.onnx", limit="max_latency_ratio")
    verdict = Verdict((check("passed"), check("failed", limit="min_top1"), other), ("stale",))
    root = ET.fromstring(junit(report(artefact()), verdict))  # noqa: S314 (our own text)
    assert {key: root.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "4",
        "failures": "1",
        "errors": "2",
    }
    first, second, gate = root.findall("testsuite")
    assert (first.get("name"), first.get("tests"), first.get("failures")) == (
        "deit_tiny.int8.tflite",
        "2",
        "1",
    )
    properties = {one.get("name"): one.get("value") for one in first.iter("property")}
    assert properties["sha256"] == "a" * 64
    passed, failed = first.findall("testcase")
    assert list(passed) == []
    assert failed.get("name") == "min_top1"
    assert failed.findtext("failure") == "it failed"
    assert second.find("properties") is None
    assert second.findtext("testcase/error") == "it error"
    assert gate.findtext("testcase/error") == "stale"


def test_junit_of_nothing_is_no_success() -> None:
    root = ET.fromstring(junit(report(), Verdict(())))  # noqa: S314 (our own text)
    assert root.get("errors") == "1"


def test_junit_holds_valid_characters_only() -> None:
    wrong = Check("a\x00<\x1b", "min", None, 0.0, "failed", "x\x08 \ud800 \U0001f600 ]]>")
    root = ET.fromstring(junit(report(), Verdict((wrong,))))  # noqa: S314 (our own text)
    (failure,) = root.iter("failure")
    assert failure.text == "x\\x08 \\ud800 \U0001f600 ]]>"
    assert root[0].get("name") == "a\\x00<\\x1b"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda data: data["artefacts"][0].update(images=10**5),
            "images is 100000, more than data.images",
        ),
        (
            lambda data: data["artefacts"][0].update(labelled=301),
            "labelled is 301, more than its images",
        ),
        (
            lambda data: data["artefacts"].append(data["artefacts"][0]),
            r"artefacts\[1\] is there twice",
        ),
    ],
)
def test_figures_that_contradict_one_another(
    change: Callable[[dict[str, Any]], object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(EdgeDeitError, match=said):
        read_report(damaged(tmp_path, change))
