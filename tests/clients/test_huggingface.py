"""The folder of `--layout huggingface` in the programs it is for: optimum, transformers, transformers.js.

Each gives the answers of `predict`. optimum preprocesses the photos as they are, as transformers resizes
with Pillow. Node and browsers resize with other filters, which is not the file's affair: they get
photos that are resized already, so that their own resize has nothing to do.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from browser import run_page
from edge_deit import assets
from edge_deit.artefacts.manifest import read_manifest
from edge_deit.artefacts.predict import predict_photos
from edge_deit.common.quiet import quiet
from edge_deit.conversion.run import export_model
from edge_deit.data.image_files import load_image
from environments import HERE, node_environment, python_environment
from exporters.huggingface import FILE_NAMES
from shared import once

pytestmark = pytest.mark.clients

PHOTOS = 20
TOP = 5
MOST_SCORE_DIFFERENCE = 1e-3
DTYPES = {"fp32": "fp32", "fp16": "fp16", "int8": "q8"}
Answers = dict[str, list[tuple[str, float]]]
"""Photo's stem -> its most probable classes with their scores."""


def real_folder() -> Path | None:
    """Real weights and photos, where this machine has them."""
    named = os.environ.get("EDGE_DEIT_REAL")
    return Path(named) if named else None


@pytest.fixture(scope="session")
def folder(shared: Path) -> Path:
    """The folder, of real weights or of the bundled ones."""
    return once(shared / "huggingface", _export)


def _export(output: Path) -> None:
    real = real_folder()
    chosen: dict[str, Any] = {}
    if real is not None:
        chosen = {
            "weights": str(real / "deit_tiny_patch16_224" / "model.safetensors"),
            "calibration": real / "imagenet400",
            "labels": "imagenet-1k",
        }
    with quiet():
        export_model(
            layout="huggingface", output=output, parity_images=4, calibration_images=8, **chosen
        )


@pytest.fixture(scope="session")
def originals(shared: Path) -> list[Path]:
    """Twenty photos that took no part in the export."""
    real = real_folder()
    if real is None:
        with assets.validation_folder() as bundled:
            return sorted(bundled.rglob("*.png"))[:PHOTOS]
    with (real / "imagenet400" / "labels.csv").open(encoding="utf-8") as table:
        rows = [row["file"] for row in csv.DictReader(table) if row["split"] == "validation"]
    return [real / "imagenet400" / name for name in rows[:: len(rows) // PHOTOS][:PHOTOS]]


@pytest.fixture(scope="session")
def squares(shared: Path, folder: Path, originals: list[Path]) -> list[Path]:
    """The photos resized by Pillow, cut to a square around the crop, without a colour profile."""

    def write(made: Path) -> None:
        made.mkdir()
        for photo in originals:
            _square(photo, folder).save(made / f"{photo.stem}.png")

    return sorted(once(shared / "squares", write).glob("*.png"))


def _square(photo: Path, folder: Path) -> Image.Image:
    spec = read_manifest(folder / "onnx" / FILE_NAMES["fp32"]).preprocess_spec
    assert spec.resize == "shortest"
    image, side = load_image(photo), spec.resize_size
    width, height = image.size
    size = (
        side if width <= height else int(side * width / height),
        side if height <= width else int(side * height / width),
    )
    rim = (side - spec.crop_size) // 2
    left, top = ((length - spec.crop_size) // 2 - rim for length in size)
    resized = image.resize(size, Image.Resampling.BICUBIC).crop(
        (left, top, left + side, top + side)
    )
    return Image.fromarray(np.asarray(resized))


def reference(folder: Path, precision: str, photos: list[Path]) -> Answers:
    """What `predict` says."""
    found = predict_photos(folder / "onnx" / FILE_NAMES[precision], photos, top=TOP, threads=1)
    return {
        one.image.stem: [(ranked.label, ranked.probability) for ranked in one.top] for one in found
    }


def answers_of(said: dict[str, list[list[Any]]]) -> Answers:
    return {Path(photo).stem: [(p[0], p[1]) for p in pairs] for photo, pairs in said.items()}


def assert_alike(found: Answers, wanted: Answers, precision: str) -> None:
    """The same five classes with the same scores; of coarser precisions the same answer.

    Other builds of ONNX Runtime round float16 and integer products otherwise, so the order of classes that
    are nearly equal may change there.
    """
    assert len(wanted) >= PHOTOS
    assert found.keys() == wanted.keys()
    for photo, classes in wanted.items():
        assert found[photo][0][0] == classes[0][0], photo
        if precision == "fp32":
            assert [name for name, _ in found[photo]] == [name for name, _ in classes], photo
            scores = np.array([[score for _, score in one] for one in (found[photo], classes)])
            assert np.abs(scores[0] - scores[1]).max() <= MOST_SCORE_DIFFERENCE, photo


def run(command: list[object], **environment: str) -> Any:
    """The JSON that a program prints last."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("precision", FILE_NAMES)
def test_optimum_gives_the_same_answers(
    folder: Path, originals: list[Path], precision: str
) -> None:
    """One photo at a time and three at once, on the photos as they are."""
    python = python_environment("optimum", over_ours=True)
    name = FILE_NAMES[precision]  # type: ignore[index]
    said = run([python, "-W", "ignore", HERE / "classify_optimum.py", folder, name, *originals])
    wanted = reference(folder, precision, originals)
    assert_alike(answers_of(said["answers"]), wanted, precision)
    assert_alike(answers_of(said["batched"]), wanted, precision)


def test_transformers_loads_the_weights(folder: Path, originals: list[Path]) -> None:
    """`pipeline` of the current transformers, on the folder's model.safetensors, in PyTorch."""
    code = (
        "import json, sys; from transformers import pipeline; folder, *photos = sys.argv[1:]; "
        "found = pipeline('image-classification', model=folder)(photos, top_k=5); "
        "print(json.dumps([[[c['label'], c['score']] for c in one] for one in found]))"
    )
    said = run([sys.executable, "-W", "ignore", "-c", code, folder, *originals])
    found = dict(zip(map(str, originals), said, strict=True))
    assert_alike(answers_of(found), reference(folder, "fp32", originals), "fp32")


@pytest.mark.parametrize("precision", FILE_NAMES)
def test_transformers_js_gives_the_same_answers_in_node(
    folder: Path, squares: list[Path], precision: str
) -> None:
    modules = node_environment()
    program = [HERE / "node" / "classify.mjs", modules, folder.parent, folder.name]
    said = run(["node", *program, DTYPES[precision], *squares])
    assert_alike(answers_of(said["answers"]), reference(folder, precision, squares), precision)


@pytest.mark.parametrize("precision", FILE_NAMES)
def test_transformers_js_gives_the_same_answers_in_chromium(
    folder: Path, squares: list[Path], precision: str, tmp_path: Path
) -> None:
    """In WebAssembly, served by a server of the test's own."""
    folders = {
        "page": HERE,
        "modules": node_environment() / "node_modules",
        "models": folder.parent,
        "photos": squares[0].parent,
    }
    asked = f"name={folder.name}&dtype={DTYPES[precision]}&device=wasm"
    photos = ",".join(photo.name for photo in squares)
    said = run_page(f"page/classify.html?{asked}&photos={photos}", folders, tmp_path / "profile")
    assert_alike(answers_of(said["answers"]), reference(folder, precision, squares), precision)
