"""An artefact whose process dies is named, with exit code 2, and the others are judged all the same."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from artefact_examples import copy_of, make_abort

from conftest import CommandLine
from edge_deit.artefacts.artefact import Artefact
from edge_deit.artefacts.runners import ArtefactRunner, RunnerCrashError, open_runner
from edge_deit.evaluation import measure
from edge_deit.evaluation.run import validate_artefacts
from edge_deit.report.report import read_report

pytestmark = pytest.mark.slow  # exports small models

Files = tuple[Path, Path, Path]


class Dying:
    """A runner whose process is killed, as a damaged file would do it, after some photos."""

    up_to_a_constant = False

    def __init__(self, runner: ArtefactRunner, photos: int) -> None:
        self._runner, self._left = runner, photos

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        if not self._left:
            assert self._runner._worker is not None
            process = self._runner._worker._process
            process.send_signal(signal.SIGSEGV)
            process.wait()
        self._left -= 1
        return self._runner(pixels)

    def __enter__(self) -> Dying:
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.close()


def kill(monkeypatch: pytest.MonkeyPatch, doomed: Path, photos: int) -> None:
    """The artefact's process will die after so many photos, at the first try and at each later one."""

    def open_and_doom(artefact: Artefact, *arguments: Any) -> ArtefactRunner | Dying:
        runner = open_runner(artefact, *arguments)
        return Dying(runner, photos) if artefact.path == doomed else runner

    monkeypatch.setattr(measure, "open_runner", open_and_doom)


@pytest.mark.parametrize("photos", [0, 7])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_others_are_judged(
    place: int,
    photos: int,
    onnx_files: Files,
    labelled_photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    living = [path for index, path in enumerate(onnx_files) if index != place]
    expected = validate_artefacts(living, data=labelled_photos, runs=None)
    kill(monkeypatch, onnx_files[place], photos)
    name = onnx_files[place].name
    with pytest.raises(RunnerCrashError, match=rf"{name}: ONNX Runtime crashed \(SIGSEGV\)"):
        validate_artefacts(onnx_files, data=labelled_photos, runs=None, output=tmp_path)
    found = read_report(tmp_path / "report.json")
    assert found.artefacts == expected.artefacts
    assert found.data.images == 24
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".validate")]


def test_no_artefact_left_is_no_report(
    onnx_files: Files, labelled_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(monkeypatch, onnx_files[0], 1)
    with pytest.raises(RunnerCrashError, match="crashed"):
        validate_artefacts(onnx_files[:1], data=labelled_photos, runs=None, output=tmp_path)
    assert not list(tmp_path.glob("report.*"))


def test_a_file_that_ends_its_runtime(
    exported: Callable[[str], Path], tmp_path: Path, photos: Path, command_line: CommandLine
) -> None:
    crashing = copy_of(exported("executorch"), tmp_path / "pte")
    make_abort(crashing)
    other = exported("onnx")
    weights = other.parent.parent / "tiny.safetensors"
    options = ("--data", next(photos.iterdir()), "--no-latency", "--output", tmp_path / "report",
               "--weights", weights)  # fmt: skip
    done = command_line("validate", crashing, other, *options)
    assert done.returncode == 2, done.stderr
    assert f"error: {crashing.name}: ExecuTorch crashed (SIGABRT) while loading" in done.stderr
    report = read_report(tmp_path / "report" / "report.json")
    assert [one.path for one in report.artefacts] == [other.name]
    photo = next(photos.rglob("*.png"))
    done = command_line("predict", crashing, photo)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"error: {crashing.name}: ExecuTorch crashed (SIGABRT) while loading" in done.stderr
