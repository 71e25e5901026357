"""LiteRT: parity, names, metadata, size and delegation of exported files; damaged ones are refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.quiet import quiet
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.exporters.tflite import export as tflite
from edge_deit.exporters.tflite.file import contents, kind, read, word
from edge_deit.exporters.tflite.integer_form import IntegerDeiT, fit_to_photos, fold_back
from edge_deit.exporters.tflite.observe import Observed, tight_range, whole_range
from edge_deit.exporters.tflite.target import TARGET
from edge_deit.metrics.outputs import closeness
from edge_deit.model.deploy import deploy
from edge_deit.model.form import quantizable_layers
from edge_deit.quantization.narrow import (
    scale_tokens,
    split_coarse,
    token_scalable,
    use_grey_levels,
)
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

MIN_COSINE = {"fp32": 0.99999, "int8": 0.95, "int8-dynamic": 0.95, "int8-full": 0.95}
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "int8-dynamic", "int8-full")
INTEGER_KERNELS = {"SOFTMAX", "GELU", "RSQRT"}
"""Operators of `int8-full` that XNNPACK leaves to LiteRT's own kernels in 8 bits, ..."""
WIDE_KERNELS = {"CAST", "QUANTIZE", "DEQUANTIZE", "ADD", "MUL", "FULLY_CONNECTED"} | {
    *("TRANSPOSE", "CONCATENATION", "RESHAPE", "SLICE")
}
"""... and in 16."""


def export(folder: Path, kind: str, scheme: Scheme) -> Path:
    """The exported file of one model and scheme, made once."""
    path = folder / f"{kind}.{scheme.precision}.{len(scheme.keep_float)}.tflite"

    def make(output: Path) -> None:
        form = deploy(fresh_model(kind))
        with quiet():
            TARGET.export(request_for(TARGET, form, TARGET.fit(scheme, form), output))

    return once(path, make)


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    """One folder for the whole module."""
    (shared / "tflite").mkdir(exist_ok=True)
    return shared / "tflite"


@pytest.fixture(scope="module")
def plain(folder: Path) -> dict[Precision, Path]:
    """The plain model's file in each precision."""
    return {precision: export(folder, "plain", Scheme(precision)) for precision in PRECISIONS}


