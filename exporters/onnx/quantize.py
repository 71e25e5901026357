"""The integer layers of an ONNX graph: static ones as Q/DQ, dynamic ones as MatMulInteger.

Static activations are uint8: for uint8 x int8 ONNX Runtime has dot-product kernels on Arm and x86 alike,
for int8 x int8 only on Arm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_deit.common.errors import EdgeDeitError
from exporters.onnx.convert import LAYER_KINDS
from exporters.target import ExportRequest

__all__ = ["check_quantized", "quantize_dynamic", "quantize_static"]

_STEPS: Final = 255


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


def _overrides(model: Any, request: ExportRequest, layers: list[str]) -> dict[str, list[Any]]:
    """Each input tensor's scale and zero point, as onnxruntime's quantizer takes them."""
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
    return found


def quantize_dynamic(model: Any, output: Path, layers: list[str]) -> None:
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


def check_quantized(model: Any, expected: int) -> None:
    """Count the int8 matrices that the graph holds.

    Raises:
        EdgeDeitError: there are more or fewer than layers to quantize.
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
            f"the quantizer made {count} layers integer where {expected} were asked for; "
            "install the tested one: pip install 'edge-deit[onnx]'"
        )
