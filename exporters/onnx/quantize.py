"""The integer layers of an ONNX graph: static ones as Q/DQ, dynamic ones as MatMulInteger.

Activations are uint8: ONNX Runtime has no fast kernels for int8 ones on x86. Weights are int8, on the grid
of `request.weight_steps`: on x86 without VNNI its kernels add neighbouring products in 16 bits, and on that
grid no such sum saturates. What has no such grid, the patch embedding, is stored as uint8 with zero point
128, the same integers one hundred and twenty-eight higher: slower kernels, which never saturate.
docs/quantization.md has what each form gave.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import numpy as np
import torch

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters.onnx.convert import LAYER_KINDS
from edge_deit.exporters.target import ExportRequest

__all__ = [
    "check_quantized",
    "quantize_dynamic",
    "quantize_static",
    "store_unsigned",
]

_MIDDLE: Final = 128  # what uint8 calls zero
_STEPS: Final = 255
_TRANSPOSED: Final = "/transposed"  # ends the names of weights that were
_NOT_PLAIN: Final = 0.5  # any factor but 1


def quantize_static(model: Any, request: ExportRequest, layers: list[str]) -> None:
    """Q/DQ: weights int8 per output channel, inputs uint8 per tensor with the request's ranges.

    Outputs of matrix products stay float: no second rounding comes in. Biases are int32 in steps of the
    product, as QGemm takes them.
    """
    from onnxruntime import quantization

    class OnePhoto(quantization.CalibrationDataReader):  # type: ignore[misc]
        """The quantizer wants to see every tensor once, although its range is given."""

        def __init__(self) -> None:
            self._feeds = iter([{request.input_name: request.example.numpy()}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._feeds, None)

    _own_inputs(model, layers)
    quantization.quantize_static(
        model,
        request.output,
        OnePhoto(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=list(LAYER_KINDS),
        nodes_to_quantize=layers,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod.MinMax,
        extra_options={
            "OpTypesToExcludeOutputQuantization": list(LAYER_KINDS),
            "TensorQuantOverrides": _overrides(model, request, layers),
        },
    )


def _own_inputs(model: Any, layers: list[str]) -> None:
    """Give static layers a copy of an input that others read too.

    The quantizer rounds a tensor for all its readers, also for those that stay float or find their own
    ranges. ONNX Runtime removes the copy when it loads the file.
    """
    import onnx

    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    copies: dict[str, str] = {}
    nodes: list[Any] = []
    for node in model.graph.node:
        if node.name in layers:
            source = node.input[0]
            if source not in copies and any(one.name not in layers for one in readers[source]):
                copies[source] = f"{source}/static"
                nodes.append(
                    onnx.helper.make_node("Identity", [source], [copies[source]], copies[source])
                )
            node.input[0] = copies.get(source, source)
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _overrides(model: Any, request: ExportRequest, layers: list[str]) -> dict[str, list[Any]]:
    """Scales and zero points of inputs and weights, as onnxruntime's quantizer takes them."""
    from onnxruntime import quantization

    found: dict[str, list[Any]] = {}
    for node in model.graph.node:
        if node.name not in layers:
            continue
        least, greatest = request.ranges[node.name].input
        scale = (greatest - least) / _STEPS
        found[node.input[0]] = [
            {
                "quant_type": quantization.QuantType.QUInt8,
                "scale": np.array(scale, np.float32),
                "zero_point": np.array(round(-least / scale), np.uint8),
            }
        ]
        if (steps := request.weight_steps.get(node.name)) is not None:
            found[node.input[1]] = [
                {
                    "axis": 0,
                    "quant_type": quantization.QuantType.QInt8,
                    "scale": np.array(step, np.float32),
                    "zero_point": np.array(0, np.int8),
                }
                for step in steps.tolist()
            ]
    return found


