"""`int8-full`: a float `.tflite` file with every operator made integer.

Weights are int8 per output channel (other constants per tensor), biases int32. Activations are int8 with
one scale and zero point a tensor, but for the residual stream, the norms and the probabilities, which are
int16 (`exporters.tflite.widths`). Input and output stay float: a QUANTIZE begins the graph and a DEQUANTIZE
ends it. A photo's bytes are integers already: there the QUANTIZE subtracts 128, and nothing is rounded.
Probabilities of classes come from a float SOFTMAX behind the DEQUANTIZE, as 256 steps are too few for them.
In between stand CONV_2D, FULLY_CONNECTED, BATCH_MATMUL, SOFTMAX, GELU, RSQRT, ADD, SUB, MUL, MEAN, QUANTIZE
and movers of data. On a CPU XNNPACK takes those in int8 but SOFTMAX, GELU and RSQRT; for the rest LiteRT
has integer kernels of its own, plain loops that take as long as the int8 network: there, take `int8`.

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
from edge_deit.exporters.tflite.file import contents, drop_unused, kind, pack, unpack
from edge_deit.exporters.tflite.integer_constants import quantize_constants
from edge_deit.exporters.tflite.integer_params import LOWEST, choose_params
from edge_deit.exporters.tflite.observe import observe
from edge_deit.exporters.tflite.widths import (
    SAME_SCALE,
    WEIGHTED,
    Params,
    add_tensor,
    join_widths,
    new_operator,
    set_type,
)

__all__ = ["quantize_fully"]

_KNOWN: Final = (
    *WEIGHTED,
    *SAME_SCALE,
    *("ADD", "SUB", "MUL", "MEAN", "RSQRT", "BATCH_MATMUL", "SOFTMAX", "MINIMUM", "GELU"),
)
_LEVELS: Final = Params(np.ones(1, np.float32), LOWEST)
"""Of a photo's bytes less 128: each of the 256 levels is an integer of its own."""
_BYTES: Final = Params(np.ones(1, np.float32), 0)


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


def quantize_fully(
    content: bytes, photos: Iterable[np.ndarray], *, grey_levels: bool = False
) -> bytes:
    """The integer file of a float one; ranges are found on the photos (1, 3, H, W).

    `grey_levels` says that the graph makes pixels such, from 0 to 1, before its convolution.

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
    _keep_dimensions(graph, operators)
    groups = _groups(model, operators)
    observed = observe(content, photos, set(groups.values()))
    activations = choose_params(int(graph.inputs[0]), operators, observed, grey_levels=grey_levels)
    if ends.cast is not None:
        activations.own.update(dict.fromkeys(groups[int(graph.inputs[0])], _LEVELS))
    quantize_constants(model, operators, activations)
    for index, params in activations.own.items():
        set_type(graph.tensors[index], params)
    join_widths(model, operators, activations.own, activations.other)
    _split_parts(model)
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


def _keep_dimensions(graph: Any, operators: list[tuple[str, Any]]) -> None:
    """Layers whose results are summed write as many dimensions as they read; in place.

    A sum of unlike ones takes a slower loop.
    """
    summed = {int(index) for name, one in operators if name == "ADD" for index in one.inputs}
    for name, operator in operators:
        if name == "FULLY_CONNECTED" and int(operator.outputs[0]) in summed:
            source, result = (graph.tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
            operator.builtinOptions.keepNumDims = True
            result.shape = np.array([*source.shape[:-1], result.shape[-1]], np.int32)
            result.shapeSignature = None


def _groups(model: Any, operators: list[tuple[str, Any]]) -> dict[int, frozenset[int]]:
    """Each activation -> the activations that share its scale."""
    groups = {index: frozenset([index]) for index in _floats(model, operators)}
    for name, operator in operators:
        if name not in SAME_SCALE:
            continue
        joined = frozenset[int]()
        for index in (*operator.inputs, *operator.outputs):
            joined |= groups.get(int(index), frozenset())
        groups |= dict.fromkeys(joined, joined)
    return groups


def _split_parts(model: Any) -> None:
    """Probabilities and GELU's results as small ones and what larger ones have beyond; in place.

    Of probabilities in 16 bits both are QUANTIZEd, GELU writes its small ones itself: what is larger ends
    at their greatest integer. A SUB in 8 bits leaves what lies beyond.
    """
    (graph,) = model.subgraphs
    split: list[Any] = []
    least: dict[int, int] = {}
    makers: dict[int, Any] = {}
    for operator in graph.operators:
        name, inputs = kind(model, operator), [int(index) for index in operator.inputs]
        result = int(operator.outputs[0])
        made = makers.get(inputs[0])
        if name in ("SOFTMAX", "GELU"):
            makers[result] = operator
        elif name == "MINIMUM" and made is not None:
            least[inputs[0]] = inputs[1]
            operator = (
                new_operator(model, "QUANTIZE", [inputs[0]], result)
                if kind(model, made) == "SOFTMAX"
                else _writing(made, result)
            )
        elif name == "SUB" and made is not None:
            whole = inputs[0]
            if kind(model, made) == "SOFTMAX":
                whole = add_tensor(graph, result, "_whole")
                split.append(new_operator(model, "QUANTIZE", [inputs[0]], whole))
            operator.inputs = np.array([whole, least[inputs[0]]], np.int32)
        split.append(operator)
    graph.operators = split


def _writing(operator: Any, result: int) -> Any:
    """A second one that reads the same."""
    again = copy.copy(operator)
    again.inputs = np.array(operator.inputs, np.int32)
    again.outputs = np.array([result], np.int32)
    return again


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
            graph.operators.insert(0, new_operator(model, name, [outer], inner))
        else:
            graph.operators.append(new_operator(model, name, [inner], outer))
        tensors[0] = outer
    if ends.cast is not None:
        graph.operators[0].inputs[0] = graph.inputs[0] = ends.cast.inputs[0]
        set_type(graph.tensors[graph.inputs[0]], _BYTES, "UINT8")
    if ends.softmax is not None:
        ends.softmax.inputs[0] = graph.outputs[0]
        graph.operators.append(ends.softmax)
        graph.outputs[0] = ends.softmax.outputs[0]