def operators(path: Path) -> list[tuple[str, int]]:
    """Kind of each operator and the number of int8 tensors of rank 2 or 4 that are its weights."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with quiet():
        interpreter = Interpreter(
            str(path),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    types = {detail["index"]: detail["dtype"] for detail in interpreter.get_tensor_details()}
    return [
        (op["op_name"], int(len(op["inputs"]) > 1 and types[op["inputs"][1]] is np.int8))
        for op in interpreter._get_ops_details()
    ]


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
    with quiet():
        partitions, outside = tflite.delegation(path)
    if precision == "int8-full":
        assert set(outside) <= {*INTEGER_KERNELS, *WIDE_KERNELS}
    else:
        assert (partitions, outside) == (1, [])


def test_names_and_metadata(plain: dict[Precision, Path]) -> None:
    from ai_edge_litert.interpreter import Interpreter

    for path in plain.values():
        with quiet():
            interpreter = Interpreter(str(path))
        assert interpreter.get_signature_list() == {
            "serving_default": {"inputs": ["pixels"], "outputs": ["logits"]}
        }
        (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
        assert (source["name"], result["name"]) == ("pixels", "logits")
        assert source["shape"].tolist() == [1, 3, 64, 64]
        assert source["dtype"] is result["dtype"] is np.float32
        names = [detail["name"] for detail in interpreter.get_tensor_details()]
        assert names.count("logits") == names.count("pixels") == 1
        assert {f"{name}.weight" for name in quantizable_layers(deploy(fresh_model("plain")))} <= {
            *names
        }
        assert tflite.read_metadata(path) == METADATA


RUNTIME_OF = {"fp32": "2.9.0", "int8": "2.17.0", "int8-dynamic": "2.17.0", "int8-full": "2.17.0"}
FULL_VERSIONS = {
    **dict.fromkeys(("CAST", "QUANTIZE", "RESHAPE"), 1),
    **dict.fromkeys(
        ("SUB", "BATCH_MATMUL", "SOFTMAX", "MEAN", "GELU", "CONCATENATION", "SLICE"), 2
    ),
    **{"CONV_2D": 3, "FULLY_CONNECTED": 12, "ADD": 3, "MUL": 4, "RSQRT": 3, "TRANSPOSE": 5},
    "DEQUANTIZE": 3,
}
"""Read off op_version.cc by hand, of the widest form; FULLY_CONNECTED has more, as 2.16 was not tried."""


@pytest.mark.parametrize("precision", PRECISIONS)
def test_files_say_which_operator_versions_and_runtime_they_need(
    plain: dict[Precision, Path], precision: Precision
) -> None:
    """Too low a version makes old runtimes compute rubbish instead of refusing the file."""
    file = read(plain[precision])
    (graph,) = file.subgraphs
    versions = {
        kind(file, one): file.operatorCodes[one.opcodeIndex].version for one in graph.operators
    }
    if precision == "int8-full":
        assert {name: FULL_VERSIONS.get(name) for name in versions} == versions
    else:
        hybrid = precision != "fp32"
        assert versions.pop("FULLY_CONNECTED") == (12 if hybrid else 5)
        assert versions.pop("CONV_2D", None) == (None if hybrid else 1)
        assert versions.pop("DEQUANTIZE", 2) == 2
        assert set(versions.values()) == {1}
    (entry,) = [one for one in file.metadata if word(one.name) == "min_runtime_version"]
    assert contents(file.buffers[entry.buffer]).rstrip(b"\0").decode() == RUNTIME_OF[precision]


def test_int8_fixes_the_ranges_of_queries_keys_and_values(
    folder: Path, plain: dict[Precision, Path]
) -> None:
    from ai_edge_litert import schema_py_generated as schema

    form = deploy(fresh_model("plain"))
    scheme = TARGET.fit(Scheme("int8"), form)
    fixed = scheme.static_layers(form)
    assert {name.rsplit(".", 1)[1] for name in fixed} == {"q", "k", "v"}
    assert len(fixed) == 3 * CONFIGS["plain"].depth
    assert TARGET.fit(Scheme("int8-dynamic"), form) == Scheme("int8-dynamic")
    kept = TARGET.fit(Scheme("int8", ("head", "*.fc1"), ("blocks.0.attn.q",)), form)
    assert not {"head", "blocks.0.mlp.fc1"} & set(kept.dynamic)
    assert "blocks.0.attn.q" not in kept.static_layers(form)
    file = read(plain["int8"])
    (graph,) = file.subgraphs
    reads_integers = {
        word(weight.name).removesuffix(".weight")
        for operator in graph.operators
        if kind(file, operator) in ("FULLY_CONNECTED", "CONV_2D")
        for x, weight in [[graph.tensors[index] for index in operator.inputs[:2]]]
        if x.type == schema.TensorType.INT8
    }
    assert reads_integers == set(fixed)


def test_half_precision_is_allowed_where_it_was_asked_for(folder: Path) -> None:
    form = deploy(fresh_model("plain"))
    request = request_for(TARGET, form, Scheme("fp32"), folder / "half.tflite")
    for allowed in (False, True):
        with quiet():
            path = TARGET.export(replace(request, half_remainder=allowed))
        entries = {word(entry.name): entry.buffer for entry in read(path).metadata}
        assert ("reduced_precision_support" in entries) is allowed
        assert tflite.read_metadata(path) == METADATA
        if allowed:
            buffer = read(path).buffers[entries["reduced_precision_support"]]
            assert contents(buffer) == b"fp16accfp16"


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
def test_only_the_layers_of_the_scheme_are_integer(
    folder: Path, plain: dict[Precision, Path], precision: Precision
) -> None:
    layers = quantizable_layers(deploy(fresh_model("plain")))
    assert sum(integer for _, integer in operators(plain[precision])) == len(layers)
    kept = export(folder, "plain", Scheme(precision, ("blocks.0.mlp.*", "patch_embed")))
    assert sum(integer for _, integer in operators(kept)) == len(layers) - 3
    assert kept.stat().st_size > plain[precision].stat().st_size
    assert plain[precision].stat().st_size < 0.29 * plain["fp32"].stat().st_size


def test_layers_with_equal_weights_are_told_apart(folder: Path) -> None:
    torch.manual_seed(0)
    model = fresh_model("plain")
    model.blocks[1].load_state_dict(model.blocks[0].state_dict())
    with quiet():
        path = TARGET.export(
            request_for(TARGET, deploy(model), Scheme("int8-dynamic"), folder / "equal.tflite")
        )
    pixels = images(2, seed=3)
    with torch.inference_mode():
        reference = model(pixels).numpy()
    assert closeness(reference, outputs_of(TARGET, path, pixels), classes=True).cosine >= 0.95


def steps_of(tensor: Any) -> tuple[np.ndarray, int]:
    """Scale and zero point of a tensor in a file."""
    return np.asarray(tensor.quantization.scale), int(tensor.quantization.zeroPoint[0])


def test_static_int8_has_the_weights_and_ranges_of_the_request(folder: Path) -> None:
    """Integers and scales follow from the request alone, worked out here a second time."""
    model = deploy(fresh_model("plain"))
    request = request_for(TARGET, model, Scheme("int8"), folder / "exact.tflite")
    with torch.no_grad():
        for name in quantizable_layers(model):
            weight = model.get_submodule(name).get_parameter("weight")
            step = weight.flatten(1).abs().amax(1).view(-1, *[1] * (weight.ndim - 1)) / 127
            weight.copy_(torch.round(weight / step) * step)
    with quiet():
        file = read(TARGET.export(request))
    (graph,) = file.subgraphs
    by_weight = {
        word(graph.tensors[op.inputs[1]].name): op
        for op in graph.operators
        if len(op.inputs) > 1 and word(graph.tensors[op.inputs[1]].name).endswith(".weight")
    }
    for name in quantizable_layers(model):
        op = by_weight[f"{name}.weight"]
        source, stored, result = (
            graph.tensors[i] for i in (op.inputs[0], op.inputs[1], op.outputs[0])
        )
        weight = model.get_submodule(name).get_parameter("weight").detach().numpy()
        step = np.abs(weight).reshape(len(weight), -1).max(1) / 127
        expected = np.rint(weight / step.reshape(-1, *[1] * (weight.ndim - 1)))
        if expected.ndim == 4:
            expected = expected.transpose(0, 2, 3, 1)
        integers = np.frombuffer(contents(file.buffers[stored.buffer]), np.int8)
        np.testing.assert_array_equal(integers.reshape(stored.shape), expected.astype(np.int8))
        np.testing.assert_allclose(steps_of(stored)[0], step, rtol=1e-6)
        for tensor, (low, high) in (
            (source, request.ranges[name].input),
            (result, request.ranges[name].output),
        ):
            scale, zero_point = steps_of(tensor)
            np.testing.assert_allclose(scale, [(high - low) / 255], rtol=1e-6)
            assert zero_point == round(-128 - low / ((high - low) / 255))
            assert -128 <= zero_point <= 127


def test_static_int8_without_a_range_is_refused(folder: Path) -> None:
    request = request_for(
        TARGET, deploy(fresh_model("plain")), Scheme("int8"), folder / "none.tflite"
    )
    ranges = {name: value for name, value in request.ranges.items() if name != "blocks.1.mlp.fc2"}
    with pytest.raises(EdgeDeitError, match=r"blocks\.1\.mlp\.fc2"), quiet():
        TARGET.export(replace(request, ranges=ranges))
    assert not request.output.exists()


def test_layers_that_read_one_tensor_need_one_range(folder: Path) -> None:
    request = request_for(
        TARGET, deploy(fresh_model("plain")), Scheme("int8"), folder / "two.tflite"
    )
    changed = {"blocks.0.attn.k": replace(request.ranges["blocks.0.attn.k"], input=(-1.0, 1.0))}
    with pytest.raises(EdgeDeitError, match="two ranges"), quiet():
        TARGET.export(replace(request, ranges={**request.ranges, **changed}))


def test_full_integer_has_no_float_between_its_ends(plain: dict[Precision, Path]) -> None:
    from ai_edge_litert import schema_py_generated as schema

    file = read(plain["int8-full"])
    (graph,) = file.subgraphs
    kinds = [kind(file, operator) for operator in graph.operators]
    assert (kinds[0], kinds[-1]) == ("QUANTIZE", "DEQUANTIZE")
    assert kinds.count("DEQUANTIZE") == 1
    ends = {int(graph.inputs[0]), int(graph.outputs[0])}
    types = {tensor.type for index, tensor in enumerate(graph.tensors) if index not in ends}
    names = ("INT8", "INT16", "INT32", "INT64")
    assert types == {getattr(schema.TensorType, name) for name in names}
    assert {graph.tensors[index].type for index in ends} == {schema.TensorType.FLOAT32}
    for operator in graph.operators:
        if kind(file, operator) == "BATCH_MATMUL":
            assert steps_of(graph.tensors[operator.inputs[1]])[1] == 0
        if kind(file, operator) == "SOFTMAX":
            wide = (np.float32(1 / 65536), -32768)
            assert steps_of(graph.tensors[operator.outputs[0]]) == wide


def test_full_integer_keeps_the_stream_in_16_bits(plain: dict[Precision, Path]) -> None:
    """What a block adds, and all of a norm: each operator's tensors have one width."""
    from ai_edge_litert import schema_py_generated as schema

    file = read(plain["int8-full"])
    (graph,) = file.subgraphs
    seen: dict[str, set[int]] = {}
    for operator in graph.operators:
        name = kind(file, operator)
        ends = [graph.tensors[index] for index in (operator.inputs[0], operator.outputs[0])]
        if name not in ("CAST", "QUANTIZE", "DEQUANTIZE", "SOFTMAX"):
            assert ends[0].type == ends[1].type, name
            seen.setdefault(name, set()).add(ends[0].type)
    narrow, wide = schema.TensorType.INT8, schema.TensorType.INT16
    assert seen["MUL"] == seen["RSQRT"] == {wide}
    assert seen["ADD"] == seen["FULLY_CONNECTED"] == {narrow, wide}
    assert seen["BATCH_MATMUL"] == seen["GELU"] == seen["SUB"] == {narrow}


