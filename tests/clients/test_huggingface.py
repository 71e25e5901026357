"""The folder of `--layout huggingface` in the programs it is for: optimum, transformers, transformers.js.

Each gives the answers of `predict`. optimum preprocesses the photos as they are, as transformers resizes
with Pillow. Node and browsers resize with other filters, which is not the file's affair: they get
photos that are resized already, so that their own resize has nothing to do.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hugging_face import DTYPES, in_chromium, in_node, in_optimum, pairs_of, run
from sources import PHOTOS, Answers, export_files, reference, validation_photos, write_squares

from edge_deit.exporters.huggingface import FILE_NAMES
from shared import once

pytestmark = pytest.mark.clients

MOST_SCORE_DIFFERENCE = 1e-3


@pytest.fixture(scope="session")
def folder(shared: Path) -> Path:
    """The folder, of real weights or of the bundled ones."""
    return once(shared / "huggingface", lambda made: export_files(made, 8, layout="huggingface"))


@pytest.fixture(scope="session")
def originals() -> list[Path]:
    """Twenty photos that took no part in the export."""
    return validation_photos()


@pytest.fixture(scope="session")
def squares(shared: Path, folder: Path, originals: list[Path]) -> list[Path]:
    """The photos resized by Pillow, cut to a square around the crop, without a colour profile."""
    file = file_of(folder, "fp32")
    made = once(shared / "squares", lambda made: write_squares(file, originals, made))
    return sorted(made.glob("*.png"))


def file_of(folder: Path, precision: str) -> Path:
    return folder / "onnx" / FILE_NAMES[precision]  # type: ignore[index]


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


@pytest.mark.parametrize("precision", DTYPES)
def test_optimum_gives_the_same_answers(
    folder: Path, originals: list[Path], precision: str
) -> None:
    """One photo at a time and three at once, on the photos as they are."""
    wanted = reference(file_of(folder, precision), originals)
    for found in in_optimum(folder, precision, originals):
        assert_alike(found, wanted, precision)


def test_transformers_loads_the_weights(folder: Path, originals: list[Path]) -> None:
    """`pipeline` of the current transformers, on the folder's model.safetensors, in PyTorch."""
    code = (
        "import json, sys; from transformers import pipeline; folder, *photos = sys.argv[1:]; "
        "found = pipeline('image-classification', model=folder)(photos, top_k=5); "
        "print(json.dumps([[[c['label'], c['score']] for c in one] for one in found]))"
    )
    said = run([sys.executable, "-W", "ignore", "-c", code, folder, *originals])
    found = pairs_of(dict(zip(map(str, originals), said, strict=True)))
    assert_alike(found, reference(file_of(folder, "fp32"), originals), "fp32")


@pytest.mark.parametrize("precision", DTYPES)
def test_transformers_js_gives_the_same_answers_in_node(
    folder: Path, squares: list[Path], precision: str
) -> None:
    wanted = reference(file_of(folder, precision), squares)
    assert_alike(in_node(folder, precision, squares), wanted, precision)


@pytest.mark.parametrize("precision", DTYPES)
def test_transformers_js_gives_the_same_answers_in_chromium(
    folder: Path, squares: list[Path], precision: str, tmp_path: Path
) -> None:
    """In WebAssembly, served by a server of the test's own."""
    wanted = reference(file_of(folder, precision), squares)
    found = in_chromium(folder, precision, squares, tmp_path / "profile")
    assert_alike(found, wanted, precision)
