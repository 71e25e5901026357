"""Layers that compute in float from int8 weights: a DequantizeLinear in front of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from edge_deit.exporters.target import ExportRequest
from edge_deit.quantization.rounding import int8_scale

__all__ = ["quantize_weights", "widened"]


def widened(
    node: Any, integers: np.ndarray, scales: np.ndarray
) -> tuple[dict[str, np.ndarray], list[Any]]:
    """The constants by name, and the nodes: `node` with weights (O, ...) int8 and scales (O,) float32."""
    import onnx

    name = f"{node.name}.weight"
    constants = {f"{name}.integers": integers, f"{name}.scales": scales}
    layer = onnx.NodeProto()
    layer.CopyFrom(node)
    layer.input[1] = f"{name}/wide"
    widen = onnx.helper.make_node(
        "DequantizeLinear", list(constants), [layer.input[1]], f"{name}/DequantizeLinear", axis=0
    )
    return constants, [widen, layer]


def quantize_weights(model: Any, request: ExportRequest, layers: list[str]) -> None:
    """The named layers' float weights as int8, one scale an output channel; in place."""
    import onnx

    entries = {entry.name: entry for entry in model.graph.initializer}
    nodes: list[Any] = []
    for node in model.graph.node:
        if node.name not in layers:
            nodes.append(node)
            continue
        entry = entries[node.input[1]]
        weight = torch.from_numpy(onnx.numpy_helper.to_array(entry).copy())
        scales = request.weight_steps.get(node.name, int8_scale(weight))
        integers = (weight / scales.reshape(-1, *(1,) * (weight.ndim - 1))).round().to(torch.int8)
        constants, made = widened(node, integers.numpy(), scales.numpy())
        model.graph.initializer.remove(entry)
        for name, values in constants.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        nodes += made
    del model.graph.node[:]
    model.graph.node.extend(nodes)
