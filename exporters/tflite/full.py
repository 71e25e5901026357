"""`int8-full`: a float `.tflite` file with every operator made integer.

Every activation is int8 with one scale and zero point a tensor, weights are int8 per output channel (other
constants per tensor), biases int32; nothing is int16. Input and output stay float: a QUANTIZE begins the
graph and a DEQUANTIZE ends it. A photo's bytes are integers already: there the QUANTIZE subtracts 128, and
nothing is rounded. Probabilities come from a float SOFTMAX behind the DEQUANTIZE, as 256 steps are too few
for them. In between stand CONV_2D, FULLY_CONNECTED, BATCH_MATMUL, SOFTMAX, GELU,
RSQRT, ADD, SUB, MUL, MEAN and movers of data. On a CPU XNNPACK takes all but SOFTMAX, GELU and RSQRT, for
which LiteRT has integer kernels of its own. int16 was tried: LiteRT's kernels for it are plain loops, and
the residual stream and norms alone would take as long as the whole int8 network.

Which other processors take such a file, as far as their documents say:

* Hexagon and other NPUs behind a delegate take static int8 with weights per channel. NNAPI has no GELU and
  leaves to the CPU what it has not.
* Ethos-U: Vela wants int8 or int16 and places CONV_2D, FULLY_CONNECTED, SOFTMAX, ADD, SUB, MUL and most
  movers of data. Its list as of version 3.6 has no BATCH_MATMUL, GELU, RSQRT or TRANSPOSE, and wants one
  weight scale a tensor in FULLY_CONNECTED; the rest runs on the CPU.
* Edge TPU: int8 only and static shapes, which hold here; but its compiler's list has neither BATCH_MATMUL
  nor GELU, and all behind the first operator that it lacks runs on the CPU.

Sources: coral.ai/docs/edgetpu/models-intro; SUPPORTED_OPS.md of ethos-u-vela; LiteRT's 8-bit quantization
specification.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge_deit.common.errors import EdgeDeitError
from edge_deit.quantization.scheme import Range
from exporters.tflite.file import contents, drop_unused, kind, pack, unpack
from exporters.tflite.observe import Observed, observe, tight_range, whole_range

__all__ = ["quantize_fully"]

_LOWEST, _HIGHEST = -128, 127
_SMALLEST_WEIGHT: Final = 1e-12  # keeps the scale of an all-zero channel above 0
_WEIGHTED: Final = ("FULLY_CONNECTED", "CONV_2D")
_SAME_SCALE: Final = ("TRANSPOSE", "RESHAPE", "SLICE", "PAD", "CONCATENATION")
"""Operators that move values about: their data inputs and their output share one scale."""
_KNOWN: Final = (
    *_WEIGHTED,
    *_SAME_SCALE,
    *("ADD", "SUB", "MUL", "MEAN", "RSQRT", "BATCH_MATMUL", "SOFTMAX", "GELU"),
)


@dataclass(frozen=True)
class _Params:
    """real = scale * (integer - zero_point)."""

    scale: np.ndarray  # (1,) or one a channel, float32
    zero_point: int


_LEVELS: Final = _Params(np.ones(1, np.float32), _LOWEST)
"""Of a photo's bytes less 128: each of the 256 levels is an integer of its own."""
_BYTES: Final = _Params(np.ones(1, np.float32), 0)


@dataclass(frozen=True)
class _Ends:
    """What is no part of the integer graph: the CAST of a photo's bytes, the SOFTMAX of the logits."""

    cast: Any | None
    softmax: Any | None


def _cut_ends(model: Any) -> _Ends:
    """Take them out of the graph, which begins and ends with what they wrote and read; in place."""
    (graph,) = model.subgraphs
    cast = softmax = None
    if kind(model, graph.operators[0]) == "CAST":
        cast = graph.operators.pop(0)
        graph.inputs[0] = cast.outputs[0]
    if int(graph.operators[-1].outputs[0]) == int(graph.outputs[0]) and (
        kind(model, graph.operators[-1]) == "SOFTMAX"
    ):
        softmax = graph.operators.pop()
        graph.outputs[0] = softmax.inputs[0]
    return _Ends(cast, softmax)


