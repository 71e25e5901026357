"""Files that take a photo's bytes and return probabilities say the same as those of pixels and logits."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import TINY, CommandLine, random_model
from edge_deit.artefacts.artefact import read_artefact
from edge_deit.artefacts.contract import Contract
from edge_deit.artefacts.inside import open_layer_reader
from edge_deit.artefacts.predict import predict_photos
from edge_deit.artefacts.runners import open_runner
from edge_deit.common.errors import EdgeDeitError
from edge_deit.conversion.run import export_model
from edge_deit.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, PreprocessSpec, bytes_of
from edge_deit.data.preprocess import normalise as normalised
from edge_deit.exporters import TARGETS, target
from edge_deit.metrics.outputs import aligned, softmax
from edge_deit.mobile.bundle import bundle_artefacts
from edge_deit.mobile.golden import measured_logits
from edge_deit.mobile.golden_images import PHOTOS
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deploy import deploy
from edge_deit.model.file_form import FileForm, in_file_form, read_grey_levels
from edge_deit.quantization.narrow import split_coarse
from edge_deit.quantization.scheme import Precision
from shared import once

PRECISIONS: dict[bool, tuple[Precision, ...]] = {
    False: ("fp32", "int8"),
    True: ("fp32", "int8", "int8-full"),
}
IMAGE = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("mean", [(0.5, 0.4, 0.3), IMAGENET_MEAN])
def test_bytes_come_back_exactly(mean: tuple[float, float, float]) -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    spec = PreprocessSpec(mean=mean, std=IMAGENET_STD)
    assert np.array_equal(bytes_of(normalised(every, spec)[None], spec)[0], every)


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("conditioned", [False, True])
def test_the_form_of_bytes_is_the_same_function(planes: bool, conditioned: bool) -> None:
    form = deploy(random_model(TINY))
    spec = PreprocessSpec(crop_size=64)
    pixels = torch.from_numpy(normalised(IMAGE[0], spec)[None])
    with torch.inference_mode():
        logits = form(pixels)
    if conditioned:
        read_grey_levels(form, spec.mean, spec.std)
        split_coarse(form)
    made = in_file_form(
        form, FileForm("image", "probabilities"), spec.mean, spec.std, planes=planes
    )
    source = torch.from_numpy(IMAGE)
    if planes:
        source = source.permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        probabilities = made(source)
    assert torch.allclose(probabilities, logits.softmax(-1), rtol=1e-3, atol=1e-6)
    assert made.grey_levels is None
    assert form.image is None


def _export(folder: Path, weights: Path, **settings: Any) -> None:
    folder.mkdir()
    name = folder.name.removeprefix("image_").partition("_")[0]
    export_model(
        str(weights),
        targets=[name],
        output=folder,
        parity_images=3,
        calibration_images=6,
        **settings,
    )


@pytest.fixture(scope="module")
def image_files(shared: Path, tiny_weights: Path, photos: Path) -> Callable[[str], dict[str, Path]]:
    """Target -> precision -> the tiny model's file that takes images, made once."""

    def files(name: str) -> dict[str, Path]:
        if missing := target(name).missing():
            pytest.skip(f"{', '.join(missing)} not installed")
        precisions = PRECISIONS[name == "tflite"]
        folder = once(
            shared / f"image_{name}_files",
            lambda made: _export(
                made, tiny_weights, precisions=precisions, calibration=photos, input_kind="image"
            ),
        )
        return {
            precision: next(folder.glob(f"*.{precision}.image{target(name).suffix}"))
            for precision in precisions
        }

    return files


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "coreai"])  # test_coreai.py
def test_answers_are_those_of_the_file_of_pixels(
    name: str,
    image_files: Callable[[str], dict[str, Path]],
    exported: Callable[[str], Path],
    photos: Path,
) -> None:
    files, images = image_files(name), sorted((photos / "cat").glob("*.png"))[:3]
    expected = predict_photos(exported(name), images, top=10)
    for precision in files:
        most = 1e-5 if precision == "fp32" else 0.1
        manifest = read_artefact(files[precision]).manifest
        assert (manifest.input["dtype"], manifest.input["shape"]) == ("uint8", [1, 64, 64, 3])
        assert manifest.output["name"] == "probabilities"
        found = predict_photos(files[precision], images, top=10)
        for one, other in zip(found, expected, strict=True):
            ours = {c.index: c.probability for c in one.top}
            theirs = {c.index: c.probability for c in other.top}
            assert max(abs(ours[index] - theirs[index]) for index in theirs) < most, precision


