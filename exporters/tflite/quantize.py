"""int8 layers in a converted float file, made by litert-quantizer; everything else stays float.

Weights are int8 per output channel, symmetric, the largest of a channel being 127 steps. Activations are
int8 per tensor: with the ranges that the request brings (static), or with those of each photo (dynamic).
No photo is run here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from torch import nn

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters.tflite.file import kind, unpack, word
from edge_deit.exporters.tflite.names import layer_operators
from edge_deit.quantization.scheme import LayerRanges, Range

__all__ = ["quantize_layers", "ranges_of"]

_TESTED: Final = "install the tested one: pip install 'edge-deit[tflite]'"


def quantize_layers(
    content: bytes,
    module: nn.Module,
    static: list[str],
    dynamic: list[str],
    ranges: Mapping[str, LayerRanges],
) -> bytes:
    """The file with int8 weights in the `static` layers, which have `ranges`, and the `dynamic` ones.

    Source: litert_quantizer.quantizer.

    Raises:
        EdgeDeitError: a layer without a range, two ranges for one tensor, or a file whose layers are
            not those of the model.
    """
    from litert_quantizer import qtyping, quantizer, recipe_manager

    recipe = recipe_manager.RecipeManager()
    for scope, operation in _find(content, module, dynamic):
        name = qtyping.TFLOperationName(operation)
        recipe.add_dynamic_config(scope, name, num_bits=8)
    for scope, operation in _find(content, module, static):
        name = qtyping.TFLOperationName(operation)
        recipe.add_static_config(scope, name, activation_num_bits=8, weight_num_bits=8)
    statistics = _statistics(content, module, static, ranges) if static else None
    result = quantizer.Quantizer(content, recipe.get_quantization_recipe()).quantize(
        statistics, enable_progress_bar=False, enable_progress_report=False
    )
    quantized = bytes(result.quantized_model)
    _check(quantized, len(static) + len(dynamic))
    return quantized


def ranges_of(name: str, ranges: Mapping[str, LayerRanges]) -> LayerRanges:
    """The ranges of a layer.

    Raises:
        EdgeDeitError: there are none.
    """
    if name not in ranges:
        raise EdgeDeitError(
            f"no activation range for {name}; calibrate with the same model: --calibration DIR"
        )
    return ranges[name]


def _find(content: bytes, module: nn.Module, layers: list[str]) -> list[tuple[str, str]]:
    """Regular expressions that find exactly one operator each, and that operator's kind.

    litert-quantizer matches expressions against the operator's output names, each followed by `;`.
    """
    model = unpack(content)
    found = [
        (f"^{re.escape(output)};$", operation)
        for _, output, _, operation in _ends(model, module, layers)
    ]
    if len(set(found)) != len(layers):
        raise EdgeDeitError(
            f"{len(set(found))} operators stand for {len(layers)} layers in the converted file; "
            f"{_TESTED}"
        )
    return found


def _ends(model: Any, module: nn.Module, layers: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """Input tensor, output tensor, layer and operator kind of each layer that is asked for."""
    (graph,) = model.subgraphs
    for operator, name in layer_operators(model, module):
        if name in layers:
            source, result = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
            yield word(source.name), word(result.name), name, kind(model, operator)


def _statistics(
    content: bytes, module: nn.Module, layers: list[str], ranges: Mapping[str, LayerRanges]
) -> dict[str, dict[str, np.ndarray]]:
    """Least and greatest value of each layer's input and output tensor, as a calibration returns them."""
    model = unpack(content)
    (graph,) = model.subgraphs
    ranks = {word(tensor.name): len(tensor.shape) for tensor in graph.tensors}
    chosen: dict[str, Range] = {}
    for source, result, name, _ in _ends(model, module, layers):
        of_layer = ranges_of(name, ranges)
        for tensor, span in ((source, of_layer.input), (result, of_layer.output)):
            if chosen.setdefault(tensor, span) != span:
                raise EdgeDeitError(
                    f"the tensor that {name} reads has two ranges, {chosen[tensor]} and {span}; "
                    "layers that read one tensor need one range"
                )
    return {
        tensor: {
            key: np.full((1,) * ranks[tensor], value, np.float32)
            for key, value in (("min", min(low, 0.0)), ("max", max(high, 0.0)))
        }
        for tensor, (low, high) in chosen.items()
    }


def _check(content: bytes, expected: int) -> None:
    """Count the operators with int8 weights.

    Raises:
        EdgeDeitError: there are more or fewer than layers to quantize.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = unpack(content)
    (graph,) = model.subgraphs
    count = sum(
        kind(model, operator) in ("FULLY_CONNECTED", "CONV_2D")
        and graph.tensors[operator.inputs[1]].type == schema.TensorType.INT8
        for operator in graph.operators
    )
    if count != expected:
        raise EdgeDeitError(
            f"the quantizer made {count} operators integer where {expected} were asked for; {_TESTED}"
        )
