"""Half-precision weights in an XNNPACK graph that computes in single precision.

XNNPACK has such kernels (`fully_connected_nc_f32_f16`): it widens the weights once, when the file is
loaded. ExecuTorch's serializer writes a constant in the type that the graph has for it, and a graph of
PyTorch cannot multiply two types. So the serializer is told the type of these weights while it writes.

A convolution with such weights comes out wrong (ExecuTorch 1.5.1: -4 dB on real photos), so the patch
embedding becomes a Linear over each patch's pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from edge_deit.model.form import quantizable_layers

__all__ = ["halved_weights"]


@contextmanager
def halved_weights(model: nn.Module, single: Collection[str]) -> Iterator[None]:
    """Files that are lowered meanwhile have the weights of `model`'s Linears in half precision.

    Those of the layers in `single`, and all that is no weight of a layer, stay float32.
    """
    from executorch.backends.xnnpack.operators import node_visitor
    from executorch.backends.xnnpack.serialization.xnnpack_graph_schema import XNNDatatype

    layers = quantizable_layers(model)
    names = {f"{name}.weight" for name in layers if name.removesuffix(".rows") not in single}
    visitor, read = node_visitor.NodeVisitor, node_visitor.get_param_tensor
    written = visitor.get_serialized_dtype

    def halved(program: Any, node: Any) -> bool:
        return program.graph_signature.inputs_to_parameters.get(node.name) in names

    def datatype(self: Any, params: Any, node: Any, *more: Any, **named: Any) -> Any:
        if halved(self.exported_program, node):
            return XNNDatatype.xnn_datatype_fp16
        return written(self, params, node, *more, **named)

    def tensor(program: Any, node: Any) -> Any:
        found = read(program, node)
        return found.half() if halved(program, node) else found

    visitor.get_serialized_dtype, node_visitor.get_param_tensor = datatype, tensor
    try:
        yield
    finally:
        visitor.get_serialized_dtype, node_visitor.get_param_tensor = written, read