def test_pixels_may_return_probabilities(tiny_weights: Path, photos: Path, tmp_path: Path) -> None:
    made = export_model(
        str(tiny_weights),
        targets=["onnx"],
        precisions=["fp32"],
        returns="probabilities",
        output=tmp_path,
        parity_images=2,
    )
    import onnxruntime

    session = onnxruntime.InferenceSession(made.artefacts[0].path)
    pixels = np.zeros((1, 3, 64, 64), np.float32)
    (found,) = session.run(["probabilities"], {"pixels": pixels})
    assert abs(float(found.sum()) - 1) < 1e-5
    assert made.artefacts[0].closeness is not None
    assert made.artefacts[0].closeness.snr_db > 90


def test_validate_gives_such_files_the_figures_of_the_others(
    image_files: Callable[[str], dict[str, Path]],
    exported: Callable[[str], Path],
    photos: Path,
    command_line: CommandLine,
    tmp_path: Path,
) -> None:
    files = [exported("onnx"), *image_files("onnx").values()]
    loose = photos / "dog"
    report = tmp_path / "report"
    options = "--no-latency", "--layers", "--output", report
    result = command_line("validate", *files, "--data", loose, *options)
    assert result.returncode == 0, result.stderr
    pixels, image, integer = json.loads((report / "report.json").read_text())["artefacts"]
    assert pixels["snr_db"] > 90
    assert image["snr_db"] > 90
    assert image["agreement"] == pixels["agreement"] == 1
    assert 5 < integer["snr_db"] < 60
    for one in (image, integer):
        assert abs(one["layers"]["snr_db"][-1] - one["snr_db"]) < 20


def test_a_classifier_for_core_ml(image_files: Callable[[str], dict[str, Path]]) -> None:
    from edge_deit.exporters.mlpackage import read_specification

    description = read_specification(image_files("coreml")["int8"]).description
    assert description.input[0].type.imageType.width == 64
    assert description.predictedFeatureName == "classLabel"
    assert {one.name for one in description.output} == {"classLabel", "classLabel_probs"}
    metadata = description.metadata
    assert metadata.userDefined["com.apple.coreml.model.preview.type"] == "imageClassifier"
    assert all(
        (metadata.shortDescription, metadata.author, metadata.license, metadata.versionString)
    )


def test_bytes_are_exact_where_all_is_integer(
    image_files: Callable[[str], dict[str, Path]],
) -> None:
    """The first operator takes 128 away, and nothing is rounded; only the softmax is float."""
    from ai_edge_litert import schema_py_generated as schema

    from edge_deit.exporters.tflite.file import kind, read

    file = read(image_files("tflite")["int8-full"])
    (graph,) = file.subgraphs
    kinds = [kind(file, operator) for operator in graph.operators]
    assert (kinds[0], kinds[-2:]) == ("QUANTIZE", ["DEQUANTIZE", "SOFTMAX"])
    ends = [graph.tensors[index] for index in (graph.inputs[0], graph.operators[0].outputs[0])]
    assert [tensor.type for tensor in ends] == [schema.TensorType.UINT8, schema.TensorType.INT8]
    steps = [(float(t.quantization.scale[0]), int(t.quantization.zeroPoint[0])) for t in ends]
    assert steps == [(1.0, 0), (1.0, -128)]
    scheme = read_artefact(image_files("tflite")["int8-full"]).manifest.scheme
    assert "ranges" not in scheme  # they are those of another graph
    assert "token_scaled" not in scheme
    between = {int(index) for one in graph.operators[1:-2] for index in one.outputs}
    whole = {schema.TensorType.INT8, schema.TensorType.INT16}
    assert {graph.tensors[index].type for index in between} == whole


