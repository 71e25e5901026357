"""Core ML: parity by reference numerics, names, metadata and size; damaged packages are refused."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.quiet import quiet
from edge_deit.exporters.coreml import export as coreml
from edge_deit.exporters.coreml import reference as mil_reference
from edge_deit.exporters.coreml.operators import OPERATORS
from edge_deit.exporters.coreml.target import TARGET
from edge_deit.exporters.mlpackage import read_specification
from edge_deit.exporters.target import ExportRequest
from edge_deit.metrics.outputs import closeness
from edge_deit.model.deploy import deploy
from edge_deit.model.form import quantizable_layers
from edge_deit.quantization.scheme import Precision, Scheme
from exporter_models import CONFIGS, CONFIGS_AND_NEWEST, fresh_model, images, request_for
from shared import once

if missing := TARGET.missing():
    pytest.skip(f"needs {', '.join(missing)}", allow_module_level=True)

METADATA = {
    "labels": "T-shirt\nÄrmel",
    "preprocessing": '{"crop_size": 64}',
    "author": "",
    "license": "Apache-2.0",
    "description": "a test",
    "version": "0123",
}
MIN_COSINE = {"fp32": 0.99999, "fp16": 0.99, "int8": 0.95}
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


def request_at(folder: Path, kind: str, scheme: Scheme, photos: int = 8) -> ExportRequest:
    """What the exporter is told for one model and scheme, with a package name of its own."""
    output = folder / f"{kind}.{scheme.precision}.{len(scheme.keep_float)}.mlpackage"
    form = deploy(fresh_model(kind))
    return request_for(TARGET, form, scheme, output, photos=photos, metadata=METADATA)


def export(folder: Path, kind: str, scheme: Scheme) -> Path:
    """The exported package of one model and scheme."""
    request = request_at(folder, kind, scheme)
    with quiet():
        return once(request.output, lambda _: TARGET.export(request))


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    """One folder for the whole module."""
    (shared / "coreml").mkdir(exist_ok=True)
    return shared / "coreml"


@pytest.fixture(scope="module")
def packages(folder: Path) -> dict[tuple[str, Precision], Path]:
    """Every model's package in each precision."""
    return {(kind, p): export(folder, kind, Scheme(p)) for kind in CONFIGS for p in PRECISIONS}


@pytest.fixture
def copy(tmp_path: Path, packages: dict[tuple[str, Precision], Path]) -> Path:
    """A package that a test may damage."""
    return Path(shutil.copytree(packages["plain", "int8"], tmp_path / "broken.mlpackage"))


def size_bytes(package: Path) -> int:
    """All files of a package together."""
    return sum(file.stat().st_size for file in package.rglob("*") if file.is_file())


def operators(package: Path) -> list[str]:
    """Kinds of the program's operators, in order."""
    (function,) = read_specification(package).mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    return [operation.type for operation in block.operations]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", CONFIGS_AND_NEWEST)
def test_outputs_are_those_of_the_float_model(
    folder: Path, kind: str, precision: Precision
) -> None:
    with quiet():
        runner = mil_reference.load(export(folder, kind, Scheme(precision)), 2)
    pixels = images(4, seed=3)
    outputs = np.concatenate([runner(image.numpy()) for image in pixels.split(1)])
    with torch.inference_mode():
        reference = fresh_model(kind)(pixels).numpy()
    assert outputs.dtype == np.float32
    result = closeness(reference, outputs, classes=kind != "features")
    assert result.cosine >= MIN_COSINE[precision]
    if precision == "fp32":
        assert result.max_abs <= 1e-3
    else:
        assert result.max_abs > 1e-5, "rounding must show, or the types were not followed"


@pytest.mark.skipif(platform.system() != "Darwin", reason="Core ML runs only on macOS")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_core_ml_agrees_with_the_reference(
    packages: dict[tuple[str, Precision], Path], precision: Precision
) -> None:
    path, pixels = packages["plain", precision], images(1, seed=3).numpy()
    real = coreml.load_runner(path, 1)(pixels)
    result = closeness(mil_reference.load(path, 1)(pixels), real, classes=True)
    assert result.cosine >= 0.999


