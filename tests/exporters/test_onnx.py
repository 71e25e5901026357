"""ONNX: parity, names, metadata and size of exported files; damaged ones are refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.quiet import quiet
from edge_deit.exporters.onnx import export as onnx_target
from edge_deit.exporters.onnx.session import SESSION_CONFIG
from edge_deit.exporters.onnx.target import TARGET
from edge_deit.metrics.outputs import closeness
from edge_deit.model.deploy import deploy
from edge_deit.model.form import quantizable_layers
from edge_deit.quantization.scheme import Precision, Scheme
from exporter_models import (
    CONFIGS,
    CONFIGS_AND_NEWEST,
    METADATA,
    assert_refused,
    fresh_model,
    images,
    outputs_of,
    request_for,
)
from shared import once

if missing := TARGET.missing():
    pytest.skip(f"needs {', '.join(missing)}", allow_module_level=True)

MIN_COSINE = {"fp32": 0.99999, "fp16": 0.9999, "int8": 0.95, "int8-dynamic": 0.95}
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int8-dynamic")


def export(folder: Path, kind: str, scheme: Scheme, *, dynamic_batch: bool = False) -> Path:
    """The exported file of one model and scheme, made once."""
    mark = "batched." if dynamic_batch else ""
    output = folder / f"{kind}.{scheme.precision}.{len(scheme.keep_float)}.{mark}onnx"
    request = request_for(TARGET, deploy(fresh_model(kind)), scheme, output)
    request = replace(request, dynamic_batch=dynamic_batch)
    with quiet():
        return once(output, lambda _: TARGET.export(request))


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    """One folder for the whole module."""
    (shared / "onnx").mkdir(exist_ok=True)
    return shared / "onnx"


@pytest.fixture(scope="module")
def plain(folder: Path) -> dict[Precision, Path]:
    """The plain model's file in each precision."""
    return {precision: export(folder, "plain", Scheme(precision)) for precision in PRECISIONS}


def integer_matrices(path: Path) -> int:
    """How many 8-bit weight matrices or kernels the graph uses."""
    import onnx

    graph = onnx.load(path).graph
    names = {
        entry.name
        for entry in graph.initializer
        if entry.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
        and len(entry.dims) > 1
    }
    return sum(name in names for node in graph.node for name in node.input)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", CONFIGS_AND_NEWEST)
def test_outputs_are_those_of_the_float_model(
    folder: Path, kind: str, precision: Precision
) -> None:
    path = export(folder, kind, Scheme(precision))
    pixels = images(4, seed=3)
    with torch.inference_mode():
        reference = fresh_model(kind)(pixels).numpy()
    result = closeness(reference, outputs_of(TARGET, path, pixels), classes=kind != "features")
    assert result.cosine >= MIN_COSINE[precision]
    if precision == "fp32":
        assert result.max_abs <= 1e-4


def test_names_and_metadata(plain: dict[Precision, Path]) -> None:
    import onnx

    for path in plain.values():
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model, full_check=True)
        (source,), (result,) = model.graph.input, model.graph.output
        assert (source.name, result.name) == ("pixels", "logits")
        assert [size.dim_value for size in source.type.tensor_type.shape.dim] == [1, 3, 64, 64]
        assert [size.dim_value for size in result.type.tensor_type.shape.dim] == [1, 10]
        assert not any(entry.external_data for entry in model.graph.initializer)
        assert list(path.parent.glob(f"{path.name}*")) == [path]
        assert onnx_target.read_metadata(path) == METADATA
    names = [node.name for node in onnx.load(plain["fp32"]).graph.node]
    assert len(names) == len(set(names))
    assert set(quantizable_layers(deploy(fresh_model("plain")))) <= set(names)


@pytest.mark.parametrize("precision", TARGET.batched)
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_free_batch_gives_each_photo_its_own_answer(
    folder: Path, kind: str, precision: Precision
) -> None:
    """One, three and 32 photos at once, against the file that takes one and against the float model."""
    path = export(folder, kind, Scheme(precision), dynamic_batch=True)
    pixels = images(32, seed=3)
    with quiet():
        runner = TARGET.load_runner(path, 1)
    found = [np.concatenate([runner(part.numpy()) for part in pixels.split(n)]) for n in (1, 3, 32)]
    fixed = outputs_of(TARGET, export(folder, kind, Scheme(precision)), pixels)
    scale = np.abs(fixed).max()
    most = {"fp32": 1e-5, "fp16": 2e-3, "int8": 2e-2}[precision]
    for one in found:
        assert one.shape == fixed.shape
        assert np.abs(one - fixed).max() <= most * scale
    with torch.inference_mode():
        reference = fresh_model(kind)(pixels).numpy()
    result = closeness(reference, found[-1], classes=kind != "features")
    assert result.cosine_all >= MIN_COSINE[precision]


