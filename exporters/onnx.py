"""ONNX: one self-contained `.onnx` file, float or int8, checked and run by ONNX Runtime.

Node names are those of the deployment form (`blocks.0.attn.q`), so that integer precisions can name
the layers they quantise. The static form is Q/DQ with int8 weights and int8 activations: on Arm that is
what the dot product instructions take. On x86 hosts with AVX2 but no VNNI, ONNX Runtime's int8 kernels are
known to saturate; `load_runner` sets the session option `session.x64quantprecision`, which ONNX Runtime
offers against that. Its effect was not measured: set it in an application too, and compare on such a host.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from edge_deit.errors import EdgeDeitError
from exporters.target import ExportRequest, Runner, Target

__all__ = ["TARGET", "export", "load_runner", "read_metadata", "runs_on"]

_OPSET: Final = 18
_LAYER_KINDS: Final = ("MatMul", "Gemm", "Conv")
_SCOPES: Final = "pkg.torch.onnx.name_scopes"  # the converter's record of the modules around a node
_SESSION_CONFIG: Final = {
    "session.intra_op.allow_spinning": "0",  # spinning threads slow whatever runs next
    "session.x64quantprecision": "1",  # no saturation on x86 without VNNI
}
_LEAST: Final = -128
_STEPS: Final = 255
_ERROR_SEVERITY: Final = 3  # 0 verbose, 1 info, 2 warning, 3 error, 4 fatal


def export(request: ExportRequest) -> Path:
    """Write `request.output`.

    Sources: torch.onnx.export; onnxruntime.quantization.

    Raises:
        EdgeDeitError: int8 without ranges, or a converted graph whose layers are not those
            of the model.
    """
    import onnx

    scheme, form = request.scheme, request.model
    static = scheme.static_layers(form)
    dynamic = [name for name in scheme.dynamic_layers(form) if not _is_convolution(form, name)]
    if lost := [name for name in static if name not in request.ranges]:
        raise EdgeDeitError(f"no ranges for {', '.join(lost[:3])}: give --calibration photos")
    model = _convert(request)
    _check_layers(model, static + dynamic)
    if dynamic:
        _quantise_dynamic(model, request.output, dynamic)
        model = onnx.load(request.output)
    if static:
        _quantise_static(model, request, static)
        model = onnx.load(request.output)
    _check_quantised(model, len(static + dynamic))
    onnx.helper.set_model_props(model, dict(request.metadata))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, request.output)
    return request.output


def read_metadata(path: Path) -> dict[str, str]:
    """The texts embedded in a file, by name.

    Raises:
        EdgeDeitError: not a whole `.onnx` file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    _check_exists(path)
    broken = f"{path} is cut short or no .onnx file; export it again"
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise EdgeDeitError(broken) from error
    if not model.graph.node:  # an empty file decodes to an empty model
        raise EdgeDeitError(broken)
    return {entry.key: entry.value for entry in model.metadata_props}


def load_runner(path: Path, threads: int) -> Runner:
    """Load a file into an ONNX Runtime session on the CPU.

    Raises:
        EdgeDeitError: ONNX Runtime is absent, or the file is missing, cut short or invalid.
    """
    if (reason := runs_on()) is not None:
        raise EdgeDeitError(reason)
    _check_exists(path)
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERROR_SEVERITY
    for key, value in _SESSION_CONFIG.items():
        options.add_session_config_entry(key, value)
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except (
        errors.Fail,
        errors.InvalidArgument,
        errors.InvalidGraph,
        errors.InvalidProtobuf,
        errors.NoSuchFile,
        errors.NotImplemented,
        errors.RuntimeException,
    ) as error:
        first_line = str(error).splitlines()[0]
        raise EdgeDeitError(
            f"{path} is not a usable .onnx file: {first_line}; export it again"
        ) from error
    return _OnnxRunner(session)


def runs_on() -> str | None:
    """None when ONNX Runtime is installed, otherwise why the file cannot be run here."""
    if importlib.util.find_spec("onnxruntime") is None:
        return "ONNX Runtime is not installed: pip install 'edge-deit[onnx]'"
    return None


@dataclass(frozen=True)
class _OnnxRunner:
    """A session with one input and one output."""

    session: Any

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        (source,) = self.session.get_inputs()
        feed = {source.name: np.ascontiguousarray(pixels, np.float32)}
        (result,) = self.session.run(None, feed)
        return np.asarray(result, dtype=np.float32)


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise EdgeDeitError(f"{path} does not exist")


# Conversion


def _convert(request: ExportRequest) -> Any:
    """The float graph with the names of the deployment form."""
    program = torch.onnx.export(
        request.model,
        (request.example,),
        input_names=[request.input_name],
        output_names=[request.output_name],
        opset_version=_OPSET,
        dynamo=True,
        external_data=False,
        optimize=True,
        verbose=False,
    )
    if program is None:
        raise EdgeDeitError("torch.onnx returned no program; install torch 2.13")
    model = program.model_proto
    _name_nodes(model, request.model)
    return model


def _name_nodes(model: Any, module: nn.Module) -> None:
    """A layer's node is called as the layer is, every other node MODULE/KIND, numbered if need be.

    The converter's notes about source files are dropped: they are as large as a small model's weights
    and name folders of the machine that exported.
    """
    from edge_deit.deploy import quantizable_layers

    layers = set(quantizable_layers(module))
    constants = {entry.name for entry in model.graph.initializer}
    taken: set[str] = set()
    for node in model.graph.node:
        scope = _module_of(node)
        weighted = node.op_type in _LAYER_KINDS and node.input[1] in constants
        name = scope if scope in layers and weighted else f"{scope or 'model'}/{node.op_type}"
        node.name = name if name not in taken else f"{name}_{len(taken)}"
        taken.add(node.name)
    for message in _notes(model):
        del message.metadata_props[:]
        message.ClearField("doc_string")


