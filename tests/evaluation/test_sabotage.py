"""Ways to damage an artefact or what it is measured with; validation and gate must find each one.

`pytest tests/evaluation/test_sabotage.py -s` prints the table of docs/validation.md.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT
from edge_deit import assets, export, gate, validate
from edge_deit.artefacts.manifest import manifest_path
from edge_deit.common.console import run
from edge_deit.common.files import hash_path, size_of
from edge_deit.exporters import target as find_target
from shared import once

pytestmark = pytest.mark.slow

for _name in ("onnx", "coreml"):
    if missing := find_target(_name).missing():
        pytest.skip(f"needs {', '.join(missing)}", allow_module_level=True)

IMAGES = 60
ONNX, COREML = "deit_tiny_distilled.int8.onnx", "deit_tiny_distilled.int8.mlpackage"
CASES: dict[str, tuple[int, str, Callable[[Sabotage], Outcome]]] = {}
"""What is done -> exit code, the limit that fails (code 1) or words of the message (2), how it is done."""


@dataclass
class Outcome:
    """Exit code and message of the first command that objects, or of the gate."""

    command: str
    code: int
    message: str


class Sabotage:
    """A folder with good artefacts, photos and limits, to be damaged and then judged."""

    def __init__(self, folder: Path, good: Path, call: Callable[..., Outcome]) -> None:
        self.folder, self.good, self.call = folder, good, call
        self.data = good / "photos"
        self.arguments: list[object] = []
        self.gate_arguments: list[object] = []

    def artefact(self, name: str = ONNX) -> Path:
        """A copy of a good artefact and its manifest."""
        place = self.folder / name
        if place.exists():
            return place
        (shutil.copytree if name == COREML else shutil.copy)(self.good / name, place)
        shutil.copy(manifest_path(self.good / name), manifest_path(place))
        return place

    def photos(self) -> Path:
        """A copy of the photos, to be changed."""
        self.data = self.folder / "photos"
        shutil.copytree(self.good / "photos", self.data)
        return self.data

    def edit_manifest(self, path: Path, change: Callable[[dict[str, Any]], None]) -> None:
        place = manifest_path(path)
        content = json.loads(place.read_text())
        change(content)
        place.write_text(json.dumps(content))

    def rehash(self, path: Path) -> None:
        """Let the manifest describe the damaged file, as a broken converter's would."""
        found = {"sha256": hash_path(path), "size_bytes": size_of(path)}
        self.edit_manifest(path, lambda content: content.update(found))

    def judge(self, path: Path) -> Outcome:
        """Validate, and gate the report where there is one."""
        output = self.folder / "report"
        common = ("--data", self.data, "--no-latency", "--output", output, *self.arguments)
        outcome = self.call(validate, path, *common)
        if outcome.code:
            return outcome
        limits = ("--thresholds", self.good / "thresholds.toml", *self.gate_arguments)
        return self.call(gate, output / "report.json", *limits)


@pytest.fixture(scope="module")
def good(shared: Path) -> Path:
    """Exports of the bundled model, photos with labels, limits and a baseline report."""
    return once(shared / "good", _make_good)


def _make_good(folder: Path) -> None:
    folder.mkdir()
    common = ("--precision", "int8", "--calibration-images", "8", "--output", str(folder))
    for target in ("onnx", "coreml"):
        assert _call_quietly(export, "--target", target, *common).code == 0
    with assets.validation_folder() as source:
        rows = list(csv.DictReader((source / "labels.csv").open(newline="")))
        rows = rows[:: len(rows) // IMAGES][:IMAGES]
        (folder / "photos").mkdir()
        for row in rows:
            shutil.copy(source / row["file"], folder / "photos" / row["file"])
    _write_labels(folder / "photos", [(row["file"], int(row["label"])) for row in rows])
    limits = (ROOT / "thresholds.toml").read_text()
    (folder / "thresholds.toml").write_text(
        re.sub(r"^(min_images|min_labelled) = 100", rf"\1 = {IMAGES}", limits, flags=re.M).replace(
            "min_top1_float = 25", "min_top1_float = 72"
        )
    )


def _write_labels(folder: Path, rows: list[tuple[str, int]]) -> None:
    with (folder / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("file", "label"), *rows])


def _read_labels(folder: Path) -> list[tuple[str, int]]:
    with (folder / "labels.csv").open(newline="") as stream:
        return [(row["file"], int(row["label"])) for row in csv.DictReader(stream)]


def _call_quietly(module: Any, *arguments: object) -> Outcome:
    before = sys.argv
    sys.argv = [module.__name__, *map(str, arguments)]
    try:
        run(module.app, module.__name__)
    except SystemExit as end:
        assert isinstance(end.code, int)
        return Outcome(module.__name__.rpartition(".")[2], end.code, "")
    finally:
        sys.argv = before
    raise AssertionError("a command always exits")


