"""What a `.tflite` file needs of its runtime: the version of each operator, and of the runtime.

Converters count versions from what they wrote, and quantizers change types afterwards. A runtime
that is too old refuses a version that it does not know, but computes rubbish where the version is too low:
TensorFlow Lite 2.14 takes a float x int8 FULLY_CONNECTED with a scale a channel for one with one scale.

Sources: tensorflow/lite/tools/versioning/op_version.cc and runtime_version.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from edge_deit.exporters.tflite.file import VERSION_ENTRY, kind, word

__all__ = [
    "FLOAT_RUNTIME",
    "GROUPED_RUNTIME",
    "HYBRID_RUNTIME",
    "declare_versions",
    "needed_version",
]

FLOAT_RUNTIME: Final[Mapping[str, str]] = {"tensorflow-lite": "2.9", "litert": "1.0"}
"""The first TensorFlow Lite with every operator of a file but the one below: GELU came last.

LiteRT goes on from TensorFlow Lite 2.17.
"""

HYBRID_RUNTIME: Final[Mapping[str, str]] = {"tensorflow-lite": "2.17", "litert": "1.0"}
"""The first with float x int8 FULLY_CONNECTED whose weights have a scale for each channel.

It is right for `int8-full` too, whose RSQRT of int16 TensorFlow Lite 2.14 lacks.
"""

GROUPED_RUNTIME: Final[Mapping[str, str]] = {"litert": "2.3"}
"""What was tried with 4-bit weights in groups; no older runtime was."""

_HYBRID: Final = 12  # FULLY_CONNECTED's version for that
_WIDE: Final = (
    7  # for int16 x int8; with a scale for each channel _HYBRID, as nothing older was tried
)
_FOUR_BITS: Final = (
    14  # the highest that LiteRT 2.3 knows, so that what knows less refuses the file
)
_KEEPS_DIMENSIONS, _WITHOUT_BIAS = 5, 6
_INTEGER_IS_SECOND: Final = (
    *("ADD", "SUB", "AVERAGE_POOL_2D", "TRANSPOSE", "SLICE", "SOFTMAX", "PAD", "CONCATENATION"),
    *("MEAN", "BATCH_MATMUL", "GELU", "RSQRT"),
)
"""Operators whose int8 form is version 2, and whose float form is version 1."""
_INT16: Final[Mapping[str, int]] = {
    **{"ADD": 3, "MUL": 4, "MEAN": 3, "RSQRT": 3, "CONCATENATION": 3, "SLICE": 4, "TRANSPOSE": 5},
    "DEQUANTIZE": 3,
}
"""Versions of forms that read int16, where that is not what the int8 form says."""


def declare_versions(model: Any) -> None:
    """Raise each operator's version, and the runtime's, to what the file needs; in place.

    An operator code whose operators need different versions gets the highest.
    """
    (graph,) = model.subgraphs
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        code.version = max(int(code.version), needed_version(model, operator))
    versions = {
        kind(model, one): model.operatorCodes[one.opcodeIndex].version for one in graph.operators
    }
    hybrid = versions.get("FULLY_CONNECTED", 1) >= _HYBRID
    least = HYBRID_RUNTIME if hybrid else FLOAT_RUNTIME
    _set_runtime(model, f"{least['tensorflow-lite']}.0")


def needed_version(model: Any, operator: Any) -> int:
    """The least version of an operator that says what it is, 1 where nothing is special about it."""
    (graph,) = model.subgraphs
    tensors = [graph.tensors[index] for index in operator.inputs if index >= 0]
    name = kind(model, operator)
    if name == "QUANTIZE":
        return 2 if _is_int16(graph.tensors[operator.outputs[0]]) else 1
    if name in _INT16 and _is_int16(tensors[0]):
        return _INT16[name]
    if name == "MUL":
        return _product(model, operator)
    if name in _RULES:
        return _RULES[name](tensors, operator)
    return 2 if name in _INTEGER_IS_SECOND and _is_int8(tensors[0]) else 1


def _fully_connected(tensors: list[Any], operator: Any) -> int:
    source, weight = tensors[:2]
    if _is_int4(weight):
        return _FOUR_BITS
    if not _is_int8(source) and _is_int8(weight) and _per_channel(weight):
        return _HYBRID
    if _is_int16(source):
        return _WIDE
    if len(tensors) < 3:
        return _WITHOUT_BIAS
    if operator.builtinOptions.keepNumDims:
        return _KEEPS_DIMENSIONS
    return 4 if _is_int8(source) else 1


def _convolution(tensors: list[Any], operator: Any) -> int:
    source, weight = tensors[:2]
    if _is_int8(source):
        return 3
    if _is_int8(weight):
        return 5 if _per_channel(weight) else 2
    return 1


def _product(model: Any, operator: Any) -> int:
    """MUL of int8 is version 2, or 3 where the scales' product reaches the output's scale."""
    (graph,) = model.subgraphs
    ends = [graph.tensors[index] for index in (*operator.inputs[:2], operator.outputs[0])]
    if not _is_int8(ends[0]):
        return 1
    first, second, result = (float(tensor.quantization.scale[0]) for tensor in ends)
    return 3 if first * second >= result else 2


def _widening(tensors: list[Any], operator: Any) -> int:
    """DEQUANTIZE of int8 is version 2, of float16 version 3."""
    return 2 if _is_int8(tensors[0]) else 3


_RULES: Final[dict[str, Callable[[list[Any], Any], int]]] = {
    "FULLY_CONNECTED": _fully_connected,
    "CONV_2D": _convolution,
    "DEQUANTIZE": _widening,
}


def _is_int8(tensor: Any) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    return bool(tensor.type == schema.TensorType.INT8)


def _is_int16(tensor: Any) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    return bool(tensor.type == schema.TensorType.INT16)


def _is_int4(tensor: Any) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    return bool(tensor.type == schema.TensorType.INT4)


def _per_channel(tensor: Any) -> bool:
    scales = None if tensor.quantization is None else tensor.quantization.scale
    return scales is not None and len(scales) > 1


def _set_runtime(model: Any, version: str) -> None:
    """The note that the converter left, whose length is fixed."""
    for entry in model.metadata or []:
        if word(entry.name) == VERSION_ENTRY.decode():
            buffer = model.buffers[entry.buffer]
            buffer.data = np.frombuffer(version.encode().ljust(len(buffer.data), b"\0"), np.uint8)
