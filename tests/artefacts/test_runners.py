"""Runners as every command opens them: shapes, values, threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from artefact_examples import copy_of, pixels_for, sign

from edge_deit.artefacts.artefact import read_artefact
from edge_deit.artefacts.predict import predict_photos
from edge_deit.artefacts.runners import logits_of, open_runner
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import load_pixels

pytestmark = pytest.mark.newest

Exported = Callable[[str], Path]
QUICK = ("onnx", "tflite")
SHAPE = {"name": "x", "dtype": "float32"}


@pytest.mark.parametrize("isolated", [True, False])
def test_other_shapes_than_the_manifests_are_refused(
    isolated: bool, exported: Exported, tmp_path: Path
) -> None:
    path = copy_of(exported("onnx"), tmp_path)

    def refused(message: str, size: int) -> None:
        with (
            open_runner(path, 1, isolated=isolated) as runner,
            pytest.raises(EdgeDeitError, match=message),
        ):
            runner(pixels_for(0)[..., :size, :size])

    refused(r"takes pixels \(1, 3, 64, 64\), not \(1, 3, 60, 60\)", 60)
    sign(path, output={**SHAPE, "name": "logits", "shape": [1, 9]})
    refused(r"shape \(1, 10\), its manifest says \(1, 9\)", 64)
    sign(path, input={**SHAPE, "name": "pixels", "shape": [1, 3, 32, 32]})
    refused("ONNX Runtime failed while running", 32)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([[1.0, 2.0]], r"a\.onnx returns shape \(1, 2\) for 3 labels"),
        ([1.0, 2.0, 3.0], r"a\.onnx returns shape \(3,\) for 3 labels"),
        ([[1.0, np.nan, 2.0]], r"a\.onnx returned NaN or infinite logits"),
        ([[1.0, -np.inf, 2.0]], r"a\.onnx returned NaN or infinite logits"),
    ],
)
def test_logits_that_mean_nothing_are_refused(returned: list[object], message: str) -> None:
    with pytest.raises(EdgeDeitError, match=message):
        logits_of(lambda _: np.array(returned, np.float32), pixels_for(0), "a.onnx", "xyz")


def test_a_number_of_threads_is_refused(exported: Exported) -> None:
    with pytest.raises(EdgeDeitError, match="threads is 0; it must be at least 1"):
        open_runner(exported("onnx"), 0)


def test_predictions_are_ranked_softmax(exported: Exported, photos: Path) -> None:
    path = exported("onnx")
    images = sorted(photos.rglob("*.png"))[:3]
    found = predict_photos(path, images, top=3)
    manifest = read_artefact(path).manifest
    with open_runner(path, 1) as runner:
        for image, one in zip(images, found, strict=True):
            logits = runner(load_pixels(image, manifest.preprocess_spec))[0].astype(np.float64)
            expected = np.exp(logits) / np.exp(logits).sum()
            order = np.argsort(-expected)[:3]
            assert one.image == image
            assert one.stand_in is None
            assert [entry.index for entry in one.top] == order.tolist()
            assert [entry.label for entry in one.top] == [f"class {index}" for index in order]
            assert [entry.probability for entry in one.top] == pytest.approx(expected[order])


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("isolated", [True, False])
def test_one_runner_serves_four_threads(name: str, isolated: bool, exported: Exported) -> None:
    with open_runner(exported(name), 1, isolated=isolated) as runner:
        expected = [runner(pixels_for(seed)) for seed in range(4)]
        with ThreadPoolExecutor(4) as pool:
            jobs = [(seed, pool.submit(runner, pixels_for(seed))) for seed in [0, 1, 2, 3] * 50]
            for seed, job in jobs:
                assert np.array_equal(job.result(), expected[seed])


def whole_calls(path: Path, image: Path, count: int) -> list[np.ndarray]:
    """What `predict` does, `count` times: everything is opened anew."""
    found = []
    for _ in range(count):
        artefact = read_artefact(path)
        pixels = load_pixels(image, artefact.manifest.preprocess_spec)
        with open_runner(artefact, 1) as runner:
            found.append(runner(pixels))
    return found


def check_threads(path: Path, photos: Path, count: int, capfd: pytest.CaptureFixture[str]) -> None:
    """Four threads that open, run and close at once: right answers, whole streams, nothing left open."""
    images = sorted(photos.rglob("*.png"))[:4]
    expected = [whole_calls(path, image, 1)[0] for image in images]
    before = set(os.listdir("/proc/self/fd")) if sys.platform == "linux" else set()
    capfd.readouterr()

    def work(number: int) -> None:
        for _ in range(count):
            (logits,) = whole_calls(path, images[number], 1)
            assert np.array_equal(logits, expected[number])
            os.write(1, b"out\n")
            print("err", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(work, number) for number in range(4)]:
            job.result()
    said = capfd.readouterr()
    assert said.out.splitlines() == ["out"] * 4 * count
    assert said.err.split() == ["err"] * 4 * count
    if sys.platform == "linux":
        assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", QUICK)
def test_four_threads_at_once(
    name: str, exported: Exported, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    check_threads(exported(name), photos, 3, capfd)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", QUICK)
def test_four_threads_for_long(
    name: str, exported: Exported, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    check_threads(exported(name), photos, 500, capfd)
