"""The golden contract: an independent port computes its cases, and the committed files are current."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from conftest import CommandLine
from edge_deit.artefacts.manifest import Manifest
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.image_files import load_image
from edge_deit.data.preprocess import PreprocessSpec, default_spec, preprocess
from edge_deit.mobile.golden import golden_cases, golden_spec, measured_logits, write_golden
from edge_deit.mobile.golden_files import display_p3_profile, file_cases
from edge_deit.mobile.golden_images import ImageCase, hash_pixels, image_cases, wide_cases

GOLDEN = Path(__file__).parents[1] / "golden"
MASK = 0xFFFFFFFF
FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")


def committed(name: str) -> dict[str, Any]:
    found = json.loads((GOLDEN / f"golden_{name}.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


COMMITTED_SPEC, COMMITTED = committed("spec"), committed("cases")


def manifest(classes: int = 4, **changes: Any) -> Manifest:
    """A manifest of a 32-pixel model that was never exported."""
    made = Manifest(
        schema=1,
        artefact="tiny.fp32.onnx",
        sha256="a" * 64,
        size_bytes=1,
        target="onnx",
        backend="cpu",
        precision="fp32",
        model="deit_tiny",
        task="classification",
        config={"image_size": 32},
        weights={"source": "tiny.safetensors", "sha256": "b" * 64},
        input={"name": "pixels", "shape": [1, 3, 32, 32], "dtype": "float32", "layout": "NCHW"},
        output={"name": "logits", "shape": [1, classes], "dtype": "float32"},
        preprocessing=PreprocessSpec(resize_size=36, crop_size=32).to_json(),
        labels=[f"class {index}" for index in range(classes)],
        scheme={"precision": "fp32"},
        calibration=None,
        parity={},
        tools={},
    )
    return replace(made, **changes)


# A port of the preprocessing with nothing but the contract's words and numpy


def hash_byte(x: int, y: int, channel: int, width: int, seed: int, block: int) -> int:
    index = ((y // block) * math.ceil(width / block) + x // block) * 3 + channel
    value = (index * 2654435761 + seed * 2246822519) & MASK
    value ^= value >> 15
    value = (value * 3266489917) & MASK
    return (value ^ (value >> 13)) & 255


def triangle(x: float) -> float:
    return max(0.0, 1 - abs(x))


def cubic(x: float) -> float:
    x, a = abs(x), -0.5
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


def sinc(x: float) -> float:
    return 1.0 if x == 0 else math.sin(math.pi * x) / (math.pi * x)


def windowed_sinc(x: float) -> float:
    return sinc(x) * sinc(x / 3) if -3 <= x < 3 else 0.0


KERNELS: dict[str, tuple[Callable[[float], float], int]] = {
    "bilinear": (triangle, 1),
    "bicubic": (cubic, 2),
    "lanczos": (windowed_sinc, 3),
}


def resample_rows(pixels: np.ndarray, size: int, resample: str) -> np.ndarray:
    """(H, W, 3) uint8 -> (size, W, 3), in 22-bit fixed point."""
    length = len(pixels)
    step = length / size
    if resample == "nearest":
        places, place = [], step * 0.5
        for _ in range(size):
            places.append(int(place))
            place += step  # Pillow adds up, it does not multiply
        return pixels[places]
    kernel, reach = KERNELS[resample]
    stretch = max(1.0, step)
    rows = []
    for row in range(size):
        centre = (row + 0.5) * step
        first = max(0, int(centre - reach * stretch + 0.5))
        last = min(length, int(centre + reach * stretch + 0.5))
        weights = [kernel((place - centre + 0.5) * (1 / stretch)) for place in range(first, last)]
        total = sum(weights)
        fixed = [int(math.copysign(0.5, w) + w / total * (1 << 22)) for w in weights]
        summed = np.tensordot(np.array(fixed), pixels[first:last].astype(np.int64), 1)
        rows.append(np.clip((summed + (1 << 21)) >> 22, 0, 255))
    return np.stack(rows).astype(np.uint8)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    turned = pixels.transpose(1, 0, 2) if orientation >= 5 else pixels
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return turned[::rows, ::columns]


def new_size(height: int, width: int, rule: dict[str, Any]) -> tuple[int, int]:
    size = rule["resize_size"]
    if rule["resize"] == "shortest":
        short = min(height, width)
        return size * height // short, size * width // short
    return (size, size) if rule["resize"] == "exact" else (height, width)


def cut(length: int, crop: int, rounding: str) -> tuple[int, int, int]:
    """First place kept, padding before and after."""
    spare = length - crop
    if spare < 0:
        return 0, (1 - spare) // 2, -spare // 2
    half = spare // 2
    if rounding == "half-even" and spare % 2 and half % 2:
        half += 1
    return half, 0, 0


def port(pixels: np.ndarray, orientation: int, rule: dict[str, Any]) -> np.ndarray:
    image = upright(pixels, orientation)
    height, width = new_size(*image.shape[:2], rule)
    rows_lost, columns_lost = image.shape[0] - height, image.shape[1] - width
    order = (0, 1) if rows_lost > max(0, 2 * columns_lost) else (1, 0)  # since Pillow 13
    for axis in order:
        if image.shape[axis] != (height, width)[axis]:
            along = np.moveaxis(image, axis, 0)
            along = resample_rows(along, (height, width)[axis], rule["resample"])
            image = np.moveaxis(along, 0, axis)
    crop, canvas = rule["crop_size"], image
    for axis in (0, 1):
        first, before, after = cut(canvas.shape[axis], crop, rule["crop_rounding"])
        canvas = np.pad(canvas, [(before, after) if a == axis else (0, 0) for a in range(3)])
        canvas = canvas.take(range(first, first + crop), axis)
    scaled = canvas.astype(np.float32) / np.float32(255)
    mean, std = np.float32(rule["mean"]), np.float32(rule["std"])
    return np.ascontiguousarray(((scaled - mean) / std).transpose(2, 0, 1))


def raw_pixels(case: dict[str, Any]) -> np.ndarray:
    width, height, source = case["width"], case["height"], case["pixels"]
    if "hash" in source:
        return hash_pixels(width, height, **source["hash"])
    return np.frombuffer(base64.b64decode(source["base64"]), np.uint8).reshape(height, width, 3)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 2)])
@pytest.mark.parametrize(("seed", "block"), [(0, 1), (7, 1), (123456789, 4)])
def test_generated_pixels_follow_the_formula(size: tuple[int, int], seed: int, block: int) -> None:
    width, height = size
    expected = [
        [[hash_byte(x, y, c, width, seed, block) for c in range(3)] for x in range(width)]
        for y in range(height)
    ]
    assert hash_pixels(width, height, seed, block).tolist() == expected


@pytest.mark.parametrize("case", COMMITTED["images"], ids=lambda case: case["name"])
def test_an_independent_port_gets_the_same_bits(case: dict[str, Any]) -> None:
    tensor = port(raw_pixels(case), case["orientation"], case["preprocessing"])
    crop = case["preprocessing"]["crop_size"]
    assert tensor.shape == (3, crop, crop)
    flat = tensor.ravel()
    assert [[place, flat[place]] for place, _ in case["samples"]] == [
        [place, np.float32(value)] for place, value in case["samples"]
    ]
    assert hashlib.sha256(tensor.astype("<f4").tobytes()).hexdigest() == case["tensor_sha256"]


# What the cases cover


def test_committed_cases_cover_every_rule() -> None:
    cases = COMMITTED["images"]
    assert len({case["name"] for case in cases}) == len(cases)
    own = [c for c in cases if c["preprocessing"] == COMMITTED_SPEC["preprocessing"]]
    assert {case["orientation"] for case in own} == set(range(1, 9))
    assert [c for c in own if "base64" in c["pixels"]]
    rules = [case["preprocessing"] for case in cases]
    for field, values in (
        ("resample", set(FILTERS)),
        ("resize", {"shortest", "exact", "none"}),
        ("crop_rounding", {"half-even", "floor"}),
    ):
        assert {rule[field] for rule in rules} == values
    assert sum(path.stat().st_size for path in GOLDEN.glob("*.json")) <= 300_000


def test_both_roundings_and_all_filters_give_different_tensors() -> None:
    tensors = {case["name"]: case["tensor_sha256"] for case in COMMITTED["images"]}
    for mode in ("shortest", "exact"):
        kinds = [f"{mode}, {name}, {way}" for name in FILTERS for way in ("half-even", "floor")]
        assert len({tensors[kind] for kind in kinds}) == len(kinds)
    assert tensors["none, nearest, half-even"] != tensors["none, nearest, floor"]


def test_the_order_of_the_passes_shows() -> None:
    """Whoever always begins with the columns gets the boundary case wrong, and only that one."""
    cases = {case.name: case for case in image_cases(default_spec(64))}
    for name, differs in (
        ("loses twice as many rows, bicubic", False),
        ("loses more than twice as many rows, bicubic", True),
    ):
        case = cases[name]
        size = case.spec.resize_size
        columns = resample_rows(case.pixels().transpose(1, 0, 2), size, "bicubic")
        both = resample_rows(columns.transpose(1, 0, 2), size, "bicubic")
        expected = preprocess(Image.fromarray(both), case.spec)[0]
        assert np.array_equal(case.tensor(), expected) != differs


def test_wide_cases_are_wide() -> None:
    cases = wide_cases(200)
    assert len({case.name for case in cases}) == 200
    sizes = {(case.width, case.height) for case in cases}
    assert {(1, 1), (4000, 3000), (1, 4000), (4000, 1)} <= sizes
    met = {(c.spec.resize, c.spec.resample, c.spec.crop_rounding) for c in cases}
    assert len(met) == 3 * 4 * 2
    assert {case.orientation for case in cases} == set(range(1, 9))
    upscaled = [c for c in cases if c.spec.resize_size > max(c.width, c.height)]
    padded = [c for c in cases if c.spec.crop_size > c.spec.resize_size]
    assert min(len(upscaled), len(padded)) >= 10
    assert cases == wide_cases(250)[:200]
    with pytest.raises(EdgeDeitError, match="count is 199"):
        wide_cases(199)


@pytest.mark.slow
def test_an_independent_port_gets_the_wide_cases() -> None:
    for case in wide_cases(200):
        expected = port(case.pixels(), case.orientation, case.spec.to_json())
        assert np.array_equal(case.tensor(), expected), case.name


def test_the_bytes_are_those_of_the_square() -> None:
    """Three pixels of one colour each, uncut and unscaled, written out by hand."""
    raw = bytes([0, 1, 2, 128, 127, 126, 255, 254, 253])
    spec = PreprocessSpec("none", 3, 3, mean=(0.5, 0.4, 0.3))
    case = ImageCase("three", 3, 1, spec, raw=raw)
    square = bytes(9) + raw + bytes(9)  # black rows above and below
    assert case.to_json()["bytes_sha256"] == hashlib.sha256(square).hexdigest()


def test_samples_lead_back_to_the_float32() -> None:
    case = ImageCase("noise", 50, 40, PreprocessSpec(resize_size=20, crop_size=17), seed=3)
    flat = case.tensor().ravel()
    samples = case.to_json()["samples"]
    assert len(samples) == 8
    assert samples[-1][0] == flat.size - 1
    for place, value in samples:
        assert np.float32(value) == flat[place]
        assert len(repr(value)) <= 14


# Classes


@pytest.mark.parametrize("case", COMMITTED["classification"], ids=lambda case: case["name"])
def test_ranking_by_hand(case: dict[str, Any]) -> None:
    logits = np.float32(case["logits"]).tolist()
    order = sorted(range(len(logits)), key=lambda index: (-logits[index], index))
    assert case["top"] == order[: COMMITTED_SPEC["top_k"]]
    powers = [math.exp(value - max(logits)) for value in logits]
    expected = [power / sum(powers) for power in powers]
    assert case["probabilities"] == pytest.approx(expected, abs=1e-9)


def test_class_cases_hold_their_traps() -> None:
    logits = {case["name"]: case["logits"] for case in COMMITTED["classification"]}
    assert {math.copysign(1, value) for value in logits["signed zeros"]} == {-1, 1}
    with np.errstate(over="ignore"):
        large = np.float32(logits["large values"])
        assert np.isinf(large.max() - large.min())
    close = sorted(set(np.float32(logits["neighbours"])))
    assert np.nextafter(close[0], close[1]) == close[1]
    assert all(len(values) == len(COMMITTED_SPEC["labels"]) for values in logits.values())


def answered(cases: dict[str, Any]) -> list[tuple[str, str]]:
    """(image, artefact) of the class cases that a model answered."""
    told = [(case["image"], case["artefact"]) for case in cases["classification"]]
    assert all((image is None) == (artefact is None) for image, artefact in told)
    return [(image, artefact) for image, artefact in told if image is not None]


def test_only_measured_logits_are_answers_to_a_photo() -> None:
    """An app runs its model on that photo, and compares."""
    made = manifest()
    cases = golden_cases(made, {})
    assert answered(cases) == []
    names = [case["name"] for case in cases["images"]]
    assert len(set(names)) == len(names)
    logits = measured_logits(lambda pixels: np.float32([[0, 1, 2, 3]]), made)
    assert answered(golden_cases(made, logits)) == [(name, made.artefact) for name in logits]
    assert set(logits) < set(names)
    foreign = golden_cases(made, {"my photo.jpg": np.zeros(4)})
    assert (answered(foreign), foreign["classification"][0]["name"]) == ([], "my photo.jpg")


def test_each_file_has_answers_of_its_own() -> None:
    made = manifest()
    logits = measured_logits(lambda pixels: np.float32([[0, 1, 2, 3]]), made)
    cases = golden_cases(made, logits, {"other.pte": {name: -logits[name] for name in logits}})
    files = (made.artefact, "other.pte")
    assert answered(cases) == [(name, file) for file in files for name in logits]
    own = [case["logits"] for case in cases["classification"] if case["artefact"] == "other.pte"]
    assert own == [[0, -1, -2, -3]] * len(logits)


def test_committed_answers_are_those_of_the_bundled_photos() -> None:
    photos = [case["name"] for case in COMMITTED["images"] if "base64" in case["pixels"]]
    assert answered(COMMITTED) == [(name, COMMITTED_SPEC["artefact"]) for name in photos]
    assert len(photos) == 4


@pytest.mark.parametrize("classes", [1, 2, 3, 1000])
def test_any_number_of_classes(classes: int) -> None:
    made = manifest(classes)
    logits = measured_logits(lambda pixels: np.zeros((1, classes), np.float32), made)
    cases = golden_cases(made, logits)
    for case in cases["classification"]:
        assert len(case["top"]) == min(5, classes)
        assert sum(case["probabilities"]) == pytest.approx(1, abs=1e-6)
    for case in cases["refused"]:
        values = [float(value) for value in case["logits"]]
        assert len(values) != classes or not all(map(math.isfinite, values))


def test_generated_photos_stand_in_for_unknown_weights(photos: Path) -> None:
    seen: list[np.ndarray] = []

    def runner(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels)
        return np.float32([[1, 2, 3, len(seen)]])

    made = manifest()
    logits = measured_logits(runner, made)
    answers = {case["name"]: case for case in golden_cases(made, logits)["images"]}
    for name, pixels in zip(logits, seen, strict=True):
        assert pixels.shape == (1, 3, 32, 32)
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == answers[name]["tensor_sha256"]
    assert list(measured_logits(runner, made, photos)) == [
        "cat/0.png", "cat/4.png", "dog/0.png", "dog/4.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([[1, 2, 3]], r"shape \(1, 3\) for 4 labels"),
        ([[1, 2, 3, float("nan")]], "NaN or infinite"),
        ([[1, 2, 3, float("-inf")]], "NaN or infinite"),
    ],
)
def test_bad_logits_are_refused(returned: list[list[float]], message: str) -> None:
    with pytest.raises(EdgeDeitError, match=message):
        measured_logits(lambda pixels: np.float32(returned), manifest())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "features"}, "returns features, not classes"),
        ({"labels": ["a", "b"]}, "returns 4 values for 2 labels"),
        ({"labels": ["a", "b", "c", "d\ne"]}, "line break"),
    ],
)
def test_what_has_no_contract_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EdgeDeitError, match=message):
        golden_spec(manifest(**change))


# The files


def test_spec_holds_what_the_manifest_says() -> None:
    made = manifest(labels=["Übergröße", "b", "c", "d"])
    spec = golden_spec(made)
    assert spec["preprocessing"] == made.preprocessing
    assert spec["input"] == made.input
    expected = hashlib.sha256("Übergröße\nb\nc\nd".encode()).hexdigest()
    assert spec["labels_sha256"] == expected


def test_files_round_trip_and_nothing_else_is_left(tmp_path: Path) -> None:
    made = manifest(labels=["Übergröße", "b", "c", "d"])
    spec, cases = golden_spec(made), golden_cases(made, {})
    write_golden(tmp_path / "new", spec, cases)
    files = {path.name: path for path in (tmp_path / "new").iterdir()}
    assert files.keys() == {"golden_spec.json", "golden_cases.json"}
    for name, data in (("golden_spec.json", spec), ("golden_cases.json", cases)):
        text = files[name].read_text(encoding="utf-8")
        assert json.dumps(json.loads(text)) == json.dumps(data)


def test_committed_images_are_what_is_generated_now() -> None:
    spec = PreprocessSpec.from_json(COMMITTED_SPEC["preprocessing"])
    generated = json.loads(json.dumps([case.to_json() for case in image_cases(spec)]))
    assert COMMITTED["images"] == generated


def test_committed_files_are_what_is_made_now(tmp_path: Path) -> None:
    assert COMMITTED["files"] == [case.to_json() for case in file_cases()]
    for case in COMMITTED["files"]:
        path = tmp_path / "photo.png"
        path.write_bytes(base64.b64decode(case["png"]))
        image = load_image(path)
        assert image.size == (case["width"], case["height"])
        assert hashlib.sha256(image.tobytes()).hexdigest() == case["rgb_sha256"]
    plain, wide = COMMITTED["files"]
    assert plain["rgb_sha256"] == wide["rgb_sha256"]
    assert plain["png"] != wide["png"]


def test_the_profile_is_display_p3s() -> None:
    """What a decoder that converts would make of it: Display P3 (180, 90, 60) is sRGB (193, 83, 51)."""
    profile = display_p3_profile()
    size, *_ = struct.unpack(">I", profile[:4])
    assert size == len(profile)
    given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    assert ImageCms.getProfileDescription(given).strip() == "Display P3"
    colours = Image.new("RGB", (2, 1))
    colours.putdata([(180, 90, 60), (60, 120, 50)])
    found = ImageCms.profileToProfile(colours, given, ImageCms.createProfile("sRGB"))
    assert found is not None
    expected = np.array([[193, 83, 51], [30, 122, 38]])
    assert np.abs(np.asarray(found).reshape(2, 3).astype(int) - expected).max() <= 1


def test_committed_class_cases_are_what_is_made_now() -> None:
    classes = len(COMMITTED_SPEC["labels"])
    made = json.loads(json.dumps(golden_cases(manifest(classes), {})))
    assert made["refused"] == COMMITTED["refused"]
    assert made["classification"] == COMMITTED["classification"][-len(made["classification"]) :]
    assert len(made["classification"]) >= 7


@pytest.mark.slow
def test_the_committed_set_is_current(tmp_path: Path, command_line: CommandLine) -> None:
    """`python -m edge_deit.golden` on the bundled model as fp32 ONNX; converters may change its bytes."""
    pytest.importorskip("onnxruntime", reason="the committed logits are those of the ONNX file")
    pytest.importorskip("onnxscript", reason="the committed logits are those of the ONNX file")
    done = command_line(
        "export", "--target", "onnx", "--precision", "fp32", "--output", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    artefact = tmp_path / "out" / COMMITTED_SPEC["artefact"]
    done = command_line("golden", artefact, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    new_spec, new = (
        json.loads((tmp_path / f"golden_{name}.json").read_text()) for name in ("spec", "cases")
    )
    assert new_spec | {"artefact_sha256": ""} == COMMITTED_SPEC | {"artefact_sha256": ""}
    assert new.keys() == COMMITTED.keys()
    assert new["images"] == COMMITTED["images"]
    assert new["files"] == COMMITTED["files"]
    assert new["refused"] == COMMITTED["refused"]
    for case, old in zip(new["classification"], COMMITTED["classification"], strict=True):
        assert (case["name"], case["top"]) == (old["name"], old["top"])
        assert case["logits"] == pytest.approx(old["logits"], abs=1e-4)
        assert case["probabilities"] == pytest.approx(old["probabilities"], abs=1e-4)
