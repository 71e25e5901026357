"""Other spellings of the layers whose ranges are found at run time, made in the file itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_deit.exporters.tflite.file import contents, drop_unused, kind, pack, unpack
from edge_deit.exporters.tflite.versions import declare_versions

__all__ = ["FORMS", "write_form"]

_DEQUANTIZES_CHANNELS: Final = 5  # DEQUANTIZE's version with a scale a channel
_UNDECLARED: Final = 5  # FULLY_CONNECTED's version that the converter declares


def write_form(source: Path, change: Callable[[Any, Any], list[Any]], output: Path) -> Path:
    """A copy of a file in which `change` has put other operators for each such FULLY_CONNECTED."""
    model = unpack(source.read_bytes())
    (graph,) = model.subgraphs
    operators: list[Any] = []
    for operator in graph.operators:
        operators += change(model, operator) if _is_hybrid(model, operator) else [operator]
    graph.operators = operators
    for code in model.operatorCodes:
        code.version = 1
    declare_versions(model)
    _declare_dequantize(model)
    drop_unused(model)
    output.write_bytes(pack(model))
    return output


def undeclared(source: Path, output: Path) -> Path:
    """The file as the converter would leave it: nothing in it says what it needs."""
    model = unpack(source.read_bytes())
    for code in model.operatorCodes:
        code.version = min(int(code.version), _UNDECLARED)
    output.write_bytes(pack(model))
    return output


def one_scale(model: Any, operator: Any) -> list[Any]:
    """Weights with one scale a tensor."""
    weights = _weights(model, operator)
    step = np.abs(weights).max() / 127
    operator.inputs[1] = _constant(model, operator.inputs[1], weights, np.array([step]))
    return [operator]


def as_convolution(model: Any, operator: Any) -> list[Any]:
    """RESHAPE, CONV_2D of 1 x 1, RESHAPE; each token is an image, so it has a range of its own."""
    from ai_edge_litert import schema_py_generated as schema

    (graph,) = model.subgraphs
    (source, weight), result = (int(i) for i in operator.inputs[:2]), int(operator.outputs[0])
    tokens, width = int(np.prod(graph.tensors[source].shape[:-1])), graph.tensors[source].shape[-1]
    rows = graph.tensors[weight].shape[0]
    image = _like(graph, source, [tokens, 1, 1, width])
    mixed = _like(graph, result, [tokens, 1, 1, rows])
    kernel = copy.copy(graph.tensors[weight])
    kernel.shape, kernel.shapeSignature = np.array([rows, 1, 1, width], np.int32), None
    graph.tensors.append(kernel)
    options = schema.Conv2DOptionsT()
    options.padding, options.strideW, options.strideH = schema.Padding.VALID, 1, 1
    convolution = _operator(model, "CONV_2D", [image, len(graph.tensors) - 1, *operator.inputs[2:]])
    convolution.outputs = np.array([mixed], np.int32)
    convolution.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    convolution.builtinOptions = options
    return [
        _reshape(model, source, image, [tokens, 1, 1, width]),
        convolution,
        _reshape(model, mixed, result, list(map(int, graph.tensors[result].shape))),
    ]


def dequantized(model: Any, operator: Any) -> list[Any]:
    """A DEQUANTIZE of the weights, and a float layer behind it."""
    (graph,) = model.subgraphs
    weight = int(operator.inputs[1])
    floats = _like(graph, weight, list(map(int, graph.tensors[weight].shape)))
    graph.tensors[floats].type, graph.tensors[floats].quantization = 0, None
    before = _operator(model, "DEQUANTIZE", [weight])
    before.outputs = np.array([floats], np.int32)
    operator.inputs[1] = floats
    return [before, operator]


FORMS: Final[dict[str, Callable[[Any, Any], list[Any]]]] = {
    "weights with one scale a tensor": one_scale,
    "CONV_2D of 1 x 1 for FULLY_CONNECTED": as_convolution,
    "DEQUANTIZE of the weights, float layers": dequantized,
}


def _is_hybrid(model: Any, operator: Any) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    (graph,) = model.subgraphs
    if kind(model, operator) != "FULLY_CONNECTED":
        return False
    source, weight = (graph.tensors[int(index)] for index in operator.inputs[:2])
    kinds = schema.TensorType
    return bool(source.type == kinds.FLOAT32 and weight.type == kinds.INT8)


def _weights(model: Any, operator: Any) -> np.ndarray:
    (graph,) = model.subgraphs
    tensor = graph.tensors[int(operator.inputs[1])]
    integers = np.frombuffer(contents(model.buffers[tensor.buffer]), np.int8).reshape(tensor.shape)
    return integers * np.asarray(tensor.quantization.scale, np.float64)[:, None]


def _constant(model: Any, like: int, values: np.ndarray, scale: np.ndarray) -> int:
    from ai_edge_litert import schema_py_generated as schema

    (graph,) = model.subgraphs
    tensor, buffer = copy.copy(graph.tensors[int(like)]), schema.BufferT()
    buffer.data = np.rint(values / scale).astype(np.int8).view(np.uint8).ravel()
    tensor.buffer = len(model.buffers)
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = scale.astype(np.float32)
    tensor.quantization.zeroPoint = np.zeros(len(scale), np.int64)
    tensor.quantization.quantizedDimension = 0
    model.buffers.append(buffer)
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _like(graph: Any, index: int, shape: list[int]) -> int:
    tensor = copy.copy(graph.tensors[index])
    tensor.shape, tensor.shapeSignature, tensor.buffer = np.array(shape, np.int32), None, 0
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _reshape(model: Any, source: int, result: int, shape: list[int]) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    (graph,) = model.subgraphs
    buffer, tensor = schema.BufferT(), copy.copy(graph.tensors[source])
    buffer.data = np.array(shape, np.int32).view(np.uint8)
    tensor.buffer, tensor.type = len(model.buffers), schema.TensorType.INT32
    tensor.shape, tensor.quantization = np.array([len(shape)], np.int32), None
    model.buffers.append(buffer)
    graph.tensors.append(tensor)
    made = _operator(model, "RESHAPE", [source, len(graph.tensors) - 1])
    made.outputs = np.array([result], np.int32)
    return made


def _operator(model: Any, name: str, inputs: list[int]) -> Any:
    """An operator without outputs, its code the model's own where there is one."""
    from ai_edge_litert import schema_py_generated as schema

    number = getattr(schema.BuiltinOperator, name)
    known = [int(code.builtinCode) for code in model.operatorCodes]
    if number not in known:
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, number, 1
        model.operatorCodes.append(code)
        known.append(number)
    made = schema.OperatorT()
    made.opcodeIndex = known.index(number)
    made.inputs = np.array(inputs, np.int32)
    return made


def _declare_dequantize(model: Any) -> None:
    (graph,) = model.subgraphs
    for operator in graph.operators:
        tensor = graph.tensors[int(operator.inputs[0])]
        scales = None if tensor.quantization is None else tensor.quantization.scale
        if kind(model, operator) == "DEQUANTIZE" and scales is not None and len(scales) > 1:
            model.operatorCodes[operator.opcodeIndex].version = _DEQUANTIZES_CHANNELS
