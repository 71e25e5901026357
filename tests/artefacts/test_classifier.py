"""`Classifier`: what is a photo, that answers are those of `predict`, that threads may share it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_deit import Classifier, EdgeDeitError
from edge_deit.artefacts.predict import predict_photos

TURNED = 6  # EXIF: to be turned by a quarter


@pytest.fixture(scope="module")
def artefact(exported: Callable[[str], Path]) -> Path:
    return exported("onnx")


@pytest.fixture(scope="module")
def classify(artefact: Path) -> Classifier:
    return Classifier(str(artefact), top=3)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wide photo that its EXIF block turns."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8)
    path = tmp_path_factory.mktemp("photo") / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = TURNED
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def test_answers_are_those_of_predict(
    classify: Classifier, artefact: Path, photos: Path, photo: Path
) -> None:
    named = [photo, *sorted(photos.glob("*.png"))[:3]]
    wanted = [list(one.top) for one in predict_photos(artefact, named, top=3)]
    assert classify(named) == wanted
    assert classify(tuple(named[:1])) == wanted[:1]
    assert classify([]) == []
    assert {one.label for one in wanted[0]} <= set(classify.labels)


def test_every_kind_of_photo_gets_the_same_answer(classify: Classifier, photo: Path) -> None:
    wanted, content = classify(photo), photo.read_bytes()
    with Image.open(photo) as opened:
        assert classify(opened) == wanted
        assert opened.size == (90, 50), "the caller's image was turned"
    upright = np.asarray(Image.open(photo).transpose(Image.Transpose.ROTATE_270))
    for kind in (str(photo), content, bytearray(content), memoryview(content), upright):
        assert classify(kind) == wanted, type(kind)
    assert classify(np.asarray(Image.open(photo))) != wanted, "pixels of an array are upright"


def test_grey_is_grey(classify: Classifier) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (70, 70), np.uint8)
    wanted = classify(np.stack([grey] * 3, axis=-1))
    assert classify(grey) == wanted
    assert classify(Image.fromarray(grey)) == wanted
    assert classify(Image.fromarray(grey.astype(np.uint16) * 256 + 3)) == wanted


BROKEN = {
    "no file": ("nowhere.png", "image nowhere.png does not exist"),
    "folder": (".", "is a folder"),
    "bytes": (b"no photo", "image the photo cannot be read"),
    "no bytes": (b"", "image the photo cannot be read"),
    "number": (3, "is of type int; give a path"),
    "nothing": (None, "is of type NoneType"),
    "float": (np.zeros((9, 9, 3), np.float32), "of float32; give uint8"),
    "channels": (np.zeros((9, 9, 4), np.uint8), r"an array \(9, 9, 4\)"),
    "empty": (np.zeros((0, 9, 3), np.uint8), r"an array \(0, 9, 3\)"),
    "floating image": (Image.new("F", (9, 9)), "floating-point images have no"),
    "in a list": ([np.zeros((9, 9, 3), np.uint8), b"x"], "image photo 1 cannot be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_photo_is_named(name: str, classify: Classifier) -> None:
    given, message = BROKEN[name]
    with pytest.raises(EdgeDeitError, match=message) as caught:
        classify(given)  # type: ignore[call-overload]
    assert "\n" not in str(caught.value)


def test_threads_share_it(classify: Classifier) -> None:
    generator = np.random.default_rng(2)
    some = [generator.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(16)]
    wanted = [classify(one) for one in some]
    assert len({one[0].logit for one in wanted}) == len(some)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(classify, some * 4)) == wanted * 4


@pytest.mark.parametrize(
    ("options", "message"), [({"top": 0}, "top is 0"), ({"threads": 0}, "threads is 0")]
)
def test_its_numbers_are_checked(options: dict[str, int], message: str, artefact: Path) -> None:
    with pytest.raises(EdgeDeitError, match=message):
        Classifier(artefact, **options)
