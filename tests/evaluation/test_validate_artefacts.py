"""`validate_artefacts` as Python code calls it."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edge_deit.artefacts.manifest import manifest_path
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path
from edge_deit.common.lock import claimed
from edge_deit.evaluation.run import validate_artefacts
from edge_deit.report.report import Report, read_report

pytestmark = pytest.mark.slow  # exports small models

Files = tuple[Path, Path, Path]


class Told:
    """A `Progress` that remembers; `stop_after` steps it is interrupted."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.tasks: dict[str, int] = {}
        self.notes: list[str] = []
        self._left = stop_after

    @contextmanager
    def task(self, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        self.tasks[what] = 0

        def advance(steps: int) -> None:
            self.tasks[what] += steps
            if self._left is not None:
                self._left -= steps
                if self._left < 0:
                    raise KeyboardInterrupt

        yield advance

    def note(self, line: str) -> None:
        self.notes.append(line)


def same(one: Report, other: Report) -> bool:
    """Whether two reports differ in nothing but when and where they were made."""
    return replace(one, created="", environment={}) == replace(other, created="", environment={})


def test_nothing_is_written_or_printed(
    onnx_files: Files,
    labelled_photos: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    first = validate_artefacts(onnx_files, data=labelled_photos, runs=None)
    second = validate_artefacts(list(onnx_files[::-1]), data=labelled_photos, runs=None)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")
    assert [one.path for one in first.artefacts] == [path.name for path in onnx_files]
    assert (first.data.images, first.data.labelled, first.data.classes) == (24, 24, 4)
    assert first.artefacts == second.artefacts[::-1]
    assert all(one.latency_ratio is None for one in first.artefacts)
    assert all(one.layers is None for one in first.artefacts)


def test_a_thread_of_its_own(onnx_files: Files, labelled_photos: Path) -> None:
    found: list[Report] = []
    arguments = {"data": labelled_photos, "runs": None}
    thread = threading.Thread(
        target=lambda: found.append(validate_artefacts(onnx_files[:1], **arguments))  # type: ignore[arg-type]
    )
    thread.start()
    thread.join()
    assert same(found[0], validate_artefacts(onnx_files[:1], data=labelled_photos, runs=None))


def test_what_is_written_is_what_is_returned(
    onnx_files: Files, labelled_photos: Path, tmp_path: Path
) -> None:
    told = Told()
    report = validate_artefacts(
        onnx_files[:2], data=labelled_photos, runs=3, layer_images=2, output=tmp_path, progress=told
    )
    assert read_report(tmp_path / "report.json") == report
    assert {path.name for path in tmp_path.iterdir()} == {
        f"report.{k}" for k in ("json", "html", "md")
    }
    assert list(told.tasks.values()) == [
        24,
        6,
        2,
        2,
    ]  # photos; 3 loaded and 3 rounds; layers of two
    assert told.notes == []
    assert all(one.latency_runs == 3 and one.layers is not None for one in report.artefacts)


def test_a_stopped_run_leaves_no_report_and_goes_on(
    onnx_files: Files, labelled_photos: Path, tmp_path: Path
) -> None:
    """Two weights, with layers: stopped among the second one's photos, and then among the layers."""

    def run(told: Told) -> Report:
        return validate_artefacts(
            onnx_files,
            data=labelled_photos,
            runs=None,
            layer_images=3,
            output=tmp_path,
            progress=told,
        )

    expected = run(Told())
    assert read_report(tmp_path / "report.json") == expected
    for stop in (24 + 6 + 10, 7):
        told = Told(stop)
        with pytest.raises(KeyboardInterrupt):
            run(told)
        assert not list(tmp_path.glob("report.*"))
        assert not (tmp_path / ".validation.lock").exists()
    told = Told()
    assert same(run(told), expected)
    assert told.notes == [
        f"{count} photos were done before; went on behind them" for count in (24, 11)
    ]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_second_run_is_refused_at_once(
    onnx_files: Files, labelled_photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "report.json").write_text("old")
    with (
        claimed(tmp_path, "validation"),
        pytest.raises(
            EdgeDeitError, match=rf"in use by another validation, process {os.getpid()} on"
        ),
    ):
        validate_artefacts([Path("absent.onnx")], data=labelled_photos, output=tmp_path)
    assert (tmp_path / "report.json").read_text() == "old"
    assert not (tmp_path / ".validation.lock").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"artefacts": []}, "at least one artefact"),
        ({"artefacts": [Path("absent.onnx")]}, "does not exist"),
        ({"images": 0}, "--images is 0, it must be at least 1"),
        ({"threads": -1}, "--threads is -1"),
        ({"workers": 0}, "--workers is 0"),
        ({"runs": 0}, "--runs is 0"),
        ({"layer_images": -1}, "must not be negative"),
        ({"data": Path("nowhere")}, "nowhere does not exist"),
        ({"weights": "bundled"}, "is not the float model of"),
        ({"device_reports": [Path("gone.json")]}, "gone.json"),
    ],
)
def test_bad_input_keeps_the_old_report(
    change: dict[str, object],
    message: str,
    onnx_files: Files,
    labelled_photos: Path,
    tmp_path: Path,
) -> None:
    arguments = {"artefacts": onnx_files, "data": labelled_photos, **change}
    names = [f"report.{kind}" for kind in ("html", "json", "md")]
    for name in names:
        (tmp_path / name).write_text("old")
    with pytest.raises(EdgeDeitError, match=message):
        validate_artefacts(output=tmp_path, **arguments)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    with pytest.raises(EdgeDeitError, match=message):
        validate_artefacts(output=tmp_path / "new" / "er", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_a_photo_that_breaks_a_strict_run_leaves_no_report(
    onnx_files: Files, labelled_photos: Path, tmp_path: Path
) -> None:
    photos, output = tmp_path / "photos", tmp_path / "output"
    shutil.copytree(labelled_photos, photos)
    arguments = {"data": photos, "runs": None, "strict": True, "output": output}
    validate_artefacts(onnx_files[:1], **arguments)  # type: ignore[arg-type]
    (photos / "d" / "0.png").write_bytes(b"no image")
    with pytest.raises(EdgeDeitError, match=r"0\.png.*--strict"):
        validate_artefacts(onnx_files[:1], **arguments)  # type: ignore[arg-type]
    assert not list(output.glob("report.*"))


def calibrated_with(artefact: Path, folder: Path, hashes: object) -> Path:
    """A copy of an artefact whose manifest names these photo files."""
    copy = folder / artefact.name
    shutil.copy(artefact, copy)
    manifest = json.loads(manifest_path(artefact).read_text())
    manifest["calibration"]["photo_sha256"] = hashes
    manifest_path(copy).write_text(json.dumps(manifest))
    return copy


def test_strict_refuses_photos_of_the_calibration(
    onnx_files: Files, labelled_photos: Path, tmp_path: Path
) -> None:
    known = [hash_path(labelled_photos / name) for name in ("a/0.png", "c/3.png")] + ["0" * 64]
    int8 = calibrated_with(onnx_files[1], tmp_path, known)
    weights = onnx_files[0].parent / "64.safetensors"
    arguments = {"data": labelled_photos, "runs": None, "strict": True, "weights": str(weights)}
    with pytest.raises(EdgeDeitError, match=r"int8.*calibrated with 2 of these 24 photos"):
        validate_artefacts([onnx_files[0], int8], **arguments)  # type: ignore[arg-type]
    int8 = calibrated_with(onnx_files[1], tmp_path, ["0" * 64])
    validate_artefacts([int8], **arguments)  # type: ignore[arg-type]
