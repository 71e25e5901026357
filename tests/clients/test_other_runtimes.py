"""Runtimes beside ours: a file gives the right answer in them, or is refused with an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_deit import assets
from edge_deit.artefacts.manifest import read_manifest
from edge_deit.conversion.run import export_model
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import load_pixels
from edge_deit.exporters import target
from edge_deit.quantization.scheme import Precision
from environments import run_script
from shared import once

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("old runtimes")]

PHOTOS = 20
MIN_SNR_DB = {"fp32": 80.0, "int8": 20.0, "int8-dynamic": 20.0, "int8-full": 10.0}

Made = Callable[[str, Precision], tuple[Path, Path, np.ndarray]]


PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "tflite": ("fp32", "int8", "int8-dynamic", "int8-full"),
    "onnx": ("fp32", "int8", "int8-dynamic"),
}


@pytest.fixture(scope="module")
def made(shared: Path) -> Made:
    """Exports the bundled model: the file, pixels of photos that took no part, and its answers today."""

    def make(name: str, precision: Precision) -> tuple[Path, Path, np.ndarray]:
        folder = once(
            shared / f"clients-{name}",
            lambda output: export_model(
                targets=[name], precisions=PRECISIONS[name], output=output, threads=1
            ),
        )
        (path,) = folder.glob(f"*.{precision}{target(name).suffix}")
        pixels = once(folder / "pixels.npy", lambda output: np.save(output, photos_for(path)))
        runner = target(name).load_runner(path, 1)
        return path, pixels, np.concatenate([runner(photo[None]) for photo in np.load(pixels)])

    return make


def photos_for(path: Path) -> np.ndarray:
    """(M, 3, H, W) pixels of the bundled validation photos."""
    spec = read_manifest(path).preprocess_spec
    with assets.validation_folder() as folder:
        photos = list_photos(folder, use="validation").photos[:PHOTOS]
        stack = [
            load_pixels(photo.path, spec).reshape(3, *[spec.crop_size] * 2) for photo in photos
        ]
    return np.ascontiguousarray(np.stack(stack), np.float32)


def assert_right(found: Any, expected: np.ndarray, precision: Precision) -> None:
    """The logits are today's but for what other kernels round."""
    logits = np.asarray(found["logits"])
    noise = np.square(logits - expected).sum()
    snr_db = 10 * np.log10(np.square(expected).sum() / max(noise, 1e-30))
    assert snr_db >= MIN_SNR_DB[precision], snr_db
    assert np.mean(logits.argmax(1) == expected.argmax(1)) >= 0.95


@pytest.mark.parametrize("precision", PRECISIONS["tflite"])
def test_tflite_runtime_2_14_is_right_or_refuses(made: Made, precision: Precision) -> None:
    """It cannot compute float x int8 with a scale a channel, and computes rubbish if it is not told so."""
    path, pixels, expected = made("tflite", precision)
    found = run_script("tflite-2.14", "run_tflite.py", path, pixels)
    needs = read_manifest(path).requires["tensorflow-lite"]
    if precision != "fp32":
        assert needs == "2.17"
        assert "FULLY_CONNECTED" in found["refused"]
        assert "12" in found["refused"]
    else:
        assert needs == "2.9"
        assert_right(found, expected, precision)


@pytest.mark.parametrize("precision", PRECISIONS["onnx"])
def test_onnx_runtime_1_17_is_the_first_that_is_right(made: Made, precision: Precision) -> None:
    path, pixels, expected = made("onnx", precision)
    assert read_manifest(path).requires == {"onnxruntime": "1.17"}
    assert_right(run_script("onnxruntime-1.17", "run_onnx.py", path, pixels), expected, precision)
    assert "opset" in run_script("onnxruntime-1.16", "run_onnx.py", path, pixels)["refused"]


@pytest.mark.parametrize("precision", PRECISIONS["onnx"])
def test_openvino_with_its_defaults(made: Made, precision: Precision) -> None:
    """It computes in bfloat16 where the processor can, and without VNNI adds products in 16 bits."""
    path, pixels, _ = made("onnx", precision)
    *_, exact = made("onnx", "fp32")
    logits = np.asarray(run_script("openvino", "run_openvino.py", path, pixels)["logits"])
    snr_db = 10 * np.log10(np.square(exact).sum() / np.square(logits - exact).sum())
    assert snr_db >= (30 if precision == "fp32" else 22), snr_db