@pytest.fixture
def sabotage(good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Sabotage:
    def call(module: Any, *arguments: object) -> Outcome:
        capfd.readouterr()
        outcome = _call_quietly(module, *arguments)
        printed, errors = capfd.readouterr()
        return Outcome(outcome.command, outcome.code, " ".join(f"{errors} {printed}".split()))

    return Sabotage(tmp_path, good, call)


def case(what: str, code: int, message: str) -> Callable[[Any], Any]:
    """Register a way to do damage."""

    def keep(function: Callable[[Sabotage], Outcome]) -> Callable[[Sabotage], Outcome]:
        CASES[what] = (code, message, function)
        return function

    return keep


# The manifest


@case("mean and std swapped in the manifest", 2, "preprocessing than its weights (mean")
def _(s: Sabotage) -> Outcome:
    path = s.artefact()

    def swap(content: dict[str, Any]) -> None:
        spec = content["preprocessing"]
        spec["mean"], spec["std"] = spec["std"], spec["mean"]

    s.edit_manifest(path, swap)
    return s.judge(path)


@case("another resize in the manifest", 2, "(resize exact, not shortest)")
def _(s: Sabotage) -> Outcome:
    path = s.artefact()
    s.edit_manifest(path, lambda content: content["preprocessing"].update(resize="exact"))
    return s.judge(path)


@case("labels in another order in the manifest", 2, "other labels than its weights")
def _(s: Sabotage) -> Outcome:
    path = s.artefact()
    s.edit_manifest(path, lambda content: content["labels"].reverse())
    return s.judge(path)


@case("the manifest of another artefact", 2, "sha256 differs")
def _(s: Sabotage) -> Outcome:
    path = s.artefact()
    shutil.copy(manifest_path(s.artefact(COREML)), manifest_path(path))
    return s.judge(path)


# The file


@case("file cut short", 2, "cut short")
def _(s: Sabotage) -> Outcome:
    path = s.artefact()
    path.write_bytes(path.read_bytes()[:-1000])
    return s.judge(path)


@case("file cut short, the manifest says so", 2, "is not a usable .onnx file")
def _(s: Sabotage) -> Outcome:
    path = s.artefact()
    path.write_bytes(path.read_bytes()[:-1000])
    s.rehash(path)
    return s.judge(path)


def edit_onnx(path: Path, names: set[str], change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the one constant of a graph that has one of these names."""
    import onnx

    model = onnx.load(path)
    (entry,) = [entry for entry in model.graph.initializer if entry.name in names]
    changed = change(onnx.numpy_helper.to_array(entry).copy())
    entry.CopyFrom(onnx.numpy_helper.from_array(changed, entry.name))
    onnx.save(model, path)


def damaged_onnx(
    s: Sabotage, names: set[str], change: Callable[[np.ndarray], np.ndarray]
) -> Outcome:
    path = s.artefact()
    edit_onnx(path, names, change)
    s.rehash(path)
    return s.judge(path)


def weight_scale(layer: str) -> set[str]:
    """Names that the scales of a layer's weights can have: integer layer, or integer weights alone."""
    return {f"{layer}.weight_scale", f"{layer}.weight.scales"}


@case("one layer's scale doubled", 1, "min_snr_db")
def _(s: Sabotage) -> Outcome:
    return damaged_onnx(s, weight_scale("blocks.5.mlp.fc2"), lambda scale: 2 * scale)


@case("NaN in a weight", 2, "NaN or infinite")
def _(s: Sabotage) -> Outcome:
    def spoil(scale: np.ndarray) -> np.ndarray:
        scale[3] = np.nan
        return scale

    return damaged_onnx(s, weight_scale("head"), spoil)


@case("channels read as BGR by the file", 1, "min_snr_db")
def _(s: Sabotage) -> Outcome:
    return damaged_onnx(s, {"grey_levels.std"}, lambda std: 0.5 * std[:, ::-1])


# Calibration


@case("calibrated on noise", 1, "min_snr_db")
def _(s: Sabotage) -> Outcome:
    noise = s.folder / "noise"
    noise.mkdir()
    generator = np.random.default_rng(0)
    for index in range(8):
        pixels = generator.integers(0, 256, (28, 28, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(noise / f"{index}.png")
    arguments = ("--target", "onnx", "--calibration", noise, "--output", s.folder)
    outcome = s.call(export, *arguments)
    return outcome if outcome.code else s.judge(s.folder / ONNX)


# Core ML packages


def edit_package(s: Sabotage, change: Callable[[list[Any]], None]) -> Outcome:
    """Change the operations of a package's program."""
    from coremltools.models.utils import load_spec, save_spec

    path = s.artefact(COREML)
    (file,) = path.rglob("*.mlmodel")
    spec = load_spec(str(file))
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    change(block.operations)
    save_spec(spec, str(file), weights_dir=None)
    s.rehash(path)
    return s.judge(path)


@case("two operators of a Core ML program swapped", 1, "min_snr_db")
def _(s: Sabotage) -> Outcome:
    def swap(operations: list[Any]) -> None:
        gelu = [operation for operation in operations if operation.type == "gelu"]
        first, second = gelu[2], gelu[7]
        a, b = first.inputs["x"].arguments[0].name, second.inputs["x"].arguments[0].name
        softmax = [operation for operation in operations if operation.type == "softmax"]
        left, right = softmax[1].inputs["x"].arguments[0], softmax[4].inputs["x"].arguments[0]
        assert a != b
        right.name = left.name

    return edit_package(s, swap)


@case("wrong weight offset in a Core ML program", 1, "min_snr_db")
def _(s: Sabotage) -> Outcome:
    def shift(operations: list[Any]) -> None:
        stored = [
            operation.attributes["quantized_data"]
            for operation in operations
            if operation.type == "constexpr_affine_dequantize"
        ]
        shape = stored[5].type
        alike = [value for value in stored if value.type == shape]
        alike[0].blobFileValue.offset = alike[1].blobFileValue.offset

    return edit_package(s, shift)


@case("wrong scale in a Core ML program", 1, "min_snr_db")
def _(s: Sabotage) -> Outcome:
    def scale(operations: list[Any]) -> None:
        quantize = [operation for operation in operations if operation.type == "quantize"]
        value = quantize[10].inputs["scale"].arguments[0]
        raise_scale(operations, value, 4.0)

    return edit_package(s, scale)


def raise_scale(operations: list[Any], value: Any, factor: float) -> None:
    """Multiply the constant that an argument names."""
    import struct

    (constant,) = [o for o in operations if o.type == "const" and o.outputs[0].name == value.name]
    tensor = constant.attributes["val"].immediateValue.tensor
    stored = tensor.bytes.values
    (old,) = struct.unpack("<e", stored)
    tensor.bytes.values = struct.pack("<e", factor * old)


# Photos and labels


@case("labels shuffled", 1, "min_top1_float")
def _(s: Sabotage) -> Outcome:
    folder = s.photos()
    rows = _read_labels(folder)
    shifted = [label for _, label in rows[7:] + rows[:7]]
    _write_labels(folder, [(file, label) for (file, _), label in zip(rows, shifted, strict=True)])
    return s.judge(s.artefact())


@case("photos inverted", 1, "min_top1_float")
def _(s: Sabotage) -> Outcome:
    folder = s.photos()
    for file, _ in _read_labels(folder):
        image = Image.open(folder / file).convert("RGB")
        image.point(lambda value: 255 - value).save(folder / file)
    return s.judge(s.artefact())


@case("labels of a dataset with more classes", 2, "is this another dataset?")
def _(s: Sabotage) -> Outcome:
    folder = s.photos()
    _write_labels(folder, [(file, label + 100) for file, label in _read_labels(folder)])
    return s.judge(s.artefact())


@case("empty data folder", 2, "no image in")
def _(s: Sabotage) -> Outcome:
    s.data = s.folder / "empty"
    s.data.mkdir()
    return s.judge(s.artefact())


@case("all photos broken", 2, "none of 60 photos can be read")
def _(s: Sabotage) -> Outcome:
    folder = s.photos()
    for file, _ in _read_labels(folder):
        (folder / file).write_bytes(b"no image")
    return s.judge(s.artefact())


@case("too few photos", 2, "min_images")
def _(s: Sabotage) -> Outcome:
    s.arguments = ["--images", 20]
    return s.judge(s.artefact())


# Reports


@case("a baseline made from other weights", 2, "weights")
def _(s: Sabotage) -> Outcome:
    path = s.artefact()
    assert s.judge(path).code == 0
    stale = s.folder / "stale.json"
    content = json.loads((s.folder / "report" / "report.json").read_text())
    content["artefacts"][0]["weights_sha256"] = "0" * 64
    stale.write_text(json.dumps(content))
    s.gate_arguments = ["--baseline", stale]
    return s.judge(path)


@case("other float weights beside the artefact", 2, "is not the float model of")
def _(s: Sabotage) -> Outcome:
    path = s.artefact()
    s.edit_manifest(path, lambda content: content["weights"].update(sha256="0" * 64))
    return s.judge(path)


@case("NaN in the report", 2, "NaN")
def _(s: Sabotage) -> Outcome:
    path = s.artefact()
    assert s.judge(path).code == 0
    report = s.folder / "report" / "report.json"
    report.write_text(re.sub(r'"snr_db": [\d.]+', '"snr_db": NaN', report.read_text()))
    return s.call(gate, report, "--thresholds", s.good / "thresholds.toml")


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    rows: list[str] = []
    yield rows
    print("\n| damage | found by | exit | message |\n|---|---|---|---|")
    print("\n".join(rows))


@pytest.mark.parametrize("name", [ONNX, COREML])
def test_good_files_pass(name: str, sabotage: Sabotage) -> None:
    outcome = sabotage.judge(sabotage.artefact(name))
    assert outcome.code == 0, outcome.message


@pytest.mark.parametrize("what", CASES)
def test_damage_is_found(what: str, sabotage: Sabotage, table: list[str]) -> None:
    code, message, damage = CASES[what]
    outcome = damage(sabotage)
    assert outcome.code == code, outcome
    wanted = rf"{message} \S+ \S+ failed" if code == 1 else re.escape(message)
    found = re.search(wanted, outcome.message)
    assert found, outcome
    said = found[0] if code == 1 else outcome.message[found.start() :][:120]
    table.append(f"| {what} | {outcome.command} | {outcome.code} | {said} |")