@pytest.mark.parametrize(("system", "runs"), [("Linux", False), ("Darwin", True)])
def test_what_runs_the_file_is_said(
    monkeypatch: pytest.MonkeyPatch, system: str, runs: bool
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    reason = coreml.runs_on()
    assert (reason is None) == runs
    assert runs or "which is not Core ML" in str(reason)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("kind", "output"), [("plain", "logits"), ("features", "features")])
def test_names_types_and_metadata(
    packages: dict[tuple[str, Precision], Path], kind: str, output: str, precision: Precision
) -> None:
    package = packages[kind, precision]
    description = read_specification(package).description
    (source,), (result,) = description.input, description.output
    assert (source.name, result.name) == ("pixels", output)
    assert list(source.type.multiArrayType.shape) == [1, 3, 64, 64]
    shape = [1, 10] if kind == "plain" else [1, 17, 192]
    assert list(result.type.multiArrayType.shape) == shape
    float32 = source.type.multiArrayType.FLOAT32
    assert source.type.multiArrayType.dataType == result.type.multiArrayType.dataType == float32
    assert "preprocessing" in source.shortDescription
    assert result.shortDescription
    assert coreml.read_metadata(package) == METADATA
    files = {str(f.relative_to(package)) for f in package.rglob("*") if f.is_file()}
    assert files == {"Manifest.json", MODEL, WEIGHTS}


def test_coremltools_reads_the_package(packages: dict[tuple[str, Precision], Path]) -> None:
    with quiet():
        import coremltools as ct

        model = ct.models.MLModel(str(packages["plain", "int8"]), skip_model_load=True)
    assert dict(model.user_defined_metadata)["labels"] == METADATA["labels"]
    assert (model.license, model.version) == ("Apache-2.0", "0123")
    assert model.short_description == "a test"


def test_only_the_layers_of_the_scheme_are_integer(
    folder: Path, packages: dict[tuple[str, Precision], Path]
) -> None:
    layers = quantizable_layers(deploy(fresh_model("plain")))
    whole = operators(packages["plain", "int8"])
    assert whole.count("constexpr_affine_dequantize") == len(layers)
    assert whole.count("linear") == len(layers) - 1 + 5  # 5 norms, the convolution is no linear
    shared = 2 + 1  # k and v read what q reads; in the last block q reads a slice of it
    assert whole.count("quantize") == whole.count("dequantize") == len(layers) - shared
    kept = export(folder, "plain", Scheme("int8", ("blocks.0.mlp.*", "patch_embed")))
    assert operators(kept).count("constexpr_affine_dequantize") == len(layers) - 3
    with quiet():
        logits = mil_reference.load(kept, 2)(images(1, seed=3).numpy())
    assert np.isfinite(logits).all()


def test_sizes(packages: dict[tuple[str, Precision], Path]) -> None:
    fp32, fp16, int8 = (size_bytes(packages["plain", p]) for p in PRECISIONS)
    assert fp16 < 0.52 * fp32
    assert int8 <= 0.30 * fp32


def test_what_the_format_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeDeitError, match="has no int8-dynamic"):
        coreml.export(request_at(tmp_path, "plain", Scheme("int8-dynamic")))
    without = request_at(tmp_path, "plain", Scheme("int8"), photos=0)
    with pytest.raises(EdgeDeitError, match="calibration"):
        coreml.export(without)
    assert not without.output.exists()


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.1, 0.5, 0.9, 0.9999])
def test_weights_cut_short_are_refused(copy: Path, share: float) -> None:
    content = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(content[: int(share * len(content))])
    with pytest.raises(EdgeDeitError, match=r"broken\.mlpackage.*cut short"):
        mil_reference.load(copy, 1)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.1, 0.5, 0.9, 0.9999])
def test_a_model_cut_short_is_refused(copy: Path, share: float) -> None:
    content = (copy / MODEL).read_bytes()
    (copy / MODEL).write_bytes(content[: int(share * len(content))])
    with pytest.raises(EdgeDeitError, match=r"broken\.mlpackage"):
        mil_reference.load(copy, 1)


