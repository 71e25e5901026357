"""Which operators of an integer graph compute in 16 bits, and what stands between them and the others.

The residual stream is read and added to by every block, so what it is rounded by adds up; squares and their
mean decide the size of a whole token, which the norm's product then gives to all its values. These are
int16 with zero point 0. So are the logits, of which two classes often have the same one of 256 steps. All
else is int8. From 16 to 8 bits there is a QUANTIZE, made once a tensor. From 8 to 16 it is a CAST of
integers without zero point, whose scale stays: QUANTIZE does that from LiteRT 2 on only.

Probabilities have 256 steps of 1/256 in int8, and most are smaller than one step. LiteRT's softmax can
write them in 16 bits: those up to `SMALL` then have 256 steps of their own, the rest of larger ones 1/256
as before, and each of the two parts has a BATCH_MATMUL.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

__all__ = [
    "SAME_SCALE",
    "WEIGHTED",
    "Params",
    "add_tensor",
    "join_widths",
    "new_operator",
    "set_type",
    "wide_operators",
]

WEIGHTED: Final = ("FULLY_CONNECTED", "CONV_2D")
SAME_SCALE: Final = ("TRANSPOSE", "RESHAPE", "SLICE", "PAD", "CONCATENATION")
"""Operators that move values about: their data inputs and their output share one scale."""
_ANY: Final = (*SAME_SCALE, "SOFTMAX", "MINIMUM")
"""Operators whose tensors have the width that they have."""


@dataclass(frozen=True)
class Params:
    """real = scale * (integer - zero_point), in integers of `bits`."""

    scale: np.ndarray  # (1,) or one a channel, float32
    zero_point: int
    bits: int = 8


def wide_operators(operators: Sequence[tuple[str, Any]]) -> set[int]:
    """Places of the operators that compute in 16 bits: sums of the stream, all of a norm, and the head.

    Sums behind the attention, of narrow products, are none, nor are sums of two layers' results.
    """
    last = len(operators) - 1
    products, squares, layers, wide = set[int](), set[int](), set[int](), set[int]()
    for place, (name, operator) in enumerate(operators):
        inputs, output = [int(index) for index in operator.inputs], int(operator.outputs[0])
        if name in WEIGHTED:
            layers.add(output)
        if name == "BATCH_MATMUL" or (name == "ADD" and products & {*inputs}):
            products.add(output)
        elif name == "ADD" and {*inputs} <= layers:
            continue
        elif name == "MUL" and inputs[0] == inputs[1]:
            squares.add(output)
            wide.add(place)
        elif (
            name in ("ADD", "RSQRT", "MUL")
            or place == last
            or (name == "FULLY_CONNECTED" and inputs[0] in squares)
        ):
            wide.add(place)
    return wide


def join_widths(
    model: Any,
    operators: Sequence[tuple[str, Any]],
    own: Mapping[int, Params],
    other: Mapping[int, Params],
) -> None:
    """Give each operator its tensors in the width it computes in; in place.

    `own` are the parameters of each activation, `other` those of its copy in the other width.
    """
    (graph,) = model.subgraphs
    wide = wide_operators(operators)
    copies: dict[int, int] = {}
    joined: list[Any] = []

    def other_width(index: int) -> int:
        copied = add_tensor(graph, index, f"_int{other[index].bits}")
        set_type(graph.tensors[copied], other[index])
        return copied

    for place, (name, operator) in enumerate(operators):
        bits = 16 if place in wide else 8
        fits = name in _ANY or (name == "SUB" and own[int(operator.inputs[0])].bits == 16)
        for slot, index in enumerate(map(int, operator.inputs)):
            if fits or index not in own or own[index].bits == bits:
                continue
            if index not in copies:
                copies[index] = other_width(index)
                way = "QUANTIZE" if own[index].bits == 16 else "CAST"
                joined.append(new_operator(model, way, [index], copies[index]))
            operator.inputs[slot] = copies[index]
        joined.append(operator)
        result = int(operator.outputs[0])
        if not fits and own[result].bits != bits:
            operator.outputs[0] = other_width(result)
            joined.append(new_operator(model, "QUANTIZE", [operator.outputs[0]], result))
    graph.operators = joined


def add_tensor(graph: Any, like: int, ending: str) -> int:
    """Append a copy of a tensor, with a longer name, and return its index."""
    tensor = copy.copy(graph.tensors[like])
    tensor.name = tensor.name + ending.encode()
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def set_type(tensor: Any, params: Params, name: str = "") -> None:
    """An integer tensor of `params`, in the schema's type `name` if that is not INT8 or INT16."""
    from ai_edge_litert import schema_py_generated as schema

    tensor.type = getattr(schema.TensorType, name or f"INT{params.bits}")
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = params.scale.astype(np.float32)
    tensor.quantization.zeroPoint = np.full(len(params.scale), params.zero_point, np.int64)
    tensor.quantization.quantizedDimension = 0


def new_operator(model: Any, name: str, sources: Sequence[int], result: int) -> Any:
    """An operator without options."""
    from ai_edge_litert import schema_py_generated as schema

    number = getattr(schema.BuiltinOperator, name)
    places = [i for i, code in enumerate(model.operatorCodes) if code.builtinCode == number]
    if not places:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = number
        code.version = 1
        model.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex = places[0] if places else len(model.operatorCodes) - 1
    operator.inputs = np.array(sources, np.int32)
    operator.outputs = np.array([result], np.int32)
    return operator
