"""ONNX: one self-contained `.onnx` file, float or int8, checked and run by ONNX Runtime.

Node names are those of the deployment form (`blocks.0.attn.q`), so that integer precisions can name
the layers they quantize. The static form is Q/DQ with int8 weights, uint8 activations and int32 biases,
which ONNX Runtime turns into QGemm: integer products, float results. On x86 hosts with AVX2 but no VNNI
its int8 kernels are known to saturate; there `load_runner` sets the session option
`session.x64quantprecision`, which ONNX Runtime offers against that. Its effect was not measured on such a
host, only its price on another: int8 takes half as long again.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from torch import nn

from edge_deit.common.errors import EdgeDeitError
from exporters.onnx.convert import convert
from exporters.onnx.layers import layer_reader
from exporters.onnx.quantize import check_quantized, quantize_dynamic, quantize_static
from exporters.onnx.session import open_session
from exporters.target import ExportRequest, Runner, Target

__all__ = ["TARGET", "export", "load_runner", "read_metadata", "runs_on"]


def export(request: ExportRequest) -> Path:
    """Write `request.output`.

    Sources: torch.onnx.export; onnxruntime.quantization.

    Raises:
        EdgeDeitError: int8 without ranges, or a converted graph whose layers are not those
            of the model.
    """
    import onnx

    scheme, form = request.scheme, request.model
    static = scheme.static_layers(form)
    dynamic = [name for name in scheme.dynamic_layers(form) if not _is_convolution(form, name)]
    if lost := [name for name in static if name not in request.ranges]:
        raise EdgeDeitError(f"no ranges for {', '.join(lost[:3])}: give --calibration photos")
    model = convert(request)
    _check_layers(model, static + dynamic)
    if dynamic:
        quantize_dynamic(model, request.output, dynamic)
        model = onnx.load(request.output)
    if static:
        quantize_static(model, request, static)
        model = onnx.load(request.output)
    check_quantized(model, len(static + dynamic))
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


def load_runner(path: Path, threads: int) -> Runner:
    """Load a file into an ONNX Runtime session on the CPU.

    Raises:
        EdgeDeitError: ONNX Runtime is absent, or the file is missing, cut short or invalid.
    """
    if (reason := runs_on()) is not None:
        raise EdgeDeitError(reason)
    _check_exists(path)
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    try:
        session = open_session(path, threads)
    except (
        errors.Fail,
        errors.InvalidArgument,
        errors.InvalidGraph,
        errors.InvalidProtobuf,
        errors.NoSuchFile,
        errors.NotImplemented,
        errors.RuntimeException,
    ) as error:
        first_line = str(error).splitlines()[0]
        raise EdgeDeitError(
            f"{path} is not a usable .onnx file: {first_line}; export it again"
        ) from error
    return _OnnxRunner(session)


def runs_on() -> str | None:
    """None when ONNX Runtime is installed, otherwise why the file cannot be run here."""
    if importlib.util.find_spec("onnxruntime") is None:
        return "ONNX Runtime is not installed: pip install 'edge-deit[onnx]'"
    return None


@dataclass(frozen=True)
class _OnnxRunner:
    """A session with one input and one output."""

    session: Any

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        (source,) = self.session.get_inputs()
        feed = {source.name: np.ascontiguousarray(pixels, np.float32)}
        (result,) = self.session.run(None, feed)
        return np.asarray(result, dtype=np.float32)


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


TARGET: Final = Target(
    name="onnx",
    suffix=".onnx",
    extra="onnx",
    requires={"onnx": "onnx", "onnxruntime": "onnxruntime", "onnxscript": "onnxscript"},
    precisions=("fp32", "int8", "int8-dynamic"),
    backends=("cpu",),
    export=export,
    load_runner=load_runner,
    runs_on=runs_on,
    layer_reader=layer_reader,
)
