"""Core ML: one `.mlpackage` holding an ML Program for iPhone, iPad and Mac.

What each precision means here:

* `fp32`: float32 weights and arithmetic, which the CPU and the GPU execute; iOS 15, macOS 12.
* `fp16`: float16 weights and arithmetic, which the Neural Engine takes too; iOS 16, macOS 13. Layers that
  half precision is not for stay float32.
* `int8`: the scheme's layers have int8 weights, symmetric per output channel, and their inputs pass
  through uint8, asymmetric per tensor with the request's ranges; everything else is
  float16, or float32 where half precision is not for it; iOS 17, macOS 14.
* `palettized-6`, `palettized-4`: the scheme's layers have weights as indices into tables, one a layer
  (`exporters.coreml.tables`); the rest is as in `fp16`; iOS 16, macOS 13.

Core ML has no ranges that are found at run time, so there is no `int8-dynamic`. Input and output are
float32 in every precision. The file can be written on any system; off macOS it is checked by
`exporters.coreml.reference`, which follows the file's declared types but is not Core ML.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters.channels_first import in_form
from edge_deit.exporters.coreml.runtime import RUNTIME, load_on, load_runner, runs_on
from edge_deit.exporters.coreml.tables import append_tables
from edge_deit.exporters.mlpackage import class_names, read_specification, settle_bytes
from edge_deit.exporters.pt2e import quantize_graph
from edge_deit.exporters.runtime import MASK_NAME
from edge_deit.exporters.target import ExportRequest
from edge_deit.model.file_form import GREATEST_LEVEL
from edge_deit.model.mixed import MixedForm

__all__ = ["export", "load_on", "load_runner", "read_metadata", "runs_on"]

_MIN_SCALE: Final = 2.0**-14  # the smallest normal float16; scales are stored as float16
_PRECISIONS: Final = {  # arithmetic and oldest system, as coremltools names them
    "fp32": ("FLOAT32", "iOS15"),
    "fp16": ("FLOAT16", "iOS16"),
    "int8": ("FLOAT16", "iOS17"),
    "palettized-6": ("FLOAT16", "iOS16"),
    "palettized-4": ("FLOAT16", "iOS16"),
}
_FIELDS: Final = {  # field of the specification's metadata, attribute of coremltools' model
    "author": ("author", "author"),
    "license": ("license", "license"),
    "description": ("shortDescription", "short_description"),
    "version": ("versionString", "version"),
}
_FUSES_NORMS: Final = "common::fuse_elementwise_to_batchnorm"
"""A pass that knows single precision only: `x * std + mean` of half precision makes it fail."""

_LABEL: Final = "classLabel"
_PREVIEW: Final = "com.apple.coreml.model.preview.type"  # lets Xcode try the model on photos
_RETURNS: Final = {
    "logits": "Logits ({}, K), float32, in the order of the metadata's `labels`",
    "probabilities": "Probability of each class, in the order of the metadata's `labels`",
    "reconstruction": "Normalised pixels ({}, 3, H, W), float32, of the whole photo",
    "features": "Final normalised tokens ({}, N, D), float32",
}
_DEBUG_FILE: Final = "executorch_debug_handle_mapping.json"  # ties operators to PyTorch nodes


def export(request: ExportRequest) -> Path:
    """Write the folder `request.output`.

    Sources: coremltools.convert of a torch.export program; torchao's PT2E quantization.

    Raises:
        EdgeDeitError: a precision that Core ML does not have, int8 without ranges, or an
            exported graph that lacks a layer of the scheme.
    """
    import coremltools as ct

    precision = request.scheme.precision
    if precision not in _PRECISIONS:
        raise EdgeDeitError(f"target coreml has no {precision}; it has: {', '.join(_PRECISIONS)}")
    request = replace(request, model=in_form(request))
    model = request.model
    if request.scheme.quantized:  # Core ML computes outputs in float16, so only inputs are integer
        model = quantize_graph(
            request,
            extra=RUNTIME.extra,
            unsigned=True,
            outputs=False,
            min_scale=_MIN_SCALE,
        )
    arithmetic, system = _PRECISIONS[precision]
    passes = ct.PassPipeline()
    if request.packed:
        append_tables(passes, request.packed)
    if request.scheme.halved and request.single:  # the types are the graph's own then
        arithmetic, model = "FLOAT32", MixedForm(model, request.single).eval()
        passes.remove_passes({_FUSES_NORMS})
    elif precision == "int8" and not request.half_remainder:
        arithmetic = "FLOAT32"
    with torch.no_grad():
        program = torch.export.export(model, request.examples)
    converted = ct.convert(
        program.run_decompositions({}),
        convert_to="mlprogram",
        inputs=_inputs(request),
        outputs=[ct.TensorType(name=request.output_name, dtype=np.float32)],
        classifier_config=_classifier(request),
        compute_precision=getattr(ct.precision, arithmetic),
        minimum_deployment_target=getattr(ct.target, system),
        skip_model_load=True,
        pass_pipeline=passes,
    )
    _describe(converted, request)
    converted.save(str(request.output))
    (request.output / _DEBUG_FILE).unlink(missing_ok=True)
    settle_bytes(request.output)
    return request.output


def read_metadata(path: Path) -> dict[str, str]:
    """The texts embedded in a package, by name.

    Raises:
        EdgeDeitError: not a whole `.mlpackage`.
    """
    metadata = read_specification(path).description.metadata
    fields = {name: str(getattr(metadata, field)) for name, (field, _) in _FIELDS.items()}
    texts = {str(name): str(text) for name, text in metadata.userDefined.items()}
    return fields | {name: text for name, text in texts.items() if not name.startswith("com.")}


# Writing


def _takes_image(request: ExportRequest) -> bool:
    return request.model.image is not None


def _inputs(request: ExportRequest) -> list[Any]:
    """Arrays, or an image: Vision hands over nothing else."""
    import coremltools as ct

    if _takes_image(request):
        rgb, shape = ct.colorlayout.RGB, tuple(request.example.shape)
        source = ct.ImageType(
            name=request.input_name, shape=shape, scale=1 / GREATEST_LEVEL, color_layout=rgb
        )
        return [source]
    return [
        ct.TensorType(name=name, shape=tuple(example.shape), dtype=np.float32)
        for name, example in request.inputs.items()
    ]


def _classifier(request: ExportRequest) -> Any:
    """With an image and probabilities the file is a classifier, as Vision and Xcode know it; else None."""
    import coremltools as ct

    if not (_takes_image(request) and request.output_name == "probabilities"):
        return None
    return ct.ClassifierConfig(
        class_labels=list(class_names(request.metadata["labels"])),
        predicted_feature_name=_LABEL,
        predicted_probabilities_output=request.output_name,
    )


def _describe(converted: Any, request: ExportRequest) -> None:
    """Put names, texts and descriptions where Xcode and an app look for them."""
    texts = dict(request.metadata)
    for name, (_, attribute) in _FIELDS.items():
        setattr(converted, attribute, texts.pop(name, ""))
    for name, text in texts.items():
        converted.user_defined_metadata[name] = text
    photos, _, height, width = request.example.shape
    image = _takes_image(request)
    converted.input_description[request.input_name] = (
        f"RGB photo, cut to {width} x {height} as the metadata's `preprocessing` says"
        if image
        else f"RGB pixels ({photos}, 3, {height}, {width}), float32, normalised as the metadata's "
        "`preprocessing` says"
    )
    if request.mask is not None:
        converted.input_description[MASK_NAME] = (
            f"{tuple(request.mask.shape)}, float32: 1 for each patch that is hidden, 0 for others"
        )
    label = converted.get_spec().description.predictedFeatureName
    scores = (
        f"{label}_probs" if label else request.output_name
    )  # as coremltools calls the dictionary
    converted.output_description[scores] = _RETURNS[request.output_name].format(photos)
    if label:
        converted.output_description[_LABEL] = "Most probable class"
        converted.user_defined_metadata[_PREVIEW] = "imageClassifier"
