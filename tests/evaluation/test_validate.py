"""`python -m edge_deit.validate` as a user runs it, on a small exported model."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import ROOT, CommandLine
from edge_deit.artefacts.manifest import manifest_path
from edge_deit.exporters import target as find_target
from edge_deit.report.report import Report, read_report
from report_examples import DEVICE_REPORT
from shared import once

pytestmark = pytest.mark.slow

if missing := find_target("onnx").missing():
    pytest.skip(f"needs {', '.join(missing)}", allow_module_level=True)


@pytest.fixture(scope="module")
def labelled(photos: Path, shared: Path) -> Path:
    """The generated photos with a labels.csv that names classes of the ten-class model."""

    def make(folder: Path) -> None:
        folder.mkdir()
        rows = []
        for index, photo in enumerate(sorted(photos.rglob("*.png"))):
            shutil.copy(photo, folder / f"{index}.png")
            rows.append((f"{index}.png", index % 10))
        with (folder / "labels.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("file", "label"), *rows])

    return once(shared / "labelled", make)


@pytest.fixture(scope="module")
def exported(tiny_weights: Path, labelled: Path, shared: Path) -> dict[str, Path]:
    """A float and an int8 file of the ten-class model."""

    def make(output: Path) -> None:
        command = [sys.executable, "-m", "edge_deit.export", "--target", "onnx"]
        options = ["--precision", "fp32", "--precision", "int8", "--weights", tiny_weights]
        places = ["--calibration", labelled, "--output", output]
        subprocess.run(
            [*command, *map(str, options), *map(str, places)],
            check=True,
            capture_output=True,
            cwd=ROOT,
        )

    output = once(shared / "validated", make)
    return {path.name.split(".")[-2]: path for path in output.glob("*.onnx")}


def run_validate(
    command_line: CommandLine, output: Path, *arguments: object
) -> tuple[subprocess.CompletedProcess[str], Report | None]:
    done = command_line("validate", *arguments, "--output", output)
    report = output / "report.json"
    return done, read_report(report) if report.is_file() else None


def test_report_of_two_files(
    exported: dict[str, Path], labelled: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    paths = [exported["int8"], exported["fp32"]]
    done, report = run_validate(
        command_line, tmp_path, *paths, "--data", labelled, "--runs", 10, "--layers"
    )
    assert done.returncode == 0, done.stderr
    assert report is not None
    assert [one.path for one in report.artefacts] == [path.name for path in paths]
    assert (report.data.images, report.data.labelled) == (16, 16)
    int8, fp32 = report.artefacts
    assert fp32.agreement == 1.0
    assert fp32.snr_db > 80
    assert (fp32.top1_drop, fp32.lost, fp32.won) == (0.0, 0, 0)
    assert 10 < int8.snr_db < fp32.snr_db
    assert int8.size_bytes < fp32.size_bytes
    for one in report.artefacts:
        assert one.latency_runs == 10
        assert one.latency_ratio_ci95 is not None
        assert one.latency_ratio_ci95[0] <= (one.latency_ratio or 0) <= one.latency_ratio_ci95[1]
        assert one.load_ms
        assert one.layers is not None
        assert one.layers.images == 8
        assert one.notes == {}
    assert fp32.layers is not None
    assert min(fp32.layers.snr_db) > 80
    assert "16 photos against the float model" in done.stdout
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert "top-1" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert not list(tmp_path.glob(".*"))
    lines = done.stderr.splitlines()  # where the machine is slow it says how far it is
    assert all(" left" in line or ": done in " in line for line in lines), lines


def test_a_class_s_photos_and_flips_add_up(
    exported: dict[str, Path], labelled: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    done, report = run_validate(
        command_line, tmp_path, exported["int8"], "--data", labelled, "--no-latency"
    )
    assert done.returncode == 0, done.stderr
    assert report is not None
    (one,) = report.artefacts
    assert sum(entry.images for entry in one.classes) == 16
    assert one.flips_total == round(16 * (1 - one.agreement))
    assert one.latency_ratio is None
    assert "--no-latency" in one.notes["latency_ratio"]


def test_photos_without_labels(
    exported: dict[str, Path], photos: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    done, report = run_validate(
        command_line, tmp_path, exported["int8"], "--data", photos / "cat", "--no-latency"
    )
    assert done.returncode == 0, done.stderr
    assert report is not None
    (one,) = report.artefacts
    assert (one.top1, one.top1_drop, one.mcnemar_p) == (None, None, None)
    assert one.notes["top1_drop"] == "the photos have no labels"
    assert one.agreement > 0


def test_broken_photos_are_listed_and_strict_refuses_them(
    exported: dict[str, Path], photos: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos / "cat", folder)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    arguments = (exported["fp32"], "--data", folder, "--no-latency")
    done, report = run_validate(command_line, tmp_path / "a", *arguments)
    assert done.returncode == 0, done.stderr
    assert report is not None
    assert [one.file for one in report.data.broken] == ["broken.png"]
    assert "1 broken photos left out: broken.png" in done.stdout
    done, report = run_validate(command_line, tmp_path / "b", *arguments, "--strict")
    assert (done.returncode, report) == (2, None)
    assert "broken.png" in done.stderr


def test_an_interrupted_run_goes_on(
    exported: dict[str, Path], labelled: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for index in range(400):
        os.link(labelled / f"{index % 16}.png", many / f"{index:03}.png")
    output = tmp_path / "output"
    arguments = [
        str(exported["int8"]),
        "--data",
        str(many),
        "--no-latency",
        "--output",
        str(output),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_deit.validate", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    journal = output / ".validate-0.jsonl"
    until = time.monotonic() + 60
    while not (journal.is_file() and journal.read_text().count("\n") > 5):
        assert time.monotonic() < until, "it did not start"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    if process.returncode != 130:
        pytest.fail(f"exit {process.returncode}, it was not interrupted in time: {errors}")
    assert not (output / "report.json").exists()
    done, report = run_validate(command_line, output, *arguments[:-2])
    assert done.returncode == 0, done.stderr
    assert "photos were done before" in done.stderr
    assert report is not None
    assert report.data.images == 400
    assert not journal.exists()


def test_phone_figures_are_matched_by_hash(
    exported: dict[str, Path], photos: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    manifest = json.loads(manifest_path(exported["int8"]).read_text())
    measured = {
        **DEVICE_REPORT["artefacts"][0],
        "path": exported["int8"].name,
        "sha256": manifest["sha256"],
        **{name: manifest[name] for name in ("target", "precision", "model")},
        "runner": "ONNX Runtime, 4 threads",
    }
    other = measured | {"sha256": "0" * 64, "runner": "another"}
    device = DEVICE_REPORT | {"artefacts": [measured, other]}
    file = tmp_path / "device.json"
    file.write_text(json.dumps(device))
    arguments = ("--data", photos / "cat", "--no-latency", "--device-report", file)
    done, report = run_validate(command_line, tmp_path / "out", *exported.values(), *arguments)
    assert done.returncode == 0, done.stderr
    assert report is not None
    by_precision = {one.precision: one for one in report.artefacts}
    (phone,) = by_precision["int8"].device
    assert (phone.latency_ms_p50, phone.runner) == (12.5, "ONNX Runtime, 4 threads")
    assert (phone.device.model, phone.build) == ("One", "release")
    assert by_precision["fp32"].device == ()
    assert "the phone agreed: 4 of 4 answers" in " ".join(done.stdout.split())
    assert "with another is left out: another export of that name (sha256 0000" in done.stderr
    page = (tmp_path / "out/report.md").read_text(encoding="utf-8")
    assert "the phone agreed" in page
    file.write_text(json.dumps(device | {"artefacts": [other]}))
    done, _ = run_validate(command_line, tmp_path / "no", exported["fp32"], *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "none of which is an artefact given here" in done.stderr


def test_step_summary_is_appended(
    exported: dict[str, Path],
    photos: Path,
    tmp_path: Path,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    arguments = ("--data", photos / "cat", "--no-latency")
    done, _ = run_validate(command_line, tmp_path / "out", exported["int8"], *arguments)
    assert done.returncode == 0, done.stderr
    text = summary.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert "int8.onnx" in text


def test_junit_and_verdict_of_the_gate(
    exported: dict[str, Path], labelled: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    done, _ = run_validate(
        command_line, tmp_path, exported["int8"], "--data", labelled, "--no-latency"
    )
    assert done.returncode == 0, done.stderr
    thresholds = tmp_path / "thresholds.toml"
    thresholds.write_text("[[rule]]\nprecision = 'int8'\nmin_images = 10\nmin_snr_db = 5\n")
    junit = tmp_path / "junit.xml"
    report = tmp_path / "report.json"
    done = command_line("gate", report, "--thresholds", thresholds, "--junit", junit)
    assert done.returncode == 0, done.stderr + done.stdout
    assert junit.read_text(encoding="utf-8").count("<testcase") == 2
    thresholds.write_text("[[rule]]\nprecision = 'int8'\nmin_images = 10\nmin_snr_db = 190\n")
    assert command_line("gate", report, "--thresholds", thresholds).returncode == 1
    thresholds.write_text("[[rule]]\nprecision = 'int8'\nmin_images = 17\n")
    assert command_line("gate", report, "--thresholds", thresholds).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.onnx",), "does not exist"),
        (("{int8}", "{int8}", "--data", "{photos}"), "named twice"),
        (("{int8}",), "give --data with your own photos"),
        (("{int8}", "--data", "nowhere"), "nowhere does not exist"),
        (("{int8}", "--data", "{photos}", "--images", "0"), "at least 1"),
        (("{int8}", "--data", "{photos}", "--weights", "bundled"), "is not the float model of"),
        (("{int8}", "--data", "{photos}", "--weights", "gone.safetensors"), "--weights says where"),
        (("{int8}", "--data", "{photos}", "--device-report", "gone.json"), "gone.json"),
    ],
)
def test_bad_input_is_one_line(
    arguments: tuple[str, ...],
    message: str,
    exported: dict[str, Path],
    photos: Path,
    tmp_path: Path,
    command_line: CommandLine,
) -> None:
    places = {"int8": exported["int8"], "photos": photos / "cat"}
    filled = [text.format(**places) for text in arguments]
    done, report = run_validate(command_line, tmp_path / "out", *filled)
    assert (done.returncode, report) == (2, None)
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
