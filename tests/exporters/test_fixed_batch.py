"""Files that take a fixed number of photos at once: every photo gets the answer of a file for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from artefact_examples import copy_of, sign

from conftest import TINY, CommandLine, random_model
from edge_deit.artefacts.artefact import read_artefact
from edge_deit.artefacts.inside import open_layer_reader
from edge_deit.artefacts.predict import predict_photos
from edge_deit.artefacts.runners import open_runner
from edge_deit.common.errors import EdgeDeitError
from edge_deit.conversion.run import export_model
from edge_deit.emulation.run import measure_arm64
from edge_deit.exporters import TARGETS, target
from edge_deit.mobile.bundle import bundle_artefacts
from edge_deit.mobile.golden import golden_of
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deploy import deploy
from shared import once

Files = Callable[..., Path]
PIXELS = np.random.default_rng(0).standard_normal((10, 3, 64, 64)).astype(np.float32)


@pytest.fixture(scope="session")
def batch_file(shared: Path, tiny_weights: Path, photos: Path, exported: Files) -> Files:
    """The tiny model's file of a target, in a precision and for a number of photos, made once."""

    def file(name: str, batch: int, precision: str = "fp32", **settings: Any) -> Path:
        if (batch, precision, settings) == (1, "fp32", {}):
            return exported(name)
        if missing := target(name).missing():
            pytest.skip(f"{', '.join(missing)} not installed")

        def write(folder: Path) -> None:
            export_model(
                str(tiny_weights),
                targets=[name],
                precisions=[precision],  # type: ignore[list-item]
                output=folder,
                batch=batch,
                calibration=photos,
                calibration_images=6,
                parity_images=3,
                **settings,
            )

        kind = "_".join([name, str(batch), precision, *map(str, settings.values())])
        (path,) = once(shared / f"batch_{kind}", write).glob(f"*{target(name).suffix}")
        return path

    return file


@pytest.mark.parametrize("photos", [2, 3])
@pytest.mark.parametrize("classes", [0, 10])
def test_the_form_gives_each_photo_its_own_answer(photos: int, classes: int) -> None:
    config = replace(TINY, num_classes=classes, distilled=True, distillation_head=bool(classes))
    form = deploy(random_model(config))
    pixels = torch.from_numpy(PIXELS[:photos])
    with torch.inference_mode():
        together = form(pixels)
        single = torch.cat([form(one) for one in pixels.split(1)])
    assert together.shape == single.shape
    assert torch.allclose(together, single, atol=1e-5)


def single_answers(path: Path) -> np.ndarray:
    with open_runner(path, 1) as runner:
        assert runner.photos == 1
        return np.concatenate([runner(one[None]) for one in PIXELS])


@pytest.mark.parametrize(
    ("name", "precision", "batch"),
    [
        *((name, "fp32", 3) for name in TARGETS if name != "coreai"),
        ("tflite", "int8", 3),
        ("onnx", "fp32", 8),
    ],
)
def test_answers_are_those_of_the_file_for_one(
    name: str, precision: str, batch: int, batch_file: Files
) -> None:
    """Ten photos leave the last batch unfilled; the order of the photos changes no answer."""
    expected = single_answers(batch_file(name, 1, precision))
    path = batch_file(name, batch, precision)
    assert f".{precision}.batch{batch}." in path.name
    manifest = read_artefact(path).manifest
    assert manifest.input["shape"] == [batch, 3, 64, 64]
    assert manifest.output["shape"] == [batch, 10]
    near = 1e-5 * np.abs(expected).max()
    with open_runner(path, 1) as runner:
        assert np.abs(runner(PIXELS) - expected).max() < near
        assert np.abs(runner(PIXELS[::-1]) - expected[::-1]).max() < near
        assert np.abs(runner(PIXELS[4:5]) - expected[4:5]).max() < near
        with pytest.raises(EdgeDeitError, match="takes pixels"):
            runner(PIXELS[:, :, :60])


def test_the_file_itself_has_that_size(batch_file: Files) -> None:
    """As the runtime says of it, without this project's runner."""
    import onnxruntime

    session = onnxruntime.InferenceSession(batch_file("onnx", 3))
    assert session.get_inputs()[0].shape == [3, 3, 64, 64]
    (found,) = session.run(None, {"pixels": PIXELS[:3]})
    assert np.allclose(found, single_answers(batch_file("onnx", 1))[:3], atol=1e-5)