@pytest.mark.parametrize("kind", CONFIGS)
def test_integer_graph_is_the_same_function(kind: str) -> None:
    form = deploy(fresh_model(kind))
    pixels = images(3, seed=3)
    with torch.inference_mode():
        reference = torch.cat([form(image) for image in pixels.split(1)])
        rewritten = IntegerDeiT(form)
        fit_to_photos(rewritten, images(4, seed=1).split(1))
        actual = torch.cat([rewritten(image) for image in pixels.split(1)])
    torch.testing.assert_close(actual, reference, rtol=0, atol=1e-4 * float(reference.abs().max()))


def test_what_conditioning_adds_is_folded_back() -> None:
    form = deploy(fresh_model("plain"))
    changed = copy.deepcopy(form)
    use_grey_levels(changed, PreprocessSpec(resize_size=64, crop_size=64))
    split_coarse(changed)
    for name in token_scalable(changed):
        scale_tokens(changed, name)
    plain = fold_back(changed)
    assert changed.coarse_embed is not None
    assert plain.coarse_embed is plain.blocks[0].mlp.token_scale is None
    assert plain.grey_levels is not None, "integers hold them exactly"
    for name, value in form.blocks.state_dict().items():
        torch.testing.assert_close(plain.blocks.state_dict()[name], value, rtol=1e-5, atol=1e-5)
    image = images(1, seed=3)
    with torch.inference_mode():
        torch.testing.assert_close(plain(image), form(image), rtol=1e-4, atol=1e-4)