def test_points_inside_integers_of_bytes(image_files: Callable[[str], dict[str, Path]]) -> None:
    """The softmax of the classes is no attention."""
    artefact = read_artefact(image_files("tflite")["int8-full"])
    spec = artefact.manifest.preprocess_spec
    pixels = normalised(IMAGE[0], spec)[None]
    config = DeiTConfig(**artefact.manifest.config)  # type: ignore[arg-type]
    with (
        open_layer_reader(artefact, config) as reader,
        open_runner(artefact.path, 1) as runner,
    ):
        points = reader.read(pixels)
        assert np.allclose(points["logits"], runner(pixels), atol=1e-5)
    assert points["blocks.1.attention"].shape[-1] == config.num_tokens


def test_labels_lie_behind_the_lite_model(image_files: Callable[[str], dict[str, Path]]) -> None:
    from edge_deit.exporters.tflite.export import read_metadata

    for path in image_files("tflite").values():
        with zipfile.ZipFile(path) as archive:
            (entry,) = archive.infolist()
            names = archive.read("labels.txt").decode().splitlines()
        assert entry.compress_type == zipfile.ZIP_STORED
        assert names == [f"class {index}" for index in range(10)]
        assert read_metadata(path)["labels"].splitlines() == names


def test_what_cannot_be_is_refused(tiny_weights: Path, photos: Path, tmp_path: Path) -> None:
    weights, out = str(tiny_weights), tmp_path / "out"
    with pytest.raises(EdgeDeitError, match="--returns probabilities: --task features"):
        export_model(
            weights, targets=["onnx"], precisions=["fp32"], output=out, calibration=photos,
            task="features", returns="probabilities",
        )  # fmt: skip
    with pytest.raises(EdgeDeitError, match="unknown input_kind 'photo'"):
        export_model(weights, input_kind="photo")  # type: ignore[arg-type]


def test_a_constant_does_not_count() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 5))
    logs = np.log([softmax(one) for one in logits])
    assert np.allclose(aligned(logits, logs), logits)
    assert not np.allclose(logs, logits)


def test_the_apps_get_such_files_beside_the_others(
    image_files: Callable[[str], dict[str, Path]], exported: Callable[[str], Path], tmp_path: Path
) -> None:
    """The golden logits of a file of images are the logarithms of what it returns."""
    (tmp_path / "app/src/main").mkdir(parents=True)
    image, pixels = image_files("tflite")["fp32"], exported("tflite")
    done = bundle_artefacts([image, pixels], android=tmp_path)
    assert [one.path for one in done.deliveries[0].artefacts] == [image, pixels]
    place = done.deliveries[0].place
    assert read_artefact(place / image.name).manifest.input["dtype"] == "uint8"
    assert done.specs["Android"]["output"]["name"] == "probabilities"
    cases = json.loads((place / "golden_cases.json").read_text(encoding="utf-8"))
    named = {case["name"]: case for case in cases["images"]}
    compared = [case for case in cases["classification"] if case["name"] in named]
    assert len(compared) == PHOTOS
    expected = measured_logits(open_runner(pixels, 1), read_artefact(pixels).manifest)
    for case in compared:
        assert abs(float(np.exp(case["logits"]).sum()) - 1) < 1e-5
        assert case["probabilities"] == pytest.approx(softmax(expected[case["name"]]), abs=1e-5)


def test_what_emulated_cores_get(exported: Callable[[str], Path]) -> None:
    spec = PreprocessSpec(resize_size=72, crop_size=64)
    pixels = normalised(IMAGE[0], spec)[None].repeat(2, axis=0)
    source = Contract(image=True, probabilities=True, spec=spec).input_of(pixels)
    assert np.array_equal(source, IMAGE.repeat(2, axis=0))
    assert Contract.of(read_artefact(exported("onnx")).manifest).input_of(pixels) is pixels
