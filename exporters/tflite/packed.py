"""Weights in groups in a converted float file: INT4 with a scale a group, INT8 with one a channel.

A FULLY_CONNECTED with such weights and float ends finds a range for each token at run time; XNNPACK has
kernels for both kinds. Scales of groups are a float16 tensor of their own, of which XNNPACK reads the
digits of bfloat16. The table of positions and the coarse part of the patch embedding, which stay float, are
stored in half precision.

Source: `BlockwiseQuantization` in LiteRT's schema; litert_quantizer/transformations/quantize_tensor.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from edge_deit.exporters.tflite.file import word
from edge_deit.exporters.tflite.names import layer_operators
from edge_deit.quantization.packed import GroupedWeight, PackedWeight

__all__ = ["pack_layers"]

_BY_CHANNEL: Final = 0  # the axis of output channels


def pack_layers(model: Any, module: nn.Module, packed: Mapping[str, PackedWeight]) -> None:
    """Store the weights of the packed layers of `module` as they are packed, in place."""
    (graph,) = model.subgraphs
    for operator, name in list(layer_operators(model, module)):
        if name not in packed:
            continue
        found = packed[name]
        assert isinstance(found, GroupedWeight)
        tensor = graph.tensors[operator.inputs[1]]
        if found.bits == 8:
            shape = module.get_submodule(name).get_parameter("weight").shape
            _store_bytes(model, tensor, found, shape)
        else:
            _store_groups(model, tensor, found)
        operator.builtinOptions.asymmetricQuantizeInputs = True


def _store_bytes(model: Any, tensor: Any, found: GroupedWeight, shape: torch.Size) -> None:
    from ai_edge_litert import schema_py_generated as schema

    integers = found.integers.reshape(shape)
    if integers.ndim == 4:  # (out, height, width, in), as a convolution has them
        integers = integers.permute(0, 2, 3, 1)
    model.buffers[tensor.buffer].data = _bytes(integers.contiguous().numpy())
    tensor.type = schema.TensorType.INT8
    quantization = schema.QuantizationParametersT()
    quantization.scale = found.scales[:, 0].numpy()
    quantization.zeroPoint = np.zeros(len(found.scales), np.int64)
    quantization.quantizedDimension = _BY_CHANNEL
    tensor.quantization = quantization


def _store_groups(model: Any, tensor: Any, found: GroupedWeight) -> None:
    """Two weights a byte, the first in the lower half."""
    from ai_edge_litert import schema_py_generated as schema

    flat = found.integers.numpy().reshape(-1, 2).view(np.uint8) & 0xF
    model.buffers[tensor.buffer].data = flat[:, 0] | flat[:, 1] << 4
    tensor.type = schema.TensorType.INT4
    quantization = schema.QuantizationParametersT()
    quantization.quantizedDimension = _BY_CHANNEL
    if found.scales.shape[1] == 1:
        quantization.scale = found.scales[:, 0].numpy()
        quantization.zeroPoint = np.zeros(len(found.scales), np.int64)
    else:
        quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
        details = schema.BlockwiseQuantizationT()
        details.scales = _add_scales(model, tensor, found)
        details.zeroPoints, details.blockSize = -1, found.group
        quantization.details = details
    tensor.quantization = quantization


def _add_scales(model: Any, tensor: Any, found: GroupedWeight) -> int:
    """A new constant tensor (O, G) float16; its place in the graph."""
    from ai_edge_litert import schema_py_generated as schema

    (graph,) = model.subgraphs
    buffer, scales = schema.BufferT(), schema.TensorT()
    buffer.data = _bytes(found.scales.numpy().astype(np.float16))
    model.buffers.append(buffer)
    scales.name, scales.shape = f"{word(tensor.name)}.scales".encode(), list(found.scales.shape)
    scales.type, scales.buffer = schema.TensorType.FLOAT16, len(model.buffers) - 1
    scales.hasRank = True
    graph.tensors.append(scales)
    return len(graph.tensors) - 1


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.frombuffer(values.tobytes(), np.uint8)
