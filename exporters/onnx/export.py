"""ONNX: one self-contained `.onnx` file, float or int8, checked and run by ONNX Runtime.

Node names are those of the deployment form (`blocks.0.attn.q`), so that integer precisions can name
the layers they quantize. The static form is Q/DQ with 8-bit weights, uint8 activations and int32 biases,
which ONNX Runtime turns into QGemm: integer products, float results. Weights are stored so that a plain
session, `onnxruntime.InferenceSession(path)`, is right on every processor (`exporters.onnx.quantize`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters.onnx.convert import convert
from edge_deit.exporters.onnx.packed import pack_layers
from edge_deit.exporters.onnx.quantize import (
    check_quantized,
    quantize_dynamic,
    quantize_static,
    store_unsigned,
)
from edge_deit.exporters.onnx.runtime import load_runner, runs_on
from edge_deit.exporters.onnx.widened import quantize_weights
from edge_deit.exporters.target import ExportRequest

__all__ = ["export", "load_runner", "read_metadata", "runs_on"]


def export(request: ExportRequest) -> Path:
    """Write `request.output`.

    Sources: torch.onnx.export; onnxruntime.quantization.

    Raises:
        EdgeDeitError: int8 without ranges, or a converted graph whose layers are not those
            of the model.
    """
    import onnx

    if request.packed:
        return _save(pack_layers(convert(request), request), request)
    scheme, form = request.scheme, request.model
    static = scheme.static_layers(form)
    dynamic = [name for name in scheme.dynamic_layers(form) if not _is_convolution(form, name)]
    if lost := [name for name in static if name not in request.ranges]:
        raise EdgeDeitError(f"no ranges for {', '.join(lost[:3])}: give --calibration photos")
    model = convert(request)
    floats = scheme.float_input_layers(form)
    _check_layers(model, static + dynamic + floats)
    if dynamic:
        quantize_dynamic(model, request, dynamic)
        model = onnx.load(request.output)
    if static:
        quantize_static(model, request, static)
        model = onnx.load(request.output)
    quantize_weights(model, request, floats)
    store_unsigned(model, (*request.weight_steps, *floats))
    check_quantized(model, len(static + dynamic + floats))
    return _save(model, request)


def _save(model: Any, request: ExportRequest) -> Path:
    import onnx

    onnx.helper.set_model_props(model, dict(request.metadata))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, request.output)
    return request.output


def read_metadata(path: Path) -> dict[str, str]:
    """The texts embedded in a file, by name.

    Raises:
        EdgeDeitError: not a whole `.onnx` file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    _check_exists(path)
    broken = f"{path} is cut short or no .onnx file; export it again"
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise EdgeDeitError(broken) from error
    if not model.graph.node:  # an empty file decodes to an empty model
        raise EdgeDeitError(broken)
    return {entry.key: entry.value for entry in model.metadata_props}


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise EdgeDeitError(f"{path} does not exist")


def _check_layers(model: Any, layers: list[str]) -> None:
    """Each layer must be exactly one node.

    Raises:
        EdgeDeitError: a layer without a node of its name.
    """
    names = {node.name for node in model.graph.node}
    if lost := [name for name in layers if name not in names]:
        raise EdgeDeitError(
            f"the converted graph has no node for {', '.join(lost[:3])} ({len(lost)} in all); "
            "install the tested converter: pip install 'edge-deit[onnx]'"
        )


def _is_convolution(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name), nn.Conv2d)
