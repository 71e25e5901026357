"""Device reports: the contract's example is read, every fault is refused with its place."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, CommandLine
from edge_deit.common.errors import EdgeDeitError
from edge_deit.report.device_records import App, CostShares, Device, Residency
from edge_deit.report.device_report import DeviceReport, read_device_report
from edge_deit.report.device_rows import phone_sentence
from edge_deit.report.phone_result import phone_results
from report_examples import DEVICE_REPORT as REPORT

Change = Callable[[dict[str, Any]], object]


def written(folder: Path, data: object) -> Path:
    path = folder / "report.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def changed(change: Change) -> dict[str, Any]:
    data = copy.deepcopy(REPORT)
    change(data)
    return data


def with_figure(name: str, value: object) -> Change:
    return lambda report: report["artefacts"][0].update({name: value})


def test_everything_is_read(tmp_path: Path) -> None:
    report = read_device_report(written(tmp_path, REPORT))
    assert report.created == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert report.app == App("edge-deit-android", "0.1.0", "release")
    assert report.device == Device("Müller", "One", "Android", "16", None, 8)
    (one,) = report.artefacts
    expected = REPORT["artefacts"][0]
    assert {name: plain(getattr(one, name)) for name in expected} == expected
    assert plain(report.protocol) == REPORT["protocol"]
    assert plain(report.conditions) == REPORT["conditions"]


def plain(value: object) -> object:
    """As it is in the file."""
    return vars(value) if hasattr(value, "__dataclass_fields__") else value


def test_a_phone_of_the_other_kind(tmp_path: Path) -> None:
    def as_iphone(report: dict[str, Any]) -> None:
        report["app"]["name"] = "edge-deit-ios"
        report["device"] |= {"os": "iOS", "soc": "A17"}
        one = report["artefacts"][0]
        one |= {"threads": None, "peak_rss_bytes": 123456789, "notes": {}}
        report["artefacts"].append(one | {"runner": "Core ML, cpuOnly"})

    report = read_device_report(written(tmp_path, changed(as_iphone)))
    assert [one.residency for one in report.artefacts] == [None, None]
    assert isinstance(report, DeviceReport)
    assert report.device.soc == "A17"
    assert [(one.threads, one.peak_rss_bytes) for one in report.artefacts] == [
        (None, 123456789.0),
        (None, 123456789.0),
    ]


PLAN = {
    **{"cpu": 12, "gpu": 0, "neural_engine": 240},
    "cost": {"cpu": 0.03, "gpu": 0, "neural_engine": 0.97},
}
COST = PLAN["cost"]


def planned(**changes: object) -> Change:
    """The example of an iPhone whose plan has these entries."""

    def change(report: dict[str, Any]) -> None:
        report["app"]["name"] = "edge-deit-ios"
        report["device"]["os"] = "iOS"
        report["artefacts"][0]["residency"] = PLAN | changes

    return change


def test_a_plan_is_read(tmp_path: Path) -> None:
    (one,) = read_device_report(written(tmp_path, changed(planned()))).artefacts
    assert one.residency == Residency(12, 0, 240, CostShares(0.03, 0.0, 0.97))
    assert one.residency.total == 252


@pytest.mark.parametrize("plan", [None, PLAN | {"cost": None}])
def test_a_plan_or_its_cost_may_be_null(plan: dict[str, Any] | None, tmp_path: Path) -> None:
    def change(report: dict[str, Any]) -> None:
        planned()(report)
        report["artefacts"][0]["residency"] = plan

    (one,) = read_device_report(written(tmp_path, changed(change))).artefacts
    assert one.residency == (None if plan is None else Residency(12, 0, 240, None))


def as_browser(report: dict[str, Any]) -> None:
    report["app"]["name"] = "edge-deit-web"
    report["device"] |= {"os": "Web", "os_version": "Chromium 156 on Linux", "model": None}
    report["device"]["manufacturer"] = None


def test_a_browser_need_not_name_its_device(tmp_path: Path) -> None:
    report = read_device_report(written(tmp_path, changed(as_browser)))
    assert report.app == App("edge-deit-web", "0.1.0", "release")
    assert report.device == Device(None, None, "Web", "Chromium 156 on Linux", None, 8)


@pytest.mark.parametrize("entry", ["manufacturer", "model"])
def test_a_phone_names_itself(entry: str, tmp_path: Path) -> None:
    data = changed(lambda report: report["device"].update({entry: None}))
    with pytest.raises(EdgeDeitError, match=r"model is null; it must be a text for edge-deit-andr"):
        read_device_report(written(tmp_path, data))


def test_an_artefact_that_did_not_run_there(tmp_path: Path) -> None:
    figures = ("latency_ms_p50", "latency_ms_p90", "load_ms", "load_warm_ms", "first_run_ms")
    figures += ("preprocess_ms_p50", "peak_rss_bytes", "check")
    absent = dict.fromkeys(figures) | {"runs": 0, "notes": dict.fromkeys(figures, "did not load")}
    data = changed(lambda report: report["artefacts"][0].update(absent))
    (one,) = read_device_report(written(tmp_path, data)).artefacts
    assert (one.runs, one.latency_ms_p50, one.notes["load_ms"]) == (0, None, "did not load")


FAULTS: dict[str, tuple[Change, str]] = {
    "schema": (
        lambda r: r.update(schema=1),
        "has schema 1, this version reads 2; build the app of this",
    ),
    "schema true": (lambda r: r.update(schema=True), "schema true"),
    "no schema": (lambda r: r.pop("schema"), "schema null"),
    "kind": (lambda r: r.update(kind="x"), 'kind is "x"; it must be edge-deit-device-report'),
    "unknown entry": (lambda r: r.update(more=1), "more is unknown"),
    "missing entry": (lambda r: r["device"].pop("cores"), "device.cores is missing"),
    "missing figure": (
        lambda r: r["artefacts"][0].pop("load_ms"),
        r"artefacts\[0\]\.load_ms is missing",
    ),
    "time": (lambda r: r.update(created="yesterday"), "created is .*2026-01-31T12:00:00Z"),
    "time zone": (lambda r: r.update(created="2026-01-31T12:00:00+02:00"), "a time in UTC"),
    "no time zone": (lambda r: r.update(created="2026-01-31T12:00:00"), "a time in UTC"),
    "time as number": (lambda r: r.update(created=1), "created is 1; it must be a time in UTC"),
    "app": (lambda r: r["app"].update(name="other"), "edge-deit-ios or edge-deit-web"),
    "app as list": (lambda r: r["app"].update(name=[]), r"name is \[\]"),
    "wrong system": (lambda r: r["device"].update(os="iOS"), "os is iOS; it must be Android"),
    "device as text": (lambda r: r.update(device="phone"), "device is .*an object"),
    "no model": (lambda r: r["device"].update(model=" "), "model is .*not empty"),
    "soc": (lambda r: r["device"].update(soc=7), "soc is 7"),
    "cores": (
        lambda r: r["device"].update(cores=0),
        "cores is 0; it must be a whole number of at least 1",
    ),
    "cores true": (lambda r: r["device"].update(cores=True), "cores is true"),
    "nothing measured": (lambda r: r.update(artefacts=[]), r"artefacts is \[\]"),
    "artefacts as object": (lambda r: r.update(artefacts={}), r"artefacts is \{\}"),
    "artefact as text": (lambda r: r.update(artefacts=["a"]), r"artefacts\[0\] is .*an object"),
    "twice": (
        lambda r: r["artefacts"].append(r["artefacts"][0]),
        "was measured twice with 'LiteRT",
    ),
    "path": (with_figure("path", "../a.tflite"), "without folders"),
    "backslash": (with_figure("path", "..\\a.tflite"), "without folders"),
    "sha256": (with_figure("sha256", "ABC"), "sha256 is .*64 hexadecimal"),
    "runner": (with_figure("runner", None), "runner is null"),
    "threads": (with_figure("threads", 2.5), "threads is 2.5"),
    "runs": (with_figure("runs", 0), "runs is 0"),
    "negative": (with_figure("load_ms", -1.0), "load_ms is -1.0; it must be a number above 0"),
    "zero": (with_figure("latency_ms_p50", 0), "latency_ms_p50 is 0"),
    "figure as text": (with_figure("load_ms", "80"), "load_ms is .*a number above 0"),
    "figure as truth": (with_figure("load_ms", True), "load_ms is true"),
    "null without note": (with_figure("load_ms", None), "load_ms is null and notes have no reason"),
    "memory without note": (with_figure("notes", {}), "peak_rss_bytes is null and notes"),
    "empty note": (with_figure("notes", {"peak_rss_bytes": ""}), "notes.peak_rss_bytes is"),
    "notes as list": (with_figure("notes", []), r"notes is \[\]"),
    "build": (lambda r: r["app"].update(build="fast"), "build is .*release or debug"),
    "other runs": (with_figure("runs", 30), r"runs is 30; the protocol has 100"),
    "other photo": (
        lambda r: r["protocol"].update(photo_width=1920),
        r"protocol is not that of schema 2 \(photo_width 4032, photo_height 3024, warm_up 5, runs 100",
    ),
    "no protocol": (lambda r: r.pop("protocol"), "protocol is missing"),
    "thermal": (lambda r: r["conditions"].update(thermal_end=3), "thermal_end is 3"),
    "no conditions": (lambda r: r.pop("conditions"), "conditions is missing"),
    "foreground": (lambda r: r["conditions"].update(left_foreground="no"), "true or false"),
    "no warm load": (with_figure("load_warm_ms", None), "load_warm_ms is null and notes"),
    "no check": (with_figure("check", None), "check is null and notes have no reason"),
    "check": (with_figure("check", {}), "check.reference is missing"),
    "more than all": (
        lambda r: r["artefacts"][0]["check"].update(same_top=5),
        "same_top is more than its images",
    ),
    "plan of another app": (
        with_figure("residency", PLAN),
        r"artefacts\[0\]\.residency is only known to edge-deit-ios; leave it out",
    ),
    "plan as text": (
        lambda r: r["artefacts"][0].update(residency="all"),
        "residency is .*an object",
    ),
    "plan with more": (planned(npu=1), "residency.npu is unknown"),
    "plan without GPU": (
        lambda r: r["artefacts"][0].update(residency={"cpu": 1, "neural_engine": 1, "cost": None}),
        "residency.gpu is missing",
    ),
    "plan without cost": (
        lambda r: r["artefacts"][0].update(residency={"cpu": 1, "gpu": 0, "neural_engine": 1}),
        "residency.cost is missing",
    ),
    "operators": (planned(cpu=-1), "residency.cpu is -1; it must be a whole number of at least 0"),
    "half an operator": (planned(gpu=0.5), "residency.gpu is 0.5"),
    "operators true": (planned(gpu=True), "residency.gpu is true"),
    "no operators": (planned(cpu=0, neural_engine=0), "residency has no operator"),
    "cost as number": (planned(cost=1), "residency.cost is 1; it must be an object"),
    "cost with more": (planned(cost={**COST, "npu": 0}), "cost.npu is unknown"),
    "cost without GPU": (planned(cost={"cpu": 0.5, "neural_engine": 0.5}), "cost.gpu is missing"),
    "cost below 0": (
        planned(cost={**COST, "gpu": -0.5}),
        "cost.gpu is -0.5; it must be a number from 0 to 1",
    ),
    "cost above 1": (planned(cost={**COST, "cpu": 1.5}), "cost.cpu is 1.5"),
    "cost true": (planned(cost={**COST, "cpu": True}), "cost.cpu is true"),
    "half of the cost": (
        planned(cost={**COST, "neural_engine": 0.5}),
        "residency has a cost of 0.53 in all; it must be 1",
    ),
    "cost of nothing": (
        planned(cost={"cpu": 0, "gpu": 0.5, "neural_engine": 0.5}),
        "residency has a cost of gpu but no operator there",
    ),
    "percentiles": (with_figure("latency_ms_p90", 12), "less than latency_ms_p50, 12.5"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_refused(name: str, tmp_path: Path) -> None:
    change, message = FAULTS[name]
    path = written(tmp_path, changed(change))
    with pytest.raises(EdgeDeitError, match=message) as caught:
        read_device_report(path)
    assert str(caught.value).startswith(f"device report {path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_refused(number: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(REPORT).replace("80.25", number), encoding="utf-8")
    with pytest.raises(EdgeDeitError, match=r"Infinity|NaN|1e999 is too large"):
        read_device_report(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b"[]"])
def test_what_is_no_report_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(EdgeDeitError, match=r"report\.json"):
        read_device_report(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(EdgeDeitError, match="does not exist"):
        read_device_report(tmp_path / "none.json")
    with pytest.raises(EdgeDeitError, match="is a folder"):
        read_device_report(tmp_path)


# What a reader is told


def shown(change: Change = lambda report: None) -> list[str]:
    """A sentence on each entry of the example, changed."""
    with tempfile.TemporaryDirectory() as folder:
        found = read_device_report(written(Path(folder), changed(change)))
    return [phone_sentence(one) for one in phone_results(found)]


def test_the_phone_agreed() -> None:
    (line,) = shown()
    assert line == (
        "Müller One, Android 16, 8 cores: LiteRT 2.3.0, CPU, 4 threads, p50 12.5 ms, p90 13.0 ms; "
        "the phone agreed: 4 of 4 answers, lowest cosine 0.99980; it became warm (light)"
    )


def test_the_phone_differs_and_with_which_file() -> None:
    check = {"reference": "deit_tiny.fp32.tflite", "images": 4, "same_top": 3, "cosine": 0.5}
    (line,) = shown(with_figure("check", check))
    assert (
        "the phone differs: 3 of 4 answers, lowest cosine 0.50000 with those of deit_tiny.fp32"
        in line
    )
    (web,) = shown(as_browser)
    assert "the browser agreed" in web


def test_what_was_not_compared_says_why() -> None:
    def alone(report: dict[str, Any]) -> None:
        report["artefacts"][0] |= {"check": None}
        report["artefacts"][0]["notes"]["check"] = "the bundle has no answers"

    (line,) = shown(alone)
    assert "not compared with Python's (the bundle has no answers)" in line


def test_what_core_ml_planned_is_said() -> None:
    (line,) = shown(planned())
    plan = "Neural Engine 240 of 252 operators (97.0 % of the cost), CPU 12 (3.0 % of the cost)"
    assert f"lowest cosine 0.99980; Core ML's plan: {plan}; it became warm" in line
    (line,) = shown(planned(cost=None, neural_engine=0, gpu=5))
    assert "; Core ML's plan: GPU 5 of 17 operators, CPU 12; " in line
    assert "plan" not in shown()[0]


def test_why_there_is_no_plan_is_said() -> None:
    notes = {"peak_rss_bytes": "not told", "residency": "Core ML tells its plan from iOS 17.4 on"}
    (line,) = shown(with_figure("notes", notes))
    assert "; Core ML's plan: Core ML tells its plan from iOS 17.4 on; " in line


def test_what_makes_figures_worth_less_is_said() -> None:
    def spoilt(report: dict[str, Any]) -> None:
        report["app"]["build"] = "debug"
        report["conditions"] |= {"left_foreground": True, "power_saver": True}
        report["conditions"] |= {"screen_kept_on": False, "thermal_begin": "serious"}

    (line,) = shown(spoilt)
    for words in ("a debug build", "left the foreground", "saved power", "screen was not kept on"):
        assert words in line
    assert "it was warm at the beginning (serious)" in line
    assert "became warm" not in line


def test_the_command_shows_a_report_alone(command_line: CommandLine, tmp_path: Path) -> None:
    done = command_line("device", written(tmp_path, REPORT))
    assert done.returncode == 0, done.stderr
    for words in (
        "Müller One, Android 16",
        "edge-deit-android 0.1.0, release",
        "12.5 ms",
        "100.0 %",
    ):
        assert words in done.stdout, done.stdout
    assert "\\n" not in done.stdout
    for line in (
        "deit_tiny.int8.tflite, LiteRT 2.3.0, CPU, 4 threads, 100 runs",
        "  latency p90              13.0 ms",
        "  cosine to Python         0.99980",
    ):
        assert line in done.stdout.splitlines()
    assert "[1] the system does not tell" in done.stdout
    assert "- it became warm (light)" in done.stdout


def test_the_command_shows_a_plan_or_why_there_is_none(
    command_line: CommandLine, tmp_path: Path
) -> None:
    def two(report: dict[str, Any]) -> None:
        planned()(report)
        first = report["artefacts"][0]
        notes = first["notes"] | {"residency": "too old"}
        report["artefacts"].append(first | {"runner": "b", "residency": None, "notes": notes})

    done = command_line("device", written(tmp_path, changed(two)))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    plan = "Neural Engine 240 of 252 operators (97.0 % of the cost), CPU 12 (3.0 % of the cost)"
    assert f"  Core ML's plan           {plan}" in lines
    assert "  Core ML's plan           \N{EN DASH} [3]" in lines
    assert "[3] too old" in lines
    done = command_line("device", written(tmp_path, REPORT))
    assert "plan" not in done.stdout


@pytest.mark.parametrize("file", ["none.json", "empty.json"])
def test_the_command_refuses_what_is_no_report(
    file: str, command_line: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "empty.json").write_text("{}", encoding="utf-8")
    done = command_line("device", written(tmp_path, REPORT), tmp_path / file)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert file in done.stderr


# Beside the fp32 file


def with_fp32(**changes: Any) -> Change:
    """A second entry, of the fp32 file, whose median is 25 ms."""

    def change(report: dict[str, Any]) -> None:
        first = report["artefacts"][0]
        other = {"path": "a.fp32.tflite", "sha256": "f" * 64, "precision": "fp32"}
        slow = {"latency_ms_p50": 25.0, "latency_ms_p90": 30.0}
        report["artefacts"].append(first | other | slow | changes)

    return change


def test_latency_is_set_beside_the_fp32_files(tmp_path: Path) -> None:
    report = read_device_report(written(tmp_path, changed(with_fp32())))
    assert [one.latency_ratio for one in phone_results(report)] == [0.5, 1.0]


@pytest.mark.parametrize(
    "changes", [{"runner": "LiteRT 2.3.0, GPU"}, {"target": "executorch"}, {"model": "deit_small"}]
)
def test_another_runner_target_or_model_gives_no_ratio(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    report = read_device_report(written(tmp_path, changed(with_fp32(**changes))))
    one = phone_results(report)[0]
    assert one.latency_ratio is None
    assert "no latency of the fp32 file for tflite" in one.notes["latency_ratio"]


def test_what_did_not_run_has_no_ratio(tmp_path: Path) -> None:
    def failed(report: dict[str, Any]) -> None:
        with_fp32()(report)
        first = report["artefacts"][0]
        first |= {"latency_ms_p50": None, "latency_ms_p90": None, "runs": 0}
        first["notes"] |= {"latency_ms_p50": "no GPU", "latency_ms_p90": "no GPU"}

    one, other = phone_results(read_device_report(written(tmp_path, changed(failed))))
    assert (one.latency_ratio, one.notes["latency_ratio"]) == (None, "no GPU")
    assert other.latency_ratio == 1.0


def test_what_the_work_was_given_to_is_told() -> None:
    (line,) = shown(lambda report: report["artefacts"][0].update(delegate="XNNPACK"))
    assert "LiteRT 2.3.0, CPU, 4 threads (XNNPACK), p50" in line
    (line,) = shown(lambda report: report["artefacts"][0].update(delegate="cpu"))
    assert "LiteRT 2.3.0, CPU, 4 threads, p50" in line


def test_the_schema_takes_the_example_and_no_other_entry() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    text = (ROOT / "docs/device-report.schema.json").read_text(encoding="utf-8")
    validator = jsonschema.Draft202012Validator(json.loads(text))
    assert validator.is_valid(REPORT)
    for change in (with_figure("delegate", ""), with_figure("npu", 1), with_figure("threads", 0)):
        assert not validator.is_valid(changed(change))
