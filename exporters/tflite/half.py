"""Half-precision weights in a `.tflite` file: each is followed by a DEQUANTIZE that the runtime runs once.

Source: the float16 post-training quantization of TensorFlow Lite.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from torch import nn

from edge_deit.exporters.tflite.file import contents, word
from edge_deit.exporters.tflite.names import layer_operators

__all__ = ["halve_weights"]


def halve_weights(model: Any, module: nn.Module, single: Collection[str]) -> None:
    """Store the weights of all quantizable layers but those in `single` as float16, in place.

    Biases and the table of positions, one part in a hundred, stay float32.
    """
    (graph,) = model.subgraphs
    layers = [operator for operator, name in layer_operators(model, module) if name not in single]
    places = dict.fromkeys(int(operator.inputs[1]) for operator in layers)
    if places:
        code = _add_code(model)
        graph.operators = [*(_halve(model, code, place) for place in places), *graph.operators]


def _halve(model: Any, code: int, place: int) -> Any:
    """Put a float16 tensor and the operator that widens it in front of a constant, which it returns."""
    from ai_edge_litert import schema_py_generated as schema

    (graph,) = model.subgraphs
    wide = graph.tensors[place]
    values = np.frombuffer(contents(model.buffers[wide.buffer]), np.float32)
    narrow, buffer = schema.TensorT(), schema.BufferT()
    buffer.data = np.frombuffer(values.astype(np.float16).tobytes(), np.uint8)
    narrow.name, narrow.shape = f"{word(wide.name)}.half".encode(), wide.shape
    narrow.type, narrow.buffer = schema.TensorType.FLOAT16, wide.buffer
    narrow.hasRank = True
    model.buffers[wide.buffer] = buffer
    wide.buffer = 0  # the empty one
    graph.tensors.append(narrow)
    operator = schema.OperatorT()
    operator.opcodeIndex = code
    operator.inputs = np.array([len(graph.tensors) - 1], np.int32)
    operator.outputs = np.array([place], np.int32)
    operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
    operator.builtinOptions = schema.DequantizeOptionsT()
    return operator


def _add_code(model: Any) -> int:
    """The place of a new operator code."""
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
