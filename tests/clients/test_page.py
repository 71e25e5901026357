"""The web page in headless Chromium, used as a visitor does: the answers of `predict`, and its own checks.

The page is the folder web_demo, filled by `bundle --web`, with the runtimes of its lock file, and served as
`python -m http.server` serves it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from page import PAGE_FILES, Isolating, make_page, visit
from PIL import Image
from sources import (
    PHOTOS,
    TOP,
    export_page_files,
    named,
    validation_photos,
    weights_given,
)

from conftest import CommandLine
from edge_deit.artefacts.predict import Prediction, predict_photos
from edge_deit.data.image_files import load_image
from edge_deit.report.device_report import read_device_report
from shared import once

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("page")]

MANY = 10
"""Classes of `predict` that a class of the page may be among."""
FEW = 3
"""Photos on WebGPU, whose adapter here is software: seconds each."""
MOST_SCORE_DIFFERENCE = 1e-3
HALF_A_DIGIT = 0.0005
"""The page shows probabilities with a tenth of a percent."""
NEARLY_EQUAL = 0.02
"""Classes this close may change places in integer files, as each runtime rounds otherwise."""

WITH_WEBGPU = ("fp32.onnx", "fp32.tflite")
REFUSED_ON_WEBGPU = ("int8.onnx", "int8.tflite")


@pytest.fixture(scope="session")
def folder(shared: Path) -> Path:
    """The files, made once."""
    return once(shared / "page_files", export_page_files)


@pytest.fixture(scope="session")
def page(shared: Path, folder: Path) -> Path:
    """The page with all files in it."""
    return once(
        shared / "page", functools.partial(make_page, [named(folder, one) for one in PAGE_FILES])
    )


@pytest.fixture(scope="session")
def originals() -> list[Path]:
    """Twenty photos that took no part in the export."""
    return validation_photos()


def texts(photos: Sequence[Path]) -> list[str]:
    return [str(photo) for photo in photos]


@pytest.mark.parametrize("ending", PAGE_FILES)
def test_the_page_answers_like_predict(
    ending: str, folder: Path, page: Path, originals: list[Path], tmp_path: Path
) -> None:
    """The same five classes in the same order, and of float files the probabilities that it shows."""
    file = named(folder, ending)
    step = {"step": "answers", "model": file.name, "backend": "wasm", "photos": texts(originals)}
    (found,) = visit(page, step, work=tmp_path)
    assert len(found) == PHOTOS
    for prediction in predict_photos(file, originals, top=MANY, threads=1):
        answer = found[str(prediction.image)]
        assert answer["problem"] == ""
        labels = [label for label, _ in answer["top"]]
        assert_same_five(labels, prediction, ending)
        if not ending.startswith("int8"):
            shown = [float(percent.removesuffix(" %")) / 100 for _, percent in answer["top"]]
            wanted = [one.probability for one in prediction.top[:TOP]]
            assert shown == pytest.approx(wanted, abs=MOST_SCORE_DIFFERENCE + HALF_A_DIGIT)


def assert_same_five(labels: list[str], prediction: Prediction, ending: str) -> None:
    """In integer files, classes that `predict` itself holds for nearly equal may change places."""
    wanted = [one.label for one in prediction.top[:TOP]]
    if not ending.startswith("int8"):
        assert labels == wanted, prediction.image.name
        return
    known = Counter(
        one.label for one in prediction.top
    )  # ImageNet has names that two classes share
    assert Counter(labels) <= known, prediction.image.name
    for mine, theirs in zip(labels, prediction.top[:TOP], strict=True):
        shares = [one.probability for one in prediction.top if one.label == mine]
        nearest = min(abs(share - theirs.probability) for share in shares)
        assert nearest <= NEARLY_EQUAL, (prediction.image.name, mine)


def odd_photos(folder: Path, original: Path) -> list[Path]:
    """The same photo turned, in other formats and modes, larger than one tile, and with odd sides."""
    folder.mkdir()
    photo = load_image(original)
    for orientation in (1, 3, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo.save(folder / f"turned{orientation}.jpg", exif=exif)
    photo.convert("L").save(folder / "grey.jpg")
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    photo.save(folder / "progressive.jpg", progressive=True)
    photo.crop((0, 0, 21, 27)).save(folder / "odd.jpg", subsampling=2)
    photo.convert("P").save(folder / "palette.gif")
    photo.resize((4100, 2300)).save(folder / "tiles.png")
    for suffix in ("webp", "avif", "bmp"):
        photo.save(folder / f"photo.{suffix}")
    return sorted(folder.iterdir())


def test_the_browsers_pixels_are_pythons(page: Path, originals: list[Path], tmp_path: Path) -> None:
    """Chromium's decoders give Pillow's values to the last bit, colour profiles left alone."""
    photos = [*originals, *odd_photos(tmp_path / "odd", originals[0])]
    (found,) = visit(page, {"step": "pixels", "photos": texts(photos)}, work=tmp_path)
    for photo in photos:
        image = load_image(photo)
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        expected = {"width": image.width, "height": image.height, "sha256": digest}
        assert found[str(photo)] == {**expected, "transparent": False}, photo.name


def test_photos_that_cannot_be_taken_as_they_are(
    page: Path, originals: list[Path], tmp_path: Path
) -> None:
    photo = load_image(originals[0]).convert("RGBA")
    photo.putalpha(128)
    photo.save(tmp_path / "glass.png")
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    photos = texts([tmp_path / "glass.png", tmp_path / "bad.jpg"])
    answers = {"step": "answers", "model": f"{stem(page)}.int8.tflite", "backend": "wasm"}
    (found,) = visit(page, {**answers, "photos": photos}, work=tmp_path)
    glass, bad = found.values()
    assert "Parts of it are transparent" in glass["timing"]
    assert bad["top"] == []
    assert bad["problem"].startswith("bad.jpg cannot be read by this browser")


def stem(page: Path) -> str:
    """What all files' names begin with."""
    entries = json.loads((page / "edge_deit/bundle.json").read_text(encoding="utf-8"))["artefacts"]
    return str(entries[0]["model"])


