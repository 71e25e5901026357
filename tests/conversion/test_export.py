"""The whole command on a small model: every target and precision, on photos, against torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import CommandLine
from edge_deit.artefacts.manifest import read_manifest
from edge_deit.checkpoint.load import load_model
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import load_pixels
from edge_deit.exporters import TARGETS, target
from edge_deit.exporters.tflite.file import kind, read
from edge_deit.metrics.outputs import closeness
from edge_deit.model.outputs import outputs
from edge_deit.quantization.scheme import PRECISIONS
from shared import once

NORMS = {"blocks.0.norm1", "blocks.0.norm2", "blocks.1.norm1", "blocks.1.norm2", "norm"}
SETTLED = ("fp32", "fp16", "int8", "int8-dynamic", "int8-full")  # others have tests of their own
PAIRS = [(name, one) for name in TARGETS for one in target(name).precisions if one in SETTLED]


@pytest.fixture(scope="module")
def artefacts(shared: Path, tiny_weights: Path, photos: Path) -> Path:
    """One run of the command for all targets and precisions."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "edge_deit.export", "--target", "all"]
        for precision in SETTLED:
            command += ["--precision", precision]
        command += ["--weights", str(tiny_weights), "--calibration", str(photos)]
        command += ["--output", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (folder / "stdout.txt").write_text(done.stdout, encoding="utf-8")
        (folder / "stderr.txt").write_text(done.stderr, encoding="utf-8")

    return once(shared / "artefacts", make)


def find(folder: Path, name: str, precision: str) -> Path:
    (path,) = folder.glob(f"*.{precision}{target(name).suffix}")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("name", "precision"), PAIRS)
def test_artefact_matches_the_float_model(
    name: str, precision: str, artefacts: Path, tiny_weights: Path, photos: Path
) -> None:
    artefact = find(artefacts, name, precision)
    manifest = read_manifest(artefact)
    runner = target(name).load_runner(artefact, 1)
    model = load_model(str(tiny_weights)).model
    loaded = [load_pixels(p.path, manifest.preprocess_spec) for p in list_photos(photos).photos]
    pixels = torch.from_numpy(np.concatenate(loaded))
    found = np.concatenate([runner(photo.numpy()) for photo in pixels.split(1)])
    reference = outputs(model, pixels.split(1)).numpy()
    result = closeness(reference, found, classes=True)
    if precision == "fp32":
        assert result.max_abs <= 1e-3
    assert result.cosine >= {"fp32": 0.9999, "fp16": 0.999, "int8-full": 0.9}.get(precision, 0.95)


@pytest.mark.slow
def test_full_integers_hold_grey_levels_exactly(artefacts: Path) -> None:
    model = read(find(artefacts, "tflite", "int8-full"))
    (graph,) = model.subgraphs
    (first,) = (one for one in graph.operators if kind(model, one) == "CONV_2D")
    levels = graph.tensors[first.inputs[0]].quantization
    assert levels.scale == pytest.approx([1 / 255])
    assert list(levels.zeroPoint) == [-128]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "precision"), PAIRS)
def test_manifest_says_what_the_file_is(name: str, precision: str, artefacts: Path) -> None:
    manifest = read_manifest(find(artefacts, name, precision))
    assert (manifest.target, manifest.precision) == (name, precision)
    assert manifest.input["name"] == "pixels"
    assert manifest.input["shape"] == [1, 3, 64, 64]
    assert manifest.output["name"] == "logits"
    assert manifest.labels[9] == "class 9"
    learned = ("int8", "int8-dynamic", "int8-full")  # weights, where ranges are found at run time
    assert (manifest.calibration is not None) == (precision in learned)
    assert manifest.parity["cosine"] > 0.9
    half = {"tflite": ("fp16", "int8", "int8-dynamic"), "coreml": ("int8",)}.get(name, ())
    assert manifest.scheme.get("half_remainder", False) is (precision in half)
    assert ("token_scaled" in manifest.scheme) is (precision in ("int8", "int8-dynamic"))
    ranges = manifest.scheme.get("ranges", {})
    assert bool(ranges) is (precision == "int8"), "int8-full has other ranges"
    parts = {part for ends in ranges.values() for part in ends}
    rounded = {"output"} if name in ("executorch", "tflite") else set()
    assert parts == ({"input", "methods"} | rounded if ranges else set())
    norms = set(manifest.scheme.get("single", {}))
    assert norms == (NORMS if (name, precision) == ("onnx", "fp16") else set())


@pytest.mark.slow
def test_output_is_a_table_without_noise(artefacts: Path) -> None:
    text = (artefacts / "stdout.txt").read_text(encoding="utf-8")
    assert "\\n" not in text  # headings of two lines
    rows = [line.split() for line in text.splitlines() if len(line.split()) > 8]
    assert [(row[0].rstrip("*"), row[1]) for row in rows if row[1] in PRECISIONS] == sorted(
        PAIRS, key=lambda pair: PRECISIONS.index(pair[1])
    )
    notes = (artefacts / "stderr.txt").read_text(encoding="utf-8").splitlines()
    expected = (
        "left out",
        "are held back for the check",
        "is checked on 2 photos",  # where a runtime is very slow here
        str(artefacts),
        " left",
        ": done in ",
    )  # the last two where it takes long
    assert all(any(words in line for words in expected) for line in notes), notes


@pytest.mark.slow
def test_predict_prints_what_the_runner_says(
    artefacts: Path, photos: Path, command_line: CommandLine
) -> None:
    artefact = find(artefacts, "onnx", "int8")
    image = photos / "dog" / "1.png"
    result = command_line("predict", artefact, image, "--json")
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(result.stdout)
    pixels = load_pixels(image, read_manifest(artefact).preprocess_spec)
    logits = target("onnx").load_runner(artefact, 2)(pixels)[0]
    assert [entry["index"] for entry in row["top"]] == np.argsort(-logits)[:5].tolist()
    assert row["top"][0]["logit"] == pytest.approx(float(logits.max()), abs=1e-5)
    assert row["top"][0]["label"] == f"class {logits.argmax()}"


@pytest.mark.slow
def test_doctor_lists_every_target(command_line: CommandLine) -> None:
    result = command_line("doctor")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert all(name in result.stdout for name in TARGETS)
