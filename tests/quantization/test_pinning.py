"""Calibration photos that pin no ranges are said to, in the manifest too."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import TINY, CommandLine, random_model
from edge_deit import assets
from edge_deit.checkpoint.load import Checkpoint, load_model
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.data.calibration import calibration_set
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.exporters import target as find_target
from edge_deit.model.deploy import deploy
from edge_deit.quantization.observe import LayerView, importance_pass
from edge_deit.quantization.pinning import Pinning, look_forward, measure_pinning
from shared import once


@pytest.fixture(scope="module")
def bundled() -> Checkpoint:
    return load_model("bundled")


@pytest.fixture(scope="module")
def photos(bundled: Checkpoint) -> torch.Tensor:
    with assets.calibration_folder() as folder:
        return calibration_set(folder, bundled.preprocess, 40).pixels


def pinning(checkpoint: Checkpoint, pixels: torch.Tensor) -> Pinning:
    views: dict[str, LayerView] = {}
    importance_pass(deploy(checkpoint.model), pixels.split(1), views)
    hashes = [hashlib.sha256(one.numpy().tobytes()).hexdigest() for one in pixels]
    return measure_pinning(views.values(), hashes)


def test_enough_photos_pin_the_ranges(bundled: Checkpoint, photos: torch.Tensor) -> None:
    found = pinning(bundled, photos)
    assert found.pinned
    assert found.photos == 40
    assert found.notes() == []


@pytest.mark.parametrize("count", [2, 4, 8])
def test_few_photos_do_not(bundled: Checkpoint, photos: torch.Tensor, count: int) -> None:
    found = pinning(bundled, photos[:count])
    assert not found.pinned
    (note,) = found.notes()
    assert f"({count} photos; without half of them ranges move by " in note
    assert "more that differ" in note


def test_one_photo(bundled: Checkpoint, photos: torch.Tensor) -> None:
    found = pinning(bundled, photos[:1])
    assert found.movement is None
    (note,) = found.notes()
    assert "(one photo): give about 24 more" in note


def test_copies_count_once(bundled: Checkpoint, photos: torch.Tensor) -> None:
    found = pinning(bundled, torch.cat([photos[:4]] * 20))
    assert found.photos == 4
    assert "(80 photos, 4 of them different; without half of them " in found.notes()[0]
    once = pinning(bundled, photos[:4])
    assert found.movement == pytest.approx(once.movement)


def test_photos_that_look_all_alike(bundled: Checkpoint, photos: torch.Tensor) -> None:
    grain = torch.randn(30, *photos.shape[1:], generator=torch.Generator().manual_seed(1))
    for base in (torch.zeros_like(photos[:1]), photos[:1]):
        (note,) = pinning(bundled, base + 1e-3 * grain).notes()
        assert "30 photos, which look all alike to the model" in note


def test_movement_is_that_of_random_halves(bundled: Checkpoint, photos: torch.Tensor) -> None:
    """The formula, against halves that are really left out."""
    views: dict[str, LayerView] = {}
    importance_pass(deploy(bundled.model), photos[:16].split(1), views)
    rng = np.random.default_rng(0)
    moved = []
    for view in views.values():
        for tensor in (view.input, view.output):
            each = np.asarray(tensor.extremes)
            width = each[:, 1].max() - each[:, 0].min()
            halves = np.stack([each[rng.permutation(16)[:8]].mean(0) for _ in range(400)])
            moved.append(np.sqrt(((halves - each.mean(0)) ** 2).mean(0)).mean() / width)
    found = measure_pinning(views.values(), ())
    assert found.movement == pytest.approx(float(np.median(moved)), rel=0.05)


SQUARES = replace(TINY, depth=2, image_size=32, num_classes=3)


@pytest.fixture
def small(shared: Path) -> Path:
    def write(path: Path) -> None:
        spec = PreprocessSpec(resize_size=32, crop_size=32)
        save_checkpoint(path, random_model(SQUARES), spec, ("a", "b", "c"), half=False)

    return once(shared / "pinning.safetensors", write)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "precision"),
    [
        ("onnx", "int8"),
        ("onnx", "int8-dynamic"),
        ("tflite", "int8-full"),
        ("onnx", "int4"),
        ("coreml", "palettized-6"),
        ("coreml", "palettized-4"),
    ],
)
def test_manifest_and_output_say_it(
    small: Path, tmp_path: Path, command_line: CommandLine, target: str, precision: str
) -> None:
    """Photos that hardly differ, all in one folder; whatever learns from them says so."""
    if missing := find_target(target).missing():
        pytest.skip(f"needs {', '.join(missing)}")
    folder = tmp_path / "photos" / "cat"
    folder.mkdir(parents=True)
    for index in range(12):
        Image.new("RGB", (40, 40), (index, 0, 0)).save(folder / f"{index}.png")
    done = command_line(
        "export",
        *("--weights", small, "--target", target, "--precision", precision),
        *("--calibration", tmp_path / "photos", "--output", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out").glob("*.json")
    kept = json.loads(path.read_text())["calibration"]
    assert kept["pinned"] is False
    assert kept["images"] == 8
    assert len(kept["photo_sha256"]) == 8
    said = " ".join((done.stdout + done.stderr).split())
    assert len(kept["notes"]) == 2
    for note in kept["notes"]:
        assert said.count(note) == 1
    assert "do not pin what is learned" in kept["notes"][0]
    assert "look all alike to the model" in kept["notes"][0]
    assert "one class folder, cat" in kept["notes"][1]


def test_a_forward_pass_sees_what_the_survey_sees(
    bundled: Checkpoint, photos: torch.Tensor
) -> None:
    form = deploy(bundled.model)
    seen = measure_pinning(look_forward(form, photos[:8].split(1)).values(), ())
    found = pinning(bundled, photos[:8])
    assert seen.movement == pytest.approx(found.movement, rel=1e-4)
    assert not form.patch_embed._forward_hooks