def test_small_results_of_gelu_have_steps_of_their_own(plain: dict[Precision, Path]) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = read(plain["int8-full"])
    (graph,) = model.subgraphs
    steps: dict[int, list[tuple[float, float]]] = {}
    for operator in graph.operators:
        if kind(model, operator) == "GELU":
            result = graph.tensors[operator.outputs[0]]
            assert result.type == schema.TensorType.INT8
            (scale,), (zero,) = result.quantization.scale, result.quantization.zeroPoint
            greatest = float(scale) * (127 - int(zero))
            steps.setdefault(int(operator.inputs[0]), []).append((float(scale), greatest))
    assert len(steps) == 2 * CONFIGS["plain"].depth - 1, "the last block has no patches"
    for (whole, highest), (fine, knee) in (sorted(pair)[::-1] for pair in steps.values()):
        assert fine < whole / 3
        assert knee == pytest.approx(32 / 255 * (highest + 0.17), rel=0.05)


def test_full_integer_refuses_what_it_cannot_do(folder: Path) -> None:
    model = deploy(fresh_model("plain"))
    with pytest.raises(EdgeDeitError, match="--keep-float"):
        TARGET.fit(Scheme("int8-full", ("head",)), model)
    request = request_for(TARGET, model, Scheme("int8-full"), folder / "blind.tflite")
    with pytest.raises(EdgeDeitError, match="calibration"):
        TARGET.export(replace(request, calibration=None))


def test_tight_range_weighs_clipping_against_rounding() -> None:
    """Two far values among many are clipped; evenly spread values are not."""
    even = np.linspace(-1, 1, 1000, dtype=np.float32)
    spread, outliers = Observed(), Observed()
    for _ in range(400):
        spread.add(even)
        outliers.add(even)
    outliers.add(np.array([-2.5, 2.5], np.float32))
    assert tight_range(spread) == (-1.0, 1.0)
    assert whole_range(outliers) == (-2.5, 2.5)
    low, high = tight_range(outliers)
    assert -1.5 < low <= -1 < 1 <= high < 1.5


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.1, 0.5, 0.9, 0.999999])
def test_a_file_cut_short_is_refused(
    tmp_path: Path, plain: dict[Precision, Path], share: float
) -> None:
    content = plain["int8"].read_bytes()
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(content[: int(share * len(content))])
    assert_refused(TARGET, tflite.read_metadata, broken, r"broken\.tflite")


def test_other_files_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "photo.tflite"
    other.write_bytes(b"\x89PNG\r\n\x1a\n" * 100)
    with pytest.raises(EdgeDeitError, match=r"not a \.tflite"):
        TARGET.load_runner(other, 1)
    with pytest.raises(EdgeDeitError, match="does not exist"):
        TARGET.load_runner(tmp_path / "absent.tflite", 1)