def _module_of(node: Any) -> str:
    """Path of the innermost module around a node; the last scope is the operation itself."""
    scopes = {entry.key: entry.value for entry in node.metadata_props}.get(_SCOPES, "[]")
    modules = [str(scope) for scope in ast.literal_eval(scopes)[:-1]]
    return modules[-1] if modules else ""


def _notes(model: Any) -> Iterator[Any]:
    """Every message that the converter annotates."""
    graph = model.graph
    yield from (model, graph, *graph.node, *graph.initializer)
    yield from (*graph.value_info, *graph.input, *graph.output)


def _check_layers(model: Any, layers: list[str]) -> None:
    """Each layer must be exactly one node.

    Raises:
        EdgeDeitError: a layer without a node of its name.
    """
    names = {node.name for node in model.graph.node}
    if lost := [name for name in layers if name not in names]:
        raise EdgeDeitError(
            f"the converted graph has no node for {', '.join(lost[:3])} ({len(lost)} in all); "
            "install the tested converter: pip install 'edge-deit[onnx]'"
        )


# Quantisation


def _quantise_static(model: Any, request: ExportRequest, layers: list[str]) -> None:
    """Q/DQ: weights int8 per output channel, inputs int8 per tensor with the request's ranges.

    Outputs of matrix products stay float, so the bias is added in float and no second rounding comes in.
    """
    from onnxruntime import quantization

    class OnePhoto(quantization.CalibrationDataReader):  # type: ignore[misc]
        """The quantiser wants to see every tensor once, although its range is given."""

        def __init__(self) -> None:
            self._feeds = iter([{request.input_name: request.example.numpy()}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._feeds, None)

    quantization.quantize_static(
        model,
        request.output,
        OnePhoto(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=list(_LAYER_KINDS),
        nodes_to_quantize=layers,
        per_channel=True,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod.MinMax,
        extra_options={
            "OpTypesToExcludeOutputQuantization": list(_LAYER_KINDS),
            "TensorQuantOverrides": _overrides(model, request, layers),
        },
    )


def _overrides(model: Any, request: ExportRequest, layers: list[str]) -> dict[str, list[Any]]:
    """Each input tensor's scale and zero point, as onnxruntime's quantiser takes them."""
    from onnxruntime import quantization

    found: dict[str, list[Any]] = {}
    for node in model.graph.node:
        if node.name not in layers:
            continue
        least, greatest = request.ranges[node.name].input
        scale = (greatest - least) / _STEPS
        found[node.input[0]] = [
            {
                "quant_type": quantization.QuantType.QInt8,
                "scale": np.array(scale, np.float32),
                "zero_point": np.array(_LEAST + round(-least / scale), np.int8),
            }
        ]
    return found


def _quantise_dynamic(model: Any, output: Path, layers: list[str]) -> None:
    """MatMulInteger with ranges found at run time; weights int8 per output channel.

    The patch embedding stays float: it is a small part of the work, and ConvInteger was not tried.
    """
    from onnxruntime import quantization

    _gemm_to_matmul(model, layers)
    quantization.quantize_dynamic(
        model,
        output,
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=layers,
        per_channel=True,
        weight_type=quantization.QuantType.QInt8,
    )


def _gemm_to_matmul(model: Any, layers: list[str]) -> None:
    """Write the layers that are a Gemm (x W^T + b) as MatMul and Add, the form that can be dynamic."""
    import onnx

    weights = {entry.name: entry for entry in model.graph.initializer}
    nodes: list[Any] = []
    for node in model.graph.node:
        if node.op_type != "Gemm" or node.name not in layers:
            nodes.append(node)
            continue
        source, weight, *bias = node.input  # a bias of zeros is optimised away
        transposed = onnx.numpy_helper.to_array(weights[weight]).T.copy()
        weight = f"{weight}/transposed"
        model.graph.initializer.append(onnx.numpy_helper.from_array(transposed, weight))
        product = f"{node.name}/product" if bias else node.output[0]
        nodes.append(onnx.helper.make_node("MatMul", [source, weight], [product], node.name))
        if bias:
            ends = [product, *bias], [node.output[0]]
            nodes.append(onnx.helper.make_node("Add", *ends, f"{node.name}/Add"))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    for entry in [entry for entry in model.graph.initializer if entry.name not in used]:
        model.graph.initializer.remove(entry)


def _is_convolution(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name), nn.Conv2d)


def _check_quantised(model: Any, expected: int) -> None:
    """Count the int8 matrices that the graph holds.

    Raises:
        EdgeDeitError: there are more or fewer than layers to quantise.
    """
    import onnx

    integer = {
        entry.name
        for entry in model.graph.initializer
        if entry.data_type == onnx.TensorProto.INT8 and len(entry.dims) > 1
    }
    count = sum(name in integer for node in model.graph.node for name in node.input)
    if count != expected:
        raise EdgeDeitError(
            f"the quantiser made {count} layers integer where {expected} were asked for; "
            "install the tested one: pip install 'edge-deit[onnx]'"
        )


TARGET: Final = Target(
    name="onnx",
    suffix=".onnx",
    extra="onnx",
    requires={"onnx": "onnx", "onnxruntime": "onnxruntime", "onnxscript": "onnxscript"},
    precisions=("fp32", "int8", "int8-dynamic"),
    backends=("cpu",),
    export=export,
    load_runner=load_runner,
    runs_on=runs_on,
)