def test_a_batched_graph_asks_for_its_shape_once(folder: Path) -> None:
    """The batch axis is free, and no reshape computes its sizes at run time."""
    import onnx

    path = export(folder, "distilled", Scheme("int8"), dynamic_batch=True)
    graph = onnx.load(path).graph
    ends = [graph.input[0].type.tensor_type.shape.dim, graph.output[0].type.tensor_type.shape.dim]
    assert [one[0].dim_param for one in ends] == ["batch", "batch"]
    assert [size.dim_value for size in ends[0]][1:] == [3, 64, 64]
    constants = {entry.name for entry in graph.initializer}
    assert all(node.input[1] in constants for node in graph.node if node.op_type == "Reshape")
    assert sum(node.op_type == "Shape" for node in graph.node) == 1
    layers = quantizable_layers(deploy(fresh_model("distilled")))
    assert set(layers) <= {node.name for node in graph.node}
    assert integer_matrices(path) == len(layers)


def test_half_precision_leaves_the_norms_single(plain: dict[Precision, Path]) -> None:
    """Weights are half as large, the ends are float32, and squares are taken in float32."""
    import onnx

    assert plain["fp16"].stat().st_size < 0.55 * plain["fp32"].stat().st_size
    graph = onnx.shape_inference.infer_shapes(onnx.load(plain["fp16"])).graph
    kinds = {one.name: one.type.tensor_type.elem_type for one in graph.value_info}
    single, half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    assert all(one.type.tensor_type.elem_type == single for one in (*graph.input, *graph.output))
    assert {kinds[n.output[0]] for n in graph.node if n.op_type in ("Pow", "ReduceMean")} == {
        single
    }
    assert {kinds[n.output[0]] for n in graph.node if n.op_type == "MatMul"} == {half}


@pytest.mark.parametrize(("precision", "floats"), [("int8", 0), ("int8-dynamic", 1)])
def test_only_the_layers_of_the_scheme_are_integer(
    folder: Path, plain: dict[Precision, Path], precision: Precision, floats: int
) -> None:
    """The dynamic form leaves the convolution in float."""
    layers = quantizable_layers(deploy(fresh_model("plain")))
    assert integer_matrices(plain[precision]) == len(layers) - floats
    kept = export(folder, "plain", Scheme(precision, ("blocks.0.mlp.*", "head")))
    assert integer_matrices(kept) == len(layers) - floats - 3
    assert kept.stat().st_size > plain[precision].stat().st_size


def test_layers_may_have_their_ranges_at_run_time_one_by_one(
    folder: Path, plain: dict[Precision, Path]
) -> None:
    """Static, dynamic and float layers in one file; each keeps its name and its form."""
    import onnx

    layers = quantizable_layers(deploy(fresh_model("plain")))
    scheme = Scheme("int8", ("head",), ("blocks.0.attn.q", "blocks.1.mlp.fc2"))
    path = export(folder, "plain", scheme)
    assert integer_matrices(path) == len(layers) - 1
    kinds = Counter(node.op_type for node in onnx.load(path).graph.node)
    static = Counter(node.op_type for node in onnx.load(plain["int8"]).graph.node)
    assert kinds["MatMulInteger"] == 2
    assert kinds["Gemm"] == static["Gemm"] - 2
    names = {node.name for node in onnx.load(path).graph.node}
    assert set(layers) - set(scheme.dynamic) <= names
    pixels = images(2, seed=3)
    with torch.inference_mode():
        reference = fresh_model("plain")(pixels).numpy()
    found = outputs_of(TARGET, path, pixels)
    assert closeness(reference, found, classes=True).cosine >= MIN_COSINE["int8"]


COREML_PROVIDER = set(
    """
    Add Argmax AveragePool Cast Ceil Clip Concat Conv ConvTranspose Cos DepthToSpace Div Elu Erf
    Exp GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool GridSample GroupNormalization
    HardSigmoid Identity InstanceNormalization LayerNormalization LeakyRelu MatMul Max MaxPool
    Mul PRelu Pow Range Reciprocal ReduceMax ReduceMean ReduceSum Relu Reshape Resize Round
    Shape Sigmoid Sin Slice Softmax Softplus Split Sqrt Squeeze Sub Tanh Tile Transpose
    Unsqueeze
    """.split()  # noqa: SIM905 # as a list it fills the page
)
"""What ONNX Runtime's Core ML provider takes as MLProgram, without its own domain: the list in its source,
tools/ci_build/github/apple/coreml_supported_mlprogram_ops.md."""