def quantize_fully(content: bytes, photos: Iterable[np.ndarray]) -> bytes:
    """The integer file of a float one; ranges are found on the photos (1, 3, H, W).

    Raises:
        EdgeDeitError: an operator that has no integer form here.
    """
    model = unpack(content)
    (graph,) = model.subgraphs
    ends = _cut_ends(model)
    operators = [(kind(model, operator), operator) for operator in graph.operators]
    if unknown := sorted({name for name, _ in operators} - {*_KNOWN}):
        raise EdgeDeitError(
            f"int8-full has no integer form of {', '.join(unknown)}; "
            "install the tested converter: pip install 'edge-deit[tflite]'"
        )
    groups = _groups(model, operators)
    observed = observe(content, photos, set(groups.values()))
    params = _parameters(model, operators, groups, observed)
    if ends.cast is not None:
        params |= dict.fromkeys(groups[int(graph.inputs[0])], _LEVELS)
    _quantize_constants(model, operators, params)
    for index, of_tensor in params.items():
        _set_type(graph.tensors[index], "INT8", of_tensor)
    _add_ends(model, ends)
    drop_unused(model)
    return pack(model)


def _floats(model: Any, operators: list[tuple[str, Any]]) -> set[int]:
    """Indices of the operators' float tensors that are no constants."""
    from ai_edge_litert import schema_py_generated as schema

    (graph,) = model.subgraphs
    named = {int(i) for _, one in operators for i in (*one.inputs, *one.outputs)} - {-1}
    tensors = {index: graph.tensors[index] for index in sorted(named)}
    return {
        index
        for index, tensor in tensors.items()
        if tensor.type == schema.TensorType.FLOAT32 and not contents(model.buffers[tensor.buffer])
    }


def _groups(model: Any, operators: list[tuple[str, Any]]) -> dict[int, frozenset[int]]:
    """Each activation -> the activations that share its scale."""
    groups = {index: frozenset([index]) for index in _floats(model, operators)}
    for name, operator in operators:
        if name not in _SAME_SCALE:
            continue
        joined = frozenset[int]()
        for index in (*operator.inputs, *operator.outputs):
            joined |= groups.get(int(index), frozenset())
        groups |= dict.fromkeys(joined, joined)
    return groups


def _parameters(
    model: Any,
    operators: list[tuple[str, Any]],
    groups: dict[int, frozenset[int]],
    observed: dict[frozenset[int], Observed],
) -> dict[int, _Params]:
    """Scale and zero point of each activation.

    Square, mean and root of the norm keep their whole range, because an error there hits a whole token, and
    so do scores and what BATCH_MATMUL reads; its second operand is symmetric. softmax has the scale that
    LiteRT's kernel prescribes. All others have the range of least square error.
    """
    (graph,) = model.subgraphs
    whole, symmetric, probabilities = {int(graph.inputs[0])}, set[int](), set[int]()
    for name, operator in operators:
        if name == "RSQRT":
            whole |= {int(operator.inputs[0]), int(operator.outputs[0])}
        elif name == "MUL" and operator.inputs[0] == operator.inputs[1]:
            whole.add(int(operator.outputs[0]))
        elif name == "BATCH_MATMUL":
            symmetric.add(int(operator.inputs[1]))
            whole |= {int(index) for index in operator.inputs}
        elif name == "SOFTMAX":
            whole.add(int(operator.inputs[0]))
            probabilities.add(int(operator.outputs[0]))
    params: dict[int, _Params] = {}
    for group, seen in observed.items():
        if group & probabilities:
            chosen = _Params(np.array([1 / 256], np.float32), _LOWEST)
        else:
            span = whole_range(seen) if group & whole else tight_range(seen)
            chosen = _symmetric(span) if group & symmetric else _asymmetric(span)
        params |= dict.fromkeys(group, chosen)
    return params


def _asymmetric(span: Range) -> _Params:
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    scale = np.float32((high - low) / (_HIGHEST - _LOWEST))
    return _Params(np.array([scale]), int(np.clip(round(_LOWEST - low / scale), _LOWEST, _HIGHEST)))


def _symmetric(span: Range) -> _Params:
    return _Params(np.array([max(-span[0], span[1]) / _HIGHEST], np.float32), 0)