def test_the_self_test_passes(page: Path, tmp_path: Path) -> None:
    (found,) = visit(page, {"step": "selfTest"}, work=tmp_path)
    assert found["failures"] == []
    assert found["result"].endswith("cases passed, and every file answers as in Python.")
    assert [row[0] for row in found["files"]] == [f"{stem(page)}.{ending}" for ending in PAGE_FILES]
    for _, backend, same, _ in found["files"]:
        assert backend == "wasm"
        assert same.endswith(" of 4")


def test_the_self_test_finds_a_wrong_case(folder: Path, tmp_path: Path) -> None:
    make_page([named(folder, "int8.tflite")], tmp_path / "page")
    cases = tmp_path / "page/edge_deit/golden_cases.json"
    table = json.loads(cases.read_text(encoding="utf-8"))
    table["images"][0]["tensor_sha256"] = "0" * 64
    for measured in table["classification"][:4]:
        measured["logits"].reverse()
    cases.write_text(json.dumps(table), encoding="utf-8")
    (found,) = visit(tmp_path / "page", {"step": "selfTest"}, work=tmp_path)
    assert found["result"] == f"{len(found['failures'])} failed:"
    name = table["images"][0]["name"]
    assert found["failures"][0].startswith(f"image {name}: the tensor differs")
    assert any(failure.startswith("classification ") for failure in found["failures"])
    assert "cosine" in found["failures"][-1]


def test_validate_reads_the_pages_report(
    folder: Path, originals: list[Path], command_line: CommandLine, tmp_path: Path
) -> None:
    files = [named(folder, "int8.onnx"), named(folder, "int8.tflite")]
    make_page(files, tmp_path / "page")
    report = tmp_path / "edge-deit-device-report.json"
    visit(tmp_path / "page", {"step": "report", "path": str(report)}, work=tmp_path)
    measured = read_device_report(report)
    assert [one.path for one in measured.artefacts] == [file.name for file in files]
    assert all(one.runs == 100 and one.latency_ms_p50 for one in measured.artefacts)
    assert "Chromium" in measured.device.os_version
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(originals[0], photos)
    done = command_line(
        "validate", *files, *weights_given(), "--data", photos, "--device-report", report, "--no-latency",
        "--output", tmp_path / "report",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "report/report.json").read_text())["artefacts"]
    runners = [one["device"][0]["runner"].partition(" ")[0] for one in results]
    assert runners == ["onnxruntime-web", "LiteRT.js"]


def test_the_camera(page: Path, tmp_path: Path) -> None:
    """Chromium's own test picture is photographed; a camera that is not allowed is said in words."""
    (found,) = visit(page, {"step": "takePhoto"}, work=tmp_path)
    assert len(found["top"]) == 5
    assert found["problem"] == ""
    (found,) = visit(page, {"step": "refusedCamera"}, work=tmp_path, camera=False)
    assert found["problem"].startswith("the camera is not allowed for this page")


