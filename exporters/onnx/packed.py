"""Linears with weights in groups in an ONNX graph: ONNX Runtime's MatMulNBits.

Its weights are unsigned, 8 or 128 being zero, in blocks of input channels with a scale each. Where weights
have one scale a row, each of its blocks gets that. Scales are stored in half precision and widened when the
file is loaded, which ONNX Runtime does once. Activations stay float.

Source: com.microsoft.MatMulNBits, onnxruntime/docs/ContribOperators.md.

Shapes: O output channels, C input channels, B blocks.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters.onnx.widened import widened
from edge_deit.exporters.target import ExportRequest
from edge_deit.quantization.packed import GroupedWeight

__all__ = ["DOMAIN", "pack_layers"]

DOMAIN: Final = "com.microsoft"
_ROW_BLOCK: Final = 32  # of weights with one scale a row
_LEAST_BLOCK: Final = 16  # the operator's


def pack_layers(model: Any, request: ExportRequest) -> Any:
    """The float graph with the packed layers in their integers.

    A convolution has 8-bit weights that are widened when the file is loaded.

    Raises:
        EdgeDeitError: a layer has no node, or one of another kind.
    """
    import onnx

    entries = {entry.name: entry for entry in model.graph.initializer}
    missing = dict(request.packed)
    nodes: list[Any] = []
    for node in model.graph.node:
        found = missing.pop(node.name, None)
        if found is None:
            nodes.append(node)
            continue
        assert isinstance(found, GroupedWeight)
        weight = entries[node.input[1]]
        if node.op_type == "Gemm" and not found.integers.shape[1] % _block(found):
            constants, made = _constants(node.name, found), _product(node, found)
        else:
            constants, made = _row_scaled(node, found, list(weight.dims))
        model.graph.initializer.remove(weight)
        for name, values in constants.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
        nodes += made
    if missing:
        raise EdgeDeitError(
            f"the converted graph has no node for {', '.join(list(missing)[:3])} ({len(missing)} in all); "
            "install the tested converter: pip install 'edge-deit[onnx]'"
        )
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return model


def _block(found: GroupedWeight) -> int:
    whole = found.scales.shape[1] == 1
    return _ROW_BLOCK if whole else max(found.group, _LEAST_BLOCK)


def _constants(name: str, found: GroupedWeight) -> dict[str, np.ndarray]:
    """Weights (O, B, bytes of a block) uint8 and scales (O B) float16."""
    middle, block = 2 ** (found.bits - 1), _block(found)
    levels = (found.integers.numpy().astype(np.int16) + middle).astype(np.uint8)  # (O, C)
    if found.bits == 4:
        levels = levels[:, ::2] | levels[:, 1::2] << 4
    blocks = found.integers.shape[1] // block
    scales = found.scales.repeat_interleave(blocks // found.scales.shape[1], 1)
    return {
        f"{name}.weight.blocks": levels.reshape(len(levels), blocks, -1),
        f"{name}.weight.scales": scales.numpy().astype(np.float16).reshape(-1),
    }


def _product(node: Any, found: GroupedWeight) -> list[Any]:
    """The scales widened, and the product of matrices."""
    import onnx

    name = node.name
    source, _, *bias = node.input
    count, channels = found.integers.shape
    scales = f"{name}.weight.scales"
    wide = f"{scales}/wide"
    return [
        onnx.helper.make_node(
            "Cast", [scales], [wide], f"{name}/scales", to=onnx.TensorProto.FLOAT
        ),
        onnx.helper.make_node(
            "MatMulNBits",
            [source, f"{name}.weight.blocks", wide, *(["", "", *bias] if bias else [])],
            [node.output[0]],
            name,
            domain=DOMAIN,
            N=count,
            K=channels,
            bits=found.bits,
            block_size=_block(found),
        ),
    ]


def _row_scaled(
    node: Any, found: GroupedWeight, shape: list[int]
) -> tuple[dict[str, np.ndarray], list[Any]]:
    if found.scales.shape[1] > 1:
        raise EdgeDeitError(
            f"{node.name} has groups of weights, and is no Gemm: take --precision int8"
        )
    return widened(node, found.integers.numpy().reshape(shape), found.scales[:, 0].numpy())
