"""Core ML: an ML Program in an `.mlpackage`, float32, float16 or W8A8."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import fx, nn

from edge_deit.errors import EdgeDeitError
from exporters.target import ExportRequest, Runner, Target

__all__ = ["TARGET", "export", "load_runner", "read_metadata", "runs_on"]

_LAYER_OPERATORS: Final = (torch.ops.aten.linear.default, torch.ops.aten.conv2d.default)
_TEXTS: Final = ("labels", "preprocessing")  # entries of user_defined_metadata
_MIN_SCALE: Final = 2**-12


def export(request: ExportRequest) -> Path:
    """Write the package `request.output`.

    The input is a float32 MultiArray, not an image: Core ML's own image scaling is not Pillow's, and
    pixels that are prepared as the model was trained match Python's. fp32 computes in float32 (iOS 15),
    fp16 in float16 (iOS 16), int8 has int8 weights per output channel, uint8 activations per tensor
    (minimum and maximum over the photos) and float16 elsewhere (iOS 17).

    Sources: coremltools' `convert`; torchao's PT2E.

    Raises:
        EdgeDeitError: int8 without calibration photos.
    """
    import coremltools as ct

    program = torch.export.export(request.model, (request.example,), strict=True)
    if request.scheme.quantised:
        module = _quantise(program.module(), request)
        program = torch.export.export(module, (request.example,), strict=True)
    targets = {"fp32": ct.target.iOS15, "fp16": ct.target.iOS16, "int8": ct.target.iOS17}
    exact = request.scheme.precision == "fp32"
    shape = tuple(request.example.shape)
    package = ct.convert(
        program.run_decompositions({}),
        inputs=[ct.TensorType(name=request.input_name, shape=shape, dtype=np.float32)],
        outputs=[ct.TensorType(name=request.output_name, dtype=np.float32)],
        minimum_deployment_target=targets[request.scheme.precision],
        compute_precision=ct.precision.FLOAT32 if exact else ct.precision.FLOAT16,
        convert_to="mlprogram",
        skip_model_load=True,
    )
    _describe(package, request)
    package.save(str(request.output))
    return request.output


def _describe(package: Any, request: ExportRequest) -> None:
    """What Xcode shows and an app can read."""
    texts = request.metadata
    package.author = texts.get("author", "")
    package.license = texts.get("license", "")
    package.short_description = texts.get("description", "")
    package.version = texts.get("version", "")
    size = request.example.shape[-1]
    package.input_description[request.input_name] = (
        f"RGB photo as (1, 3, {size}, {size}) float32, prepared as `preprocessing` in the metadata says"
    )
    package.output_description[request.output_name] = (
        "One score a class, before softmax; names in `labels`, one a line"
        if texts.get("labels")
        else "Final normalised tokens"
    )
    for name in _TEXTS:
        package.user_defined_metadata[name] = texts.get(name, "")
    if labels := texts.get("labels"):
        package.user_defined_metadata["classes"] = json.dumps(labels.split("\n"), ensure_ascii=False)


def read_metadata(path: Path) -> dict[str, str]:
    """Labels and preprocessing of a saved package.

    Raises:
        EdgeDeitError: no whole package.
    """
    from exporters.mil_reference import load_spec

    stored = load_spec(path).description.metadata.userDefined
    return {name: str(stored[name]) for name in _TEXTS if name in stored}


def _quantise(module: fx.GraphModule, request: ExportRequest) -> nn.Module:
    """PT2E over the scheme's layers: their inputs and weights, nothing else."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    if not request.calibration:
        raise EdgeDeitError("int8 needs calibration photos: --calibration DIR")
    layers = set(request.scheme.quantised_layers(request.model))
    prepared = prepare_pt2e(module, _quantizer(layers))
    with torch.no_grad():
        for photo in request.calibration:
            prepared(photo)
    converted: nn.Module = convert_pt2e(prepared)
    return converted


def _quantizer(layers: set[str]) -> Any:
    """A PT2E quantizer for exactly these layers, with the data types that Core ML's W8A8 has."""
    from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantizer import (
        QuantizationAnnotation,
        QuantizationSpec,
        Quantizer,
    )

    activation = QuantizationSpec(
        dtype=torch.uint8,
        quant_min=0,
        quant_max=255,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=_MIN_SCALE),
    )
    weight = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=2**-20),
    )

    class LayerQuantizer(Quantizer):  # type: ignore[misc]
        """Annotates input and weight of the chosen layers."""

        def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
            for node in model.graph.nodes:
                if node.target in _LAYER_OPERATORS and _path(node) in layers:
                    node.meta["quantization_annotation"] = QuantizationAnnotation(
                        input_qspec_map={node.args[0]: activation, node.args[1]: weight},
                        _annotated=True,
                    )
            return model

        def validate(self, model: fx.GraphModule) -> None:
            found = {
                _path(node) for node in model.graph.nodes if "quantization_annotation" in node.meta
            }
            if lost := sorted(layers - found):
                raise EdgeDeitError(f"layer {lost[0]} was not found in the graph to quantise")

    return LayerQuantizer()


def _path(node: fx.Node) -> str:
    """Name of the module that a node belongs to."""
    stack = node.meta.get("nn_module_stack")
    return str(list(stack.values())[-1][0]) if stack else ""


@dataclass(frozen=True)
class _CoreMLRunner:
    """The real runtime, on a Mac."""

    model: Any
    input_name: str
    output_name: str

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        feed = {self.input_name: np.ascontiguousarray(pixels, np.float32)}
        return np.asarray(self.model.predict(feed)[self.output_name], np.float32)


def load_runner(path: Path, threads: int) -> Runner:
    """Core ML on macOS, reference numerics elsewhere.

    Core ML chooses its own number of threads; `threads` holds for the reference.

    Raises:
        EdgeDeitError: no whole package, or an operator that the reference lacks.
    """
    from exporters.mil_reference import load_spec, reference_runner

    if sys.platform != "darwin":
        return reference_runner(path, threads)
    import coremltools as ct

    description = load_spec(path).description
    return _CoreMLRunner(
        ct.models.MLModel(str(path)), description.input[0].name, description.output[0].name
    )


def runs_on() -> str | None:
    """None on macOS, elsewhere what stands in."""
    if sys.platform == "darwin" and importlib.util.find_spec("coremltools") is not None:
        return None
    return "Core ML runs only on macOS; the saved package was run by reference numerics, not Core ML"


TARGET: Final = Target(
    name="coreml",
    suffix=".mlpackage",
    extra="coreml",
    requires={"coremltools": "coremltools", "torchao": "torchao"},
    precisions=("fp32", "fp16", "int8"),
    backends=("mlprogram",),
    export=export,
    load_runner=load_runner,
    runs_on=runs_on,
)