XNNPACK_PROVIDER = {
    *("AveragePool", "Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool", "Resize", "Softmax"),
}
"""What its XNNPACK provider takes in float32: onnxruntime.ai, Xnnpack-ExecutionProvider."""

BETWEEN_PRODUCTS = {
    *("Add", "Concat", "Div", "Gelu", "Mul", "Pow", "ReduceMean", "Reshape", "Slice", "Sqrt"),
    *("Transpose", "Unsqueeze"),
}
"""What XNNPACK's provider leaves to the CPU, in any transformer."""


@pytest.mark.parametrize("kind", CONFIGS)
def test_float_graphs_are_one_partition_of_the_core_ml_provider(folder: Path, kind: str) -> None:
    import onnx

    kinds = {node.op_type for node in onnx.load(export(folder, kind, Scheme("fp32"))).graph.node}
    assert kinds <= COREML_PROVIDER
    assert kinds - XNNPACK_PROVIDER <= BETWEEN_PRODUCTS
    assert not {"Pad", "Gather"} & (COREML_PROVIDER | kinds)


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
def test_integer_graphs_hold_no_pad_and_no_gather(
    plain: dict[Precision, Path], precision: Precision
) -> None:
    import onnx

    kinds = {node.op_type for node in onnx.load(plain[precision]).graph.node}
    rounding = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"}
    assert kinds - rounding <= COREML_PROVIDER


def test_files_are_as_old_as_their_operators_allow(plain: dict[Precision, Path]) -> None:
    import onnx

    for path in plain.values():
        model = onnx.load(path)
        assert model.ir_version == 9
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
def test_weights_are_stored_so_that_pairs_of_products_do_not_saturate(
    plain: dict[Precision, Path], precision: Precision
) -> None:
    """Without a grid for pairs it is uint8 about 128; no session option is needed for right answers."""
    import onnx

    zeros = {}
    for entry in onnx.load(plain[precision]).graph.initializer:
        values = onnx.numpy_helper.to_array(entry)
        if entry.name.endswith("_zero_point") and ".weight" in entry.name:
            assert values.dtype == np.uint8, entry.name
            zeros[entry.name] = set(values.ravel().tolist())
    layers = quantizable_layers(deploy(fresh_model("plain")))
    assert len(zeros) == len(layers) - (precision == "int8-dynamic")
    assert all(found == {128} for found in zeros.values())
    assert set(SESSION_CONFIG) == {"session.force_spinning_stop"}


def test_static_int8_is_small(plain: dict[Precision, Path]) -> None:
    assert plain["int8"].stat().st_size < 0.3 * plain["fp32"].stat().st_size


def test_layers_with_equal_weights_are_told_apart(folder: Path) -> None:
    torch.manual_seed(0)
    model = fresh_model("plain")
    model.blocks[1].load_state_dict(model.blocks[0].state_dict())
    scheme = Scheme("int8-dynamic")
    request = request_for(TARGET, deploy(model), scheme, folder / "equal.onnx")
    with quiet():
        path = TARGET.export(request)
    pixels = images(2, seed=3)
    with torch.inference_mode():
        reference = model(pixels).numpy()
    assert closeness(reference, outputs_of(TARGET, path, pixels), classes=True).cosine >= 0.95


def test_static_int8_without_photos_is_refused(folder: Path) -> None:
    form, output = deploy(fresh_model("plain")), folder / "none.onnx"
    request = request_for(TARGET, form, Scheme("int8"), output, photos=0)
    with pytest.raises(EdgeDeitError, match="calibration"):
        TARGET.export(request)
    assert not request.output.exists()


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.1, 0.5, 0.9, 0.999999])
def test_a_file_cut_short_is_refused(
    tmp_path: Path, plain: dict[Precision, Path], share: float
) -> None:
    content = plain["int8"].read_bytes()
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(content[: int(share * len(content))])
    assert_refused(TARGET, onnx_target.read_metadata, broken, r"broken\.onnx")


def test_other_files_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "photo.onnx"
    other.write_bytes(b"\x89PNG\r\n\x1a\n" * 100)
    with pytest.raises(EdgeDeitError, match=r"photo\.onnx"):
        TARGET.load_runner(other, 1)
    with pytest.raises(EdgeDeitError, match="does not exist"):
        TARGET.load_runner(tmp_path / "absent.onnx", 1)
