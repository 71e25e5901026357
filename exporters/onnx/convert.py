"""The ONNX graph of a deployment form, its nodes called as the form's layers are.

ONNX Runtime has one kernel for a product of matrices with bias (Gemm), for an RMS norm and for GELU. So
tokens are a matrix (N, D), norms are written as its fusion to SimplifiedLayerNormalization expects them
(onnxruntime/core/optimizer/layer_norm_fusion.cc), and the opset is the first with Gelu. The IR version is
the one that came with that opset, so that every ONNX Runtime which knows the operators takes the file.
There is no Pad and no Gather, which ONNX Runtime's Core ML and XNNPACK providers would leave to the CPU.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters.onnx.batched import BatchedDeiT
from edge_deit.exporters.target import ExportRequest
from edge_deit.model.form import DeployDeiT, RMSNorm, quantizable_layers
from edge_deit.model.mixed import MixedForm

__all__ = ["LAYER_KINDS", "convert"]

LAYER_KINDS: Final = ("MatMul", "Gemm", "Conv")
"""Operators that a quantizable layer may become."""

_OPSET: Final = 20
_IR_VERSION: Final = 9  # onnx 1.15, the first with opset 20; ONNX Runtime 1.17 takes no later one
_HALF_FORM: Final = "form"  # what `MixedForm` calls the form inside it
_SCOPES: Final = "pkg.torch.onnx.name_scopes"  # the converter's record of the modules around a node


class _FusedNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * 1, the spelling that ONNX Runtime recognises; the ones are part of it."""

    ones: Tensor

    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.eps = float(norm.mean_square.bias.detach())
        self.register_buffer("ones", torch.ones(norm.mean_square.in_features))

    def forward(self, x: Tensor) -> Tensor:
        return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.ones


def _spelled(request: ExportRequest) -> nn.Module:
    """A copy of the form with flat tokens and norms that are fused, in the precision asked for."""
    form: nn.Module = _flat(request.model)
    if request.dynamic_batch or len(request.example) > 1:
        assert isinstance(form, DeployDeiT)
        form = BatchedDeiT(form)
    if request.scheme.precision == "fp16":
        form = MixedForm(form, request.single)
    return form.eval()


def _flat(model: nn.Module) -> DeployDeiT:
    assert isinstance(model, DeployDeiT)
    form = copy.deepcopy(model)
    form.flat_stream = True
    for parent in (form, *form.blocks):
        for name, child in list(parent.named_children()):
            if isinstance(child, RMSNorm):
                setattr(parent, name, _FusedNorm(child))
    return form


def convert(request: ExportRequest) -> Any:
    """The float graph with the names of the deployment form, an onnx.ModelProto.

    Source: torch.onnx.export.

    Raises:
        EdgeDeitError: the converter returned nothing.
    """
    examples, free = request.examples, None
    if request.dynamic_batch:  # an axis of length 1 would be taken for a fixed one
        examples, free = (request.example.repeat(2, 1, 1, 1),), ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(
        _spelled(request),
        examples,
        input_names=list(request.inputs),
        output_names=[request.output_name],
        opset_version=_OPSET,
        dynamo=True,
        external_data=False,
        optimize=True,
        verbose=False,
        dynamic_shapes=free,
    )
    if program is None:
        raise EdgeDeitError("torch.onnx returned no program; install torch 2.13")
    model = program.model_proto
    model.ir_version = _IR_VERSION
    _name_nodes(model, request.model)
    return model


def _name_nodes(model: Any, module: nn.Module) -> None:
    """A layer's node is called as the layer is, every other node MODULE/KIND, numbered if need be.

    The converter's notes about source files are dropped: they are as large as a small model's weights
    and name folders of the machine that exported.
    """
    layers = set(quantizable_layers(module))
    constants = {entry.name for entry in model.graph.initializer}
    taken: set[str] = set()
    for node in model.graph.node:
        scope = _module_of(node)
        weighted = node.op_type in LAYER_KINDS and node.input[1] in constants
        name = scope if scope in layers and weighted else f"{scope or 'model'}/{node.op_type}"
        node.name = name if name not in taken else f"{name}_{len(taken)}"
        taken.add(node.name)
    for message in _notes(model):
        del message.metadata_props[:]
        message.ClearField("doc_string")


def _module_of(node: Any) -> str:
    """Path of the innermost module around a node; the last scope is the operation itself."""
    scopes = {entry.key: entry.value for entry in node.metadata_props}.get(_SCOPES, "[]")
    modules = [str(scope) for scope in ast.literal_eval(scopes)[:-1]]
    name = modules[-1] if modules else ""
    return "" if name == _HALF_FORM or name.startswith("_") else name.removeprefix(f"{_HALF_FORM}.")


def _notes(model: Any) -> Iterator[Any]:
    """Every message that the converter annotates."""
    graph = model.graph
    yield from (model, graph, *graph.node, *graph.initializer)
    yield from (*graph.value_info, *graph.input, *graph.output)
