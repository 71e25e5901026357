"""A LiteRT file that takes images in MediaPipe's ImageClassifier: the answers and scores of `predict`.

MediaPipe resizes photos in a way of its own, so it gets the squares that `predict` cuts.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edge_deit import assets
from edge_deit.artefacts.manifest import read_manifest
from edge_deit.artefacts.predict import predict_photos
from edge_deit.common.quiet import quiet
from edge_deit.conversion.run import export_model
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import bytes_of, load_pixels
from environments import run_script
from shared import once

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("mediapipe")]

PHOTOS = 20
MOST_SCORE_DIFFERENCE = 1e-4


def _export(folder: Path) -> None:
    """Of real weights where this machine has some, else of the bundled ones."""
    chosen: dict[str, Any] = {}
    if real := os.environ.get("EDGE_DEIT_REAL"):
        chosen = {
            "weights": str(Path(real) / "deit_tiny_patch16_224" / "model.safetensors"),
            "calibration": Path(real) / "imagenet400",
            "labels": "imagenet-1k",
        }
    with quiet():
        export_model(
            targets=["tflite"],
            precisions=["fp32", "int8"],
            input_kind="image",
            output=folder,
            parity_images=4,
            calibration_images=16,
            **chosen,
        )


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    """The files, made once."""
    return once(shared / "mediapipe", _export)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_answers_are_those_of_predict(precision: str, folder: Path, tmp_path: Path) -> None:
    (path,) = folder.glob(f"*.{precision}.image.tflite")
    manifest = read_manifest(path)
    squares = []
    with assets.validation_folder() as bundled:
        real = os.environ.get("EDGE_DEIT_REAL")
        root = Path(real) / "imagenet400" if real else bundled
        photos = [one.path for one in list_photos(root, use="validation").pick(PHOTOS).photos]
        expected = predict_photos(path, photos)
        for index, photo in enumerate(photos):
            spec = manifest.preprocess_spec
            square = bytes_of(load_pixels(photo, spec), spec)[0]
            squares.append(tmp_path / f"{index}.png")
            Image.fromarray(square).save(squares[-1])
    found = run_script("mediapipe-1.2", "run_mediapipe.py", path, *squares)
    assert len(found) == PHOTOS
    for answer, prediction in zip(found, expected, strict=True):
        assert [index for index, _, _ in answer] == [one.index for one in prediction.top]
        for (_, name, score), one in zip(answer, prediction.top, strict=True):
            assert name == one.label
            assert abs(score - one.probability) < MOST_SCORE_DIFFERENCE