@pytest.mark.parametrize("part", [MODEL, WEIGHTS, "Manifest.json"])
def test_a_package_with_a_part_missing_is_refused(copy: Path, part: str) -> None:
    (copy / part).unlink()
    with pytest.raises(EdgeDeitError, match=r"broken\.mlpackage.*export it again"):
        mil_reference.load(copy, 1)


def test_other_weights_are_refused(copy: Path, packages: dict[tuple[str, Precision], Path]) -> None:
    shutil.copy(packages["plain", "fp32"] / WEIGHTS, copy / WEIGHTS)
    with pytest.raises(EdgeDeitError, match="another model"):
        mil_reference.load(copy, 1)


def test_other_files_are_refused(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(EdgeDeitError, match="does not exist"):
        mil_reference.load(tmp_path / "absent.mlpackage", 1)
    file = tmp_path / "photo.mlpackage"
    file.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(EdgeDeitError, match=r"photo\.mlpackage"):
        coreml.read_metadata(file)
    manifest = json.loads((copy / "Manifest.json").read_text())
    outside = tmp_path / "model.mlmodel"
    shutil.copy(copy / MODEL, outside)
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = str(outside)
    (copy / "Manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EdgeDeitError, match="missing"):
        coreml.read_metadata(copy)


def test_an_unknown_operator_is_refused_by_name(copy: Path) -> None:
    specification = read_specification(copy)
    (function,) = specification.mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    next(o for o in block.operations if o.type == "gelu").type = "sinh"
    (copy / MODEL).write_bytes(specification.SerializeToString())
    with pytest.raises(EdgeDeitError, match="sinh"):
        mil_reference.load(copy, 1)


def test_pixels_of_another_shape_are_refused(
    packages: dict[tuple[str, Precision], Path],
) -> None:
    runner = mil_reference.load(packages["plain", "fp32"], 1)
    with pytest.raises(EdgeDeitError, match="224"):
        runner(np.zeros((1, 3, 224, 224), np.float32))


# Operators, each against coremltools' own numpy semantics


def normal(*shape: int) -> np.ndarray:
    """Seeded normal values, float32."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


Q8 = {"scale": np.float32(0.02), "zero_point": np.uint8(100)}
PER_ROW = {
    "zero_point": np.array([0, 3, -5], np.int8),
    "scale": np.array([0.1, 0.2, 0.3], np.float32),
    "axis": np.int32(0),
}
CASES: dict[str, dict[str, Any]] = {
    "add": {"x": normal(1, 5, 8), "y": normal(1, 1, 8)},
    "mul": {"x": normal(1, 5, 8), "y": normal(1, 5, 1)},
    "sub": {"x": normal(1, 5, 8), "y": normal(1, 5, 1)},
    "linear": {"x": normal(5, 8), "weight": normal(3, 8), "bias": normal(3)},
    "matmul": {"x": normal(3, 5, 8), "y": normal(3, 5, 8), "transpose_y": True},
    "softmax": {"x": normal(3, 5, 5), "axis": np.int32(-1)},
    "gelu": {"x": normal(5, 8), "mode": "EXACT"},
    "rsqrt": {"x": np.abs(normal(5, 1)), "epsilon": np.float32(1e-3)},
    "reshape": {"x": normal(4, 6), "shape": np.array([-1, 3, 2], np.int32)},
    "transpose": {"x": normal(4, 6, 2), "perm": np.array([1, -1, 0], np.int32)},
    "pad": {
        "x": normal(1, 4, 2),
        "pad": np.array([0, 0, 1, 0, 2, 3], np.int32),
        "mode": "constant",
        "constant_val": np.float32(0.5),
    },
    "slice_by_index": {
        "x": normal(1, 5, 8),
        "begin": np.array([0, 1, 0], np.int32),
        "end": np.array([1, 4, 8], np.int32),
        "stride": np.array([1, 2, 1], np.int32),
        "end_mask": np.array([True, False, True]),
    },
    "quantize": {"input": 3 * normal(5, 8), "output_dtype": "uint8", **Q8},
    "dequantize": {"input": np.arange(0, 256, 5, dtype=np.uint8), **Q8},
    "constexpr_affine_dequantize": {
        "quantized_data": np.arange(-12, 12, dtype=np.int8).reshape(3, 8),
        **PER_ROW,
    },
}


def in_coremltools(operator: str, inputs: dict[str, Any]) -> np.ndarray:
    """What coremltools itself computes for constant inputs."""
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb

    results: list[Any] = []

    def body(unused: Any) -> Any:
        build: Callable[..., Any] = getattr(mb, operator)
        results.append(build(**inputs))
        return mb.identity(x=unused)

    program = mb.program(input_specs=[mb.TensorSpec(shape=(1,))], opset_version=ct.target.iOS17)(
        body
    )
    assert program is not None
    (result,) = results
    value = result.val
    return np.asarray(result.op.materialized_val_inference() if value is None else value)


@pytest.mark.parametrize("operator", CASES)
def test_operators_agree_with_coremltools(operator: str) -> None:
    with quiet():
        expected = in_coremltools(operator, CASES[operator])
    arguments = {name: mil_reference.constant(value) for name, value in CASES[operator].items()}
    result = OPERATORS[operator](arguments).numpy()
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected.astype(np.float64), rtol=1e-5, atol=1e-6)


def test_convolution_agrees_with_its_definition() -> None:
    """coremltools has no numpy semantics for it."""
    x, weight, bias = normal(1, 3, 8, 8), normal(5, 3, 4, 4), normal(5)
    patches = x.reshape(3, 2, 4, 2, 4).transpose(1, 3, 0, 2, 4).reshape(4, 48)
    expected = (patches @ weight.reshape(5, 48).T + bias).T.reshape(1, 5, 2, 2)
    constants = {"x": x, "weight": weight, "bias": bias, "strides": np.array([4, 4], np.int32)}
    constants["dilations"] = np.array([1, 1], np.int32)
    arguments = {name: mil_reference.constant(value) for name, value in constants.items()}
    result = OPERATORS["conv"]({**arguments, "pad_type": "valid", "groups": 1})
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_average_pooling_agrees_with_its_definition() -> None:
    x = normal(1, 3, 8, 8)
    expected = x.reshape(1, 3, 2, 4, 2, 4).mean(axis=(3, 5))
    constants = {"x": x, "kernel_sizes": np.array([4, 4], np.int32), "pad": np.zeros(4, np.int32)}
    constants["strides"] = constants["kernel_sizes"]
    arguments = {name: mil_reference.constant(value) for name, value in constants.items()}
    result = OPERATORS["avg_pool"]({**arguments, "pad_type": "custom"})
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_batch_norm_agrees_with_its_definition() -> None:
    x, mean, gamma, beta = normal(1, 3, 8, 8), normal(3), normal(3) + 2, normal(3)
    variance, epsilon = np.abs(normal(3)) + 0.5, np.float32(1e-3)
    scale = (gamma / np.sqrt(variance + epsilon))[:, None, None]
    expected = (x - mean[:, None, None]) * scale + beta[:, None, None]
    constants = {"x": x, "mean": mean, "variance": variance, "gamma": gamma, "beta": beta}
    arguments = {name: mil_reference.constant(value) for name, value in constants.items()}
    result = OPERATORS["batch_norm"]({**arguments, "epsilon": epsilon})
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_every_operator_is_checked() -> None:
    elsewhere = {"conv", "cast", "avg_pool", "batch_norm", "constexpr_lut_to_dense"}
    assert set(CASES) | elsewhere == set(OPERATORS)


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        ("gelu", {"x": torch.ones(1), "mode": "SIGMOID_APPROXIMATION"}),
        ("pad", {"x": torch.ones(1), "mode": "reflect", "pad": [0, 0], "constant_val": 0}),
        ("conv", {"pad_type": "same"}),
        ("avg_pool", {"pad_type": "same"}),
    ],
)
def test_unknown_modes_are_refused(operator: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(EdgeDeitError, match=f"operator {operator}"):
        OPERATORS[operator](arguments)
