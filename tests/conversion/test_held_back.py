"""The photos that check a file took no part in its calibration."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edge_deit.artefacts.manifest import read_manifest
from edge_deit.checkpoint.load import Checkpoint, load_model
from edge_deit.common.files import hash_path
from edge_deit.common.progress import SILENT, Silent
from edge_deit.conversion.inputs import ExportPhotos, export_photos
from edge_deit.conversion.run import export_model


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def checkpoint(tiny_weights: Path) -> Checkpoint:
    return load_model(str(tiny_weights))


def many(folder: Path, count: int) -> Path:
    generator = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        pixels = generator.integers(0, 256, (70, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


def chosen(
    checkpoint: Checkpoint, folder: Path, count: int, checked: int, *, calibrates: bool = True
) -> tuple[ExportPhotos, list[str]]:
    notes = Notes()
    found = export_photos(
        checkpoint, folder, count=count, checked=checked, calibrates=calibrates, progress=notes
    )
    return found, notes.lines


@pytest.mark.parametrize(
    ("there", "count", "checked", "calibrating", "held"),
    [
        (60, 100, 20, 48, 12),  # one in five
        (60, 20, 20, 20, 12),  # more than enough
        (60, 100, 2, 58, 2),
        (10, 100, 20, 6, 4),  # at least four
        (6, 100, 20, 3, 3),  # never more than half
        (2, 100, 20, 1, 1),
    ],
)
def test_how_many(
    there: int, count: int, checked: int, calibrating: int, held: int, checkpoint: Checkpoint,
    tmp_path: Path,
) -> None:  # fmt: skip
    found, notes = chosen(checkpoint, many(tmp_path / "photos", there), count, checked)
    assert (len(found.calibration), len(found.checked)) == (calibrating, held)
    assert found.held_back
    assert notes == [
        f"{held} of {calibrating + held} photos are held back for the check: they calibrate nothing"
    ]
    assert not any(torch.equal(a[0], b) for a in found.calibration for b in found.checked)


def test_one_photo_does_both_and_it_is_said(checkpoint: Checkpoint, tmp_path: Path) -> None:
    found, notes = chosen(checkpoint, many(tmp_path / "photos", 1), 100, 20)
    assert (len(found.calibration), len(found.checked), found.held_back) == (1, 1, False)
    assert not notes


def test_float_files_take_any(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = many(tmp_path / "photos", 10)
    found, notes = chosen(checkpoint, folder, 100, 3, calibrates=False)
    assert (len(found.checked), found.held_back, notes) == (3, True, [])


def test_the_bundled_photos_are_others(checkpoint: Checkpoint) -> None:
    found = export_photos(checkpoint, None, count=5, checked=3, calibrates=True, progress=SILENT)
    assert (len(found.calibration), len(found.checked), found.held_back) == (5, 3, True)


def test_classes_are_spread(checkpoint: Checkpoint, photos: Path) -> None:
    found, _ = chosen(checkpoint, photos, 100, 20)
    assert (len(found.calibration), len(found.checked)) == (12, 4)
    hashes = {label: {hash_path(p) for p in (photos / label).iterdir()} for label in ("cat", "dog")}
    used = set(found.calibration.photo_sha256)
    assert [len(used & hashes[label]) for label in hashes] == [6, 6]


def test_the_manifest_says_it(tiny_weights: Path, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos / "cat", folder)
    done = export_model(
        str(tiny_weights), targets=["onnx"], precisions=["int8"], output=tmp_path / "out",
        calibration=folder, cache=False,
    )  # fmt: skip
    manifest = read_manifest(done.artefacts[0].path)
    assert (done.parity_images, done.held_back) == (4, True)
    assert manifest.parity["held_back"] is True
    assert manifest.calibration is not None
    assert manifest.calibration["images"] == len(manifest.calibration["photo_sha256"]) == 4