def quantize_dynamic(model: Any, request: ExportRequest, layers: list[str]) -> None:
    """MatMulInteger with ranges found at run time; weights int8 per output channel.

    The patch embedding stays float: it is a small part of the work, and ConvInteger was not tried. All
    other layers stay as they are and keep their names.
    """
    import onnx
    from onnxruntime import quantization

    _gemm_to_matmul(model, layers)
    others = [node.name for node in model.graph.node if node.op_type == "Gemm"]
    _scale_bias(model, others, _NOT_PLAIN)
    quantization.quantize_dynamic(
        model,
        request.output,
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=layers,
        per_channel=True,
        weight_type=quantization.QuantType.QInt8,
    )
    written = onnx.load(request.output)
    _scale_bias(written, others, 1.0)
    _set_weights(written, request, layers)
    onnx.save(written, request.output)


def _set_weights(model: Any, request: ExportRequest, layers: list[str]) -> None:
    """Put weights on the request's grid; the dynamic quantizer knows only that of the greatest weight.

    Raises:
        EdgeDeitError: weights are not there.
    """
    import onnx

    entries = {entry.name: entry for entry in model.graph.initializer}
    for name in layers:
        if (steps := request.weight_steps.get(name)) is None:
            continue
        weight = request.model.get_submodule(name).get_parameter("weight").detach()
        integers = (weight / steps[:, None]).round().T.to(torch.int8)  # (C, O)
        values = {"quantized": integers.contiguous().numpy(), "scale": steps.numpy()}
        for end, value in values.items():
            if (entry := entries.get(f"{name}.weight{_TRANSPOSED}_{end}")) is None:
                raise _renamed(name, len(layers))
            entry.CopyFrom(onnx.numpy_helper.from_array(value, entry.name))


def _scale_bias(model: Any, names: list[str], beta: float) -> None:
    """Set the factor of the bias of some Gemms.

    The dynamic quantizer rewrites every Gemm whose factors are 1 as a MatMul of another name, whether or
    not that layer is to be quantized; with another factor it leaves them alone.
    Source: onnxruntime/python/tools/quantization/onnx_model.py, replace_gemm_with_matmul.

    Raises:
        EdgeDeitError: a layer is not there.
    """
    import onnx

    nodes = {node.name: node for node in model.graph.node if node.op_type == "Gemm"}
    if lost := [name for name in names if name not in nodes]:
        raise _renamed(lost[0], len(lost))
    for name in names:
        kept = [one for one in nodes[name].attribute if one.name != "beta"]
        del nodes[name].attribute[:]
        nodes[name].attribute.extend([*kept, onnx.helper.make_attribute("beta", beta)])


def _renamed(name: str, count: int) -> EdgeDeitError:
    return EdgeDeitError(
        f"the quantizer renamed {name} ({count} layers in all); "
        "install the tested one: pip install 'edge-deit[onnx]'"
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
        weight = f"{weight}{_TRANSPOSED}"
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


def store_unsigned(model: Any, signed: Collection[str]) -> None:
    """Store int8 weights and their zero points as uint8, 128 higher, which is the same function.

    Those of the layers `signed` stay as they are.
    """
    import onnx

    names = tuple(f"{name}.weight" for name in signed)
    for entry in model.graph.initializer:
        if entry.data_type == onnx.TensorProto.INT8 and not entry.name.startswith(names):
            shifted = onnx.numpy_helper.to_array(entry).astype(np.int16) + _MIDDLE
            entry.CopyFrom(onnx.numpy_helper.from_array(shifted.astype(np.uint8), entry.name))


def check_quantized(model: Any, expected: int) -> None:
    """Count the 8-bit matrices that the graph holds.

    Raises:
        EdgeDeitError: there are more or fewer than layers to quantize.
    """
    import onnx

    integer = {
        entry.name
        for entry in model.graph.initializer
        if entry.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
        and len(entry.dims) > 1
    }
    count = sum(name in integer for node in model.graph.node for name in node.input)
    if count != expected:
        raise EdgeDeitError(
            f"the quantizer made {count} layers integer where {expected} were asked for; "
            "install the tested one: pip install 'edge-deit[onnx]'"
        )