def test_pages_that_lack_something_say_what_to_do(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    make_page([], empty)
    (found,) = visit(empty, {"step": "look"}, work=tmp_path, broken=True)
    assert "python -m edge_deit.bundle" in found["problem"]
    assert found["sections"] == 0
    page, photo = tmp_path / "page", tmp_path / "photo.png"
    Image.new("RGB", (40, 30), "orange").save(photo)
    file = named(folder, "int8.tflite")
    make_page([file], page)
    step = {"step": "answers", "model": file.name, "backend": "wasm", "photos": [str(photo)]}
    (page / "node_modules").unlink()
    (found,) = visit(page, step, work=tmp_path)
    assert "LiteRT.js is not installed; run npm ci" in found[str(photo)]["problem"]
    with (page / "edge_deit" / file.name).open("r+b") as stream:
        stream.write(b"damaged!")
    (found,) = visit(page, step, work=tmp_path)
    assert f"{file.name} was damaged after it was bundled" in found[str(photo)]["problem"]
    (page / "edge_deit/bundle.json").write_text('{"schema": 2}')
    (found,) = visit(page, {"step": "look"}, work=tmp_path, broken=True)
    assert found["problem"].startswith("bundle.json: schema is 2; it must be 1")


@pytest.mark.parametrize("width", [360, 1100])
def test_nothing_is_cut_off(width: int, page: Path, originals: list[Path], tmp_path: Path) -> None:
    answers = {"step": "answers", "model": f"{stem(page)}.int8.tflite", "backend": "wasm"}
    picture = {"step": "picture", "path": str(tmp_path / "page.png"), "width": width}
    *_, found = visit(page, {**answers, "photos": texts(originals[:1])}, picture, work=tmp_path)
    assert found == {"overflows": False}


@pytest.mark.parametrize("ending", ["int8.onnx", "int8.tflite"])
def test_threads_where_the_server_isolates_the_page(
    ending: str, folder: Path, page: Path, originals: list[Path], tmp_path: Path
) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("this machine has one core: the page takes one thread")
    file = named(folder, ending)
    step = {"step": "once", "file": file.name, "backend": "wasm", "photos": texts(originals[:FEW])}
    threads = {"step": "threads"}
    count, found = visit(page, threads, step, work=tmp_path, handler=Isolating)
    assert count == min(4, os.cpu_count() or 1)
    assert_same_classes(found, file, ending, originals[:FEW])


def assert_same_classes(found: dict[str, Any], file: Path, ending: str, photos: list[Path]) -> None:
    for prediction in predict_photos(file, photos, top=MANY, threads=1):
        labels = [label for label, _ in found[str(prediction.image)]]
        assert_same_five(labels, prediction, ending)


@pytest.mark.parametrize("ending", WITH_WEBGPU)
def test_float_files_run_on_webgpu(
    ending: str, folder: Path, page: Path, originals: list[Path], tmp_path: Path
) -> None:
    """On Chromium's software adapter: right or wrong can be seen there, fast or slow cannot."""
    file, few = named(folder, ending), originals[:FEW]
    step = {"step": "once", "file": file.name, "backend": "webgpu", "photos": texts(few)}
    (backends,) = visit(page, {"step": "backends"}, work=tmp_path, gpu=True)
    if "webgpu" not in backends:
        pytest.skip("this Chromium has no WebGPU adapter, not even its software one")
    (found,) = visit(page, step, work=tmp_path, gpu=True)
    assert_same_classes(found, file, ending, few)


@pytest.mark.parametrize("ending", REFUSED_ON_WEBGPU)
def test_integer_files_are_refused_on_webgpu_by_name(
    ending: str, folder: Path, page: Path, originals: list[Path], tmp_path: Path
) -> None:
    file = named(folder, ending)
    answers = {"step": "answers", "model": file.name, "backend": "webgpu"}
    (backends,) = visit(page, {"step": "backends"}, work=tmp_path, gpu=True)
    if "webgpu" not in backends:
        pytest.skip("this Chromium has no WebGPU adapter, not even its software one")
    (found,) = visit(page, {**answers, "photos": texts(originals[:1])}, work=tmp_path, gpu=True)
    (answer,) = found.values()
    assert answer["top"] == []
    assert f"refuses {file.name} on webgpu" in answer["problem"]
    assert answer["problem"].endswith("choose WebAssembly, or a float file")
