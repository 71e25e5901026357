"""A `.pte` for Core ML's delegate wherever a command runs a file: by the package that is in it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from artefact_examples import copy_of, pixels_for, sign

from conftest import CommandLine
from edge_deit.artefacts.artefact import read_artefact
from edge_deit.artefacts.inside import open_layer_reader
from edge_deit.artefacts.predict import predict_photos
from edge_deit.artefacts.process import Worker
from edge_deit.artefacts.runners import RunnerCrashError, open_runner
from edge_deit.conversion.run import export_model
from edge_deit.exporters import target
from edge_deit.mobile.golden import golden_of
from edge_deit.model.config import DeiTConfig
from shared import once

if missing := [*target("executorch").missing(), *target("coreml").missing()]:
    pytest.skip(f"needs {', '.join(missing)}", allow_module_level=True)
if sys.platform == "darwin":
    pytest.skip("macOS runs the Core ML delegate itself", allow_module_level=True)

STANDS_IN = "the package in the .pte is checked with reference numerics"


@pytest.fixture(scope="module")
def artefact(shared: Path, tiny_weights: Path) -> Path:
    """The tiny model's `.pte` for Core ML's delegate, in fp32, made once."""

    def write(folder: Path) -> None:
        made = export_model(
            str(tiny_weights),
            targets=["executorch"],
            precisions=["fp32"],
            backend="coreml",
            output=folder,
            parity_images=2,
        )
        (one,) = made.artefacts
        assert STANDS_IN in str(one.stand_in)
        assert one.closeness.snr_db > 100
        assert one.closeness.images == 2

    (path,) = once(shared / "enclosed_files", write).glob("*.pte")
    return path


def test_the_manifest_says_what_checked_it(artefact: Path) -> None:
    parity = read_artefact(artefact).manifest.parity
    assert STANDS_IN in parity["runner"]
    assert parity["snr_db"] > 100


def test_answers_are_those_of_the_package_exported_alone(
    artefact: Path, exported: Callable[[str], Path], photos: Path
) -> None:
    images = sorted(photos.rglob("*.png"))[:2]
    found = predict_photos(artefact, images, top=10)
    expected = predict_photos(exported("coreml"), images, top=10)
    for one, other in zip(found, expected, strict=True):
        assert STANDS_IN in str(one.stand_in)
        assert [c.index for c in one.top] == [c.index for c in other.top]
        assert [c.logit for c in one.top] == pytest.approx([c.logit for c in other.top], abs=1e-4)


@pytest.mark.parametrize("isolated", [True, False])
def test_runners_and_layers_agree(isolated: bool, artefact: Path) -> None:
    pixels = pixels_for(0)
    opened = read_artefact(artefact)
    with open_runner(opened, 1, isolated=isolated) as runner:
        logits = runner(pixels)
    assert logits.shape == (1, 10)
    if isolated:
        config = DeiTConfig(**opened.manifest.config)
        with open_layer_reader(opened, config) as reader:
            assert reader.method.startswith("model.mlpackage in the .pte: reference numerics")
            assert np.array_equal(reader.read(pixels)["logits"], logits[0])


def test_golden_cases_say_what_stood_in(artefact: Path, tmp_path: Path) -> None:
    _, said = golden_of(artefact, output=tmp_path / "golden")
    assert STANDS_IN in str(said)


def test_its_process_leaves_nothing(
    artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither when it is closed, nor when it is killed in between."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Worker("executorch", "coreml") as worker:
        runner = worker.load(artefact, 1)
        (scratch,) = tmp_path.iterdir()
        assert list(scratch.iterdir()) == []  # the package is not kept
        os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(RunnerCrashError, match="the reference for Core ML was killed"):
            runner(pixels_for(0))
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_backend_is_refused(
    artefact: Path,
    exported: Callable[[str], Path],
    tmp_path: Path,
    photos: Path,
    command_line: CommandLine,
) -> None:
    """Its manifest says the one, and the program is the other: one line, exit code 2."""
    image = next(photos.rglob("*.png"))
    said = copy_of(exported("executorch"), tmp_path / "one")
    sign(said, backend="coreml")
    other = copy_of(artefact, tmp_path / "other")
    sign(other, backend="xnnpack")
    cut = copy_of(artefact, tmp_path / "cut")
    cut.write_bytes(cut.read_bytes()[:-1000])
    sign(cut)
    for path, message in (
        (said, "its delegates are XnnpackBackend, not CoreMLBackend once; export it again"),
        (other, "which runs on macOS and iOS only"),
        (cut, "cut short: byte"),
    ):
        done = command_line("predict", path, image)
        assert done.returncode == 2
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("error: ")
        assert message in line
