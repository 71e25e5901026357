"""Weights, biases and tables of an integer graph."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from edge_deit.exporters.tflite.file import contents
from edge_deit.exporters.tflite.integer_params import Activations, asymmetric, symmetric
from edge_deit.exporters.tflite.widths import SAME_SCALE, WEIGHTED, Params, set_type, wide_operators

__all__ = ["quantize_constants"]

_SMALLEST_WEIGHT: Final = 1e-12  # keeps the scale of an all-zero channel above 0
_BIASES: Final = {8: 32, 16: 64}
"""Bits of a layer's activations -> of its bias."""


def quantize_constants(
    model: Any, operators: Sequence[tuple[str, Any]], activations: Activations
) -> None:
    """Give each operator its constants as integers, in place; layers with the same ones share them."""
    from ai_edge_litert import schema_py_generated as schema

    (graph,) = model.subgraphs
    wide = wide_operators(operators)
    made: dict[tuple[int, bytes, int], int] = {}
    for number, (name, operator) in enumerate(operators):
        for place, index in enumerate(map(int, operator.inputs)):
            tensor = graph.tensors[index]
            data = contents(model.buffers[tensor.buffer]) if index >= 0 else b""
            if not data or tensor.type != schema.TensorType.FLOAT32:
                continue
            values = np.frombuffer(data, np.float32).reshape(tensor.shape)
            bits = 16 if number in wide else 8
            chosen = _params(name, operator, place, values, bits, activations)
            if name in WEIGHTED and place == 1:
                weights = chosen
            elif name in WEIGHTED:
                steps = activations.at(int(operator.inputs[0]), bits).scale * weights.scale
                chosen = Params(steps, 0, _BIASES[bits])
            key = index, chosen.scale.tobytes(), chosen.bits
            if key not in made:
                made[key] = _add_constant(model, tensor, values, chosen)
            operator.inputs[place] = made[key]


def _params(
    name: str, operator: Any, place: int, values: np.ndarray, bits: int, activations: Activations
) -> Params:
    """Of a constant that is no bias."""
    span = float(values.min()), float(values.max())
    if name in WEIGHTED:
        return _per_channel(values)
    if name in SAME_SCALE:
        return activations.own[int(operator.outputs[0])]
    return asymmetric(span) if bits == 8 else symmetric(span, bits)


def _per_channel(weight: np.ndarray) -> Params:
    """The largest weight of each output channel (the first dimension) is 127 steps."""
    largest = np.abs(weight.reshape(len(weight), -1)).max(1)
    return Params((largest.clip(_SMALLEST_WEIGHT) / 127).astype(np.float32), 0)


def _add_constant(model: Any, like: Any, values: np.ndarray, params: Params) -> int:
    """Append the integer form of a constant and return its index."""
    from ai_edge_litert import schema_py_generated as schema

    (graph,) = model.subgraphs
    steps = params.scale.astype(np.float64).reshape(-1, *[1] * (values.ndim - 1))
    integers = np.rint(values / steps) + params.zero_point
    limits = np.iinfo(f"int{params.bits}")
    buffer = schema.BufferT()
    stored = integers.clip(limits.min, limits.max).astype(limits.dtype)
    buffer.data = np.frombuffer(stored.tobytes(), np.uint8)
    tensor = copy.copy(like)
    tensor.buffer = len(model.buffers)
    set_type(tensor, params)
    model.buffers.append(buffer)
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1
