"""A LiteRT file that takes images in MediaPipe's ImageClassifier: the answers and scores of `predict`.

MediaPipe resizes photos in a way of its own, so it gets the squares that `predict` cuts. A second test
holds that way against the benchmark of resizes, which has it as a formula.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import PHOTOS, TOP, export_files, validation_photos

from conftest import ROOT
from edge_deit.artefacts.manifest import read_manifest
from edge_deit.artefacts.predict import predict_photos
from edge_deit.artefacts.runners import open_runner
from edge_deit.data.preprocess import bytes_of, load_image, load_pixels, normalise
from edge_deit.metrics.outputs import softmax
from edge_deit.quantization.scheme import Precision
from environments import run_script
from shared import once

sys.path.insert(0, str(ROOT / "benchmarks"))

from resizing.ways import WAYS

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("mediapipe")]

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "int8-full")
MOST_SCORE_DIFFERENCE = 1e-4
MOST_INTEGER_DIFFERENCE = 0.02  # its own kernels for 16 bits round otherwise
MANY = 30
"""Classes of `predict` that a class of MediaPipe may be among."""


def _export(folder: Path) -> None:
    export_files(folder, targets=["tflite"], precisions=[*PRECISIONS], input_kind="image")


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    """The files, made once."""
    return once(shared / "mediapipe", _export)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_answers_are_those_of_predict(precision: str, folder: Path, tmp_path: Path) -> None:
    (path,) = folder.glob(f"*.{precision}.image.tflite")
    manifest = read_manifest(path)
    squares = []
    photos = validation_photos()
    expected = predict_photos(path, photos, top=MANY)
    for index, photo in enumerate(photos):
        spec = manifest.preprocess_spec
        square = bytes_of(load_pixels(photo, spec), spec)[0]
        squares.append(tmp_path / f"{index}.png")
        Image.fromarray(square).save(squares[-1])
    found = run_script("mediapipe-1.2", "run_mediapipe.py", path, *squares)
    assert len(found) == PHOTOS
    most = MOST_INTEGER_DIFFERENCE if precision == "int8-full" else MOST_SCORE_DIFFERENCE
    for answer, prediction in zip(found, expected, strict=True):
        known = {one.index: one for one in prediction.top}
        for (index, name, score), one in zip(answer, prediction.top[:TOP], strict=True):
            assert name == known[index].label
            assert abs(score - known[index].probability) < most
            assert abs(score - one.probability) < most
            assert precision == "int8-full" or index == one.index


def test_what_it_does_with_a_whole_photo(folder: Path, tmp_path: Path) -> None:
    """The scores for photos as they are come from the squares of the benchmark's formula."""
    (path,) = folder.glob("*.fp32.image.tflite")
    spec = read_manifest(path).preprocess_spec
    (square,) = [way.square for way in WAYS if way.name.startswith("MediaPipe")]
    assert square is not None
    expected, pictures = [], []
    with open_runner(path, 1) as runner:
        for index, photo in enumerate(validation_photos()):
            image = load_image(photo)
            pictures.append(tmp_path / f"{index}.png")
            image.save(pictures[-1])
            pixels = normalise(square(np.asarray(image), spec), spec)[None]
            expected.append(softmax(runner(pixels)[0]))
    found = run_script("mediapipe-1.2", "run_mediapipe.py", path, *pictures)
    for answer, probabilities in zip(found, expected, strict=True):
        for index, _, score in answer:
            assert abs(score - probabilities[index]) < MOST_SCORE_DIFFERENCE