def _quantize_constants(
    model: Any, operators: list[tuple[str, Any]], params: dict[int, _Params]
) -> None:
    """Weights, biases and tables; one that several operators read is stored once for each."""
    from ai_edge_litert import schema_py_generated as schema

    (graph,) = model.subgraphs
    for name, operator in operators:
        steps = params[int(operator.inputs[0])].scale if name in _WEIGHTED else np.ones(1)
        for place, index in enumerate(operator.inputs):
            tensor = graph.tensors[index]
            data = contents(model.buffers[tensor.buffer]) if index >= 0 else b""
            if not data or tensor.type != schema.TensorType.FLOAT32:
                continue
            values = np.frombuffer(data, np.float32).reshape(tensor.shape)
            if name in _WEIGHTED and place == 1:
                chosen = _per_channel(values)
                steps = steps * chosen.scale  # of the bias
            elif name in _WEIGHTED:
                chosen = _Params(steps, 0)
            elif name in _SAME_SCALE:
                chosen = params[int(operator.outputs[0])]
            else:
                chosen = _asymmetric((float(values.min()), float(values.max())))
            width = "INT32" if name in _WEIGHTED and place == 2 else "INT8"
            operator.inputs[place] = _add_constant(model, tensor, values, chosen, width)


def _per_channel(weight: np.ndarray) -> _Params:
    """The largest weight of each output channel (the first dimension) is 127 steps."""
    largest = np.abs(weight.reshape(len(weight), -1)).max(1)
    return _Params((largest.clip(_SMALLEST_WEIGHT) / _HIGHEST).astype(np.float32), 0)


def _add_constant(model: Any, like: Any, values: np.ndarray, params: _Params, kind: str) -> int:
    """Append the integer form of a constant and return its index."""
    from ai_edge_litert import schema_py_generated as schema

    (graph,) = model.subgraphs
    steps = params.scale.astype(np.float64).reshape(-1, *[1] * (values.ndim - 1))
    integers = np.rint(values / steps) + params.zero_point
    limits = np.iinfo(np.int8 if kind == "INT8" else np.int32)
    buffer = schema.BufferT()
    stored = integers.clip(limits.min, limits.max).astype(limits.dtype)
    buffer.data = np.frombuffer(stored.tobytes(), np.uint8)
    tensor = copy.copy(like)
    tensor.buffer = len(model.buffers)
    _set_type(tensor, kind, params)
    model.buffers.append(buffer)
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _set_type(tensor: Any, kind: str, params: _Params) -> None:
    from ai_edge_litert import schema_py_generated as schema

    tensor.type = getattr(schema.TensorType, kind)
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = params.scale.astype(np.float32)
    tensor.quantization.zeroPoint = np.full(len(params.scale), params.zero_point, np.int64)
    tensor.quantization.quantizedDimension = 0


def _add_ends(model: Any, ends: _Ends) -> None:
    """QUANTIZE behind the input and DEQUANTIZE before the output; in place.

    Outside lies a float tensor, or a photo's bytes, or what the float softmax makes of the logits.
    """
    from ai_edge_litert import schema_py_generated as schema

    (graph,) = model.subgraphs
    for name, tensors in (("QUANTIZE", graph.inputs), ("DEQUANTIZE", graph.outputs)):
        inner, outer = int(tensors[0]), len(graph.tensors)
        tensor = copy.copy(graph.tensors[inner])
        tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
        graph.tensors.append(tensor)
        graph.tensors[inner].name = tensor.name + b"_int8"
        if name == "QUANTIZE":
            graph.operators.insert(0, _operator(model, name, outer, inner))
        else:
            graph.operators.append(_operator(model, name, inner, outer))
        tensors[0] = outer
    if ends.cast is not None:
        graph.operators[0].inputs[0] = graph.inputs[0] = ends.cast.inputs[0]
        _set_type(graph.tensors[graph.inputs[0]], "UINT8", _BYTES)
    if ends.softmax is not None:
        ends.softmax.inputs[0] = graph.outputs[0]
        graph.operators.append(ends.softmax)
        graph.outputs[0] = ends.softmax.outputs[0]


def _operator(model: Any, name: str, source: int, result: int) -> Any:
    """A new operator without options."""
    from ai_edge_litert import schema_py_generated as schema

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = 1
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes)
    operator.inputs = np.array([source], np.int32)
    operator.outputs = np.array([result], np.int32)
    model.operatorCodes.append(code)
    return operator