@pytest.mark.parametrize("name", ["onnx", "tflite", "executorch"])
def test_photos_as_bytes(name: str, batch_file: Files, exported: Files, photos: Path) -> None:
    path = batch_file(name, 3, "fp32", input_kind="image")
    assert read_artefact(path).manifest.input["shape"] == [3, 64, 64, 3]
    images = sorted(photos.rglob("*.png"))[:5]
    found = predict_photos(path, images, top=10)
    for one, other in zip(found, predict_photos(exported(name), images, top=10), strict=True):
        assert one.image == other.image
        ours = {c.index: c.probability for c in one.top}
        assert max(abs(ours[c.index] - c.probability) for c in other.top) < 1e-5


def test_validate_judges_all_photos_and_times_one(
    batch_file: Files, photos: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    files = [batch_file("tflite", 1), batch_file("tflite", 3)]
    loose, report = photos / "dog", tmp_path / "report"
    options = "--runs", 5, "--layers", "--output", report
    result = command_line("validate", *files, "--data", loose, *options)
    assert result.returncode == 0, result.stderr
    one, three = json.loads((report / "report.json").read_text())["artefacts"]
    assert one["images"] == three["images"] == 8
    assert three["agreement"] == 1
    assert three["snr_db"] == pytest.approx(one["snr_db"], abs=1)
    assert three["layers"]["snr_db"] == pytest.approx(one["layers"]["snr_db"], abs=1)
    assert "3 photos at once" in three["runner"]
    assert "at once" not in one["runner"]
    assert three["latency_runs"] == 5
    assert three["latency_ms_p50"] > 0


@pytest.mark.parametrize(
    "name", [name for name in TARGETS if target(name).layer_reader is not None]
)
def test_layers_of_the_first_photo_are_shown(name: str, batch_file: Files) -> None:
    pixels, found = PIXELS[:1], []
    for batch in (1, 3):
        artefact = read_artefact(batch_file(name, batch))
        config = DeiTConfig(**artefact.manifest.config)  # type: ignore[arg-type]
        with open_layer_reader(artefact, config) as reader:
            found.append(reader.read(pixels))
    one, three = found
    assert one.keys() == three.keys()
    for point, values in one.items():
        assert values.shape == three[point].shape, point
        assert np.abs(values - three[point]).max() <= 1e-4 * np.abs(values).max(), point


def test_what_hands_over_one_photo_refuses_such_a_file(batch_file: Files, tmp_path: Path) -> None:
    path = batch_file("tflite", 3)
    with pytest.raises(EdgeDeitError, match=r"takes 3 photos at once .* export it without --batch"):
        bundle_artefacts([path], android=tmp_path)
    with pytest.raises(EdgeDeitError, match="golden cases are for an app that classifies one"):
        golden_of(path, output=tmp_path / "golden")
    with pytest.raises(EdgeDeitError, match="arm64 counts the instructions of one"):
        measure_arm64([path], output=tmp_path / "arm64")
    assert not list(tmp_path.iterdir())


def test_a_manifest_cannot_ask_for_all_memory(batch_file: Files, tmp_path: Path) -> None:
    path = copy_of(batch_file("onnx", 3), tmp_path)
    shape = [10**9, 3, 64, 64]
    sign(path, input={"name": "pixels", "dtype": "float32", "shape": shape})
    with pytest.raises(EdgeDeitError, match="at most 64 photos at once"):
        read_artefact(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 65, "targets": ["onnx"]}, "--batch is 65; it must be from 1 to 64"),
        ({"batch": 2, "targets": ["onnx"], "dynamic_batch": True}, "leave --batch out"),
        ({"batch": 2, "layout": "huggingface"}, "--layout huggingface take any number"),
        (
            {"batch": 2, "targets": ["tflite"], "precisions": ["int8-full"]},
            "tflite has no int8-full with --batch 2: its scales",
        ),
    ],
)
def test_requests_that_cannot_be_met(
    settings: dict[str, Any], message: str, tiny_weights: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgeDeitError, match=message):
        export_model(str(tiny_weights), output=tmp_path / "out", calibration=photos, **settings)
    assert not (tmp_path / "out").exists()
