"""An artefact's request to its exporter, and its manifest."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from edge_deit.artefacts.contract import Contract
from edge_deit.artefacts.manifest import (
    SCHEMA,
    Calibration,
    Manifest,
    Port,
    Ranges,
    SchemeEntry,
    Weights,
)
from edge_deit.checkpoint.sources import is_path, shareable_source
from edge_deit.common.files import hash_path, size_of
from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.halves import halves_of
from edge_deit.conversion.packing import pack, reading_bytes
from edge_deit.exporters import MASK_NAME, ExportRequest, Target, tool_versions
from edge_deit.metrics.outputs import Closeness
from edge_deit.model.file_form import GREATEST_LEVEL, FileForm, in_file_form
from edge_deit.model.form import DeployDeiT
from edge_deit.quantization.mix import with_weights
from edge_deit.quantization.narrow import token_scaled
from edge_deit.quantization.packed import GroupedWeight, PackedWeight
from edge_deit.quantization.scheme import LayerRanges, Scheme

__all__ = ["license_of", "manifest_of", "request_for"]


def _output_name(context: ExportContext) -> str:
    task = context.checkpoint.config.task
    return _RETURNS.get(task, context.file_form.returns)


_RETURNS: Final = {"features": "features", "masked-image": "reconstruction"}


_TAKES: Final = {
    "pixels": "pixels ({}, 3, H, W) float32, RGB, normalised as `preprocessing` says",
    "image": "image ({}, H, W, 3) uint8, RGB, cut to size as `preprocessing` says",
}


def _mask_text(context: ExportContext) -> str:
    return (
        "" if context.masks is None else ", mask (1, P) float32, 1 where a patch is hidden, else 0"
    )


def _approximation_text(context: ExportContext) -> str:
    return "" if context.merging is None else f"; an approximation: {context.merging.told}"


def license_of(source: str) -> str:
    """The licence of a file made from the weights that a user calls `source`."""
    if source == "bundled":
        return "Apache-2.0; trained on Fashion-MNIST (Expat)"
    return f"that of the weights, {Path(source).name if is_path(source) else source}"


def request_for(
    context: ExportContext, target: Target, scheme: Scheme, backend: str, path: Path
) -> ExportRequest:
    checkpoint, planes = context.checkpoint, target.image_planes
    takes, spec = context.file_form.takes, checkpoint.preprocess
    model, packed, steps = _weighted(context, target, scheme)
    if context.file_form != FileForm():
        model = in_file_form(model, context.file_form, spec.mean, spec.std, planes=planes)
        if takes == "image" and not planes:
            packed = reading_bytes(packed)
    if packed:
        model = with_weights(model, packed)
    model = context.with_merging(model)
    single, may_halve = halves_of(context, target, scheme, backend, model)
    return ExportRequest(
        model=model,
        example=context.file_form.example(context.photos[:1], planes=planes),
        scheme=scheme,
        calibration=context.calibration if scheme.needs_calibration else None,
        output=path,
        backend=backend,
        ranges=_ranges(context, scheme, planes=planes),
        input_name=context.layout.input_name if takes == "pixels" else takes,
        output_name=_output_name(context),
        metadata=_texts(context, scheme),
        mask=None if context.masks is None else context.masks[:1],
        half_remainder=may_halve,
        single=single,
        dynamic_batch=context.layout.batched,
        weight_steps=steps,
        packed=packed,
        input_of=Contract.of_form(context.file_form, spec).input_of,
        form=context.form_of(target, scheme) or "cpu",
    )


def _weighted(
    context: ExportContext, target: Target, scheme: Scheme
) -> tuple[DeployDeiT, dict[str, PackedWeight], dict[str, Tensor]]:
    """The form with the scheme's weights, those in few bits, and the steps of those on a grid for pairs."""
    if scheme.packed:
        model, packed = pack(context, scheme)
        return model, packed, {}
    if not scheme.quantized:
        return context.form, {}, {}
    found, in_pairs = context.conditioned, target.in_pairs
    assert found is not None
    layers, dynamic = scheme.quantized_layers(context.form), scheme.dynamic_layers(context.form)
    floats = scheme.float_input_layers(context.form)
    model = found.with_layers(
        layers, dynamic, floats, token_ranges=target.token_ranges, in_pairs=in_pairs
    )
    return model, {}, found.pair_steps(layers) if in_pairs else {}


def _texts(context: ExportContext, scheme: Scheme) -> dict[str, str]:
    """What a file says about itself."""
    checkpoint = context.checkpoint
    batch = "B" if context.layout.batched else str(context.file_form.photos)
    takes = _TAKES[context.file_form.takes].format(batch)
    return {
        "labels": "\n".join(checkpoint.labels),
        "preprocessing": json.dumps(checkpoint.preprocess.to_json()),
        "author": "Edge DeiT",
        "license": license_of(context.origin or checkpoint.source),
        "description": f"{checkpoint.name}, {scheme.precision}: {takes}"
        f"{_mask_text(context)} -> {_output_name(context)}{_approximation_text(context)}",
        "version": checkpoint.sha256[:12],
    }


def _ranges(context: ExportContext, scheme: Scheme, *, planes: bool) -> dict[str, Any]:
    if scheme.packed or not scheme.needs_calibration or context.conditioned is None:
        return {}
    ranges = {n: context.conditioned.ranges[n] for n in scheme.static_layers(context.form)}
    if context.file_form.takes == "image" and not planes and "patch_embed" in ranges:
        bytes_of_a_photo = 0.0, float(GREATEST_LEVEL)
        ranges["patch_embed"] = LayerRanges(bytes_of_a_photo, ranges["patch_embed"].output)
    return ranges


def manifest_of(
    context: ExportContext,
    target: Target,
    request: ExportRequest,
    result: Closeness,
    stand_in: str | None,
) -> Manifest:
    checkpoint, scheme = context.checkpoint, request.scheme
    parity: dict[str, Any] = {"runner": stand_in or f"{target.name} runtime"} | asdict(result)
    parity["snr_db"] = None if math.isinf(result.snr_db) else result.snr_db
    parity["held_back"] = context.held_back
    entry = _scheme(context, target, request)
    if target.forms:
        entry["form"] = request.form
    return Manifest(
        schema=SCHEMA,
        artefact=request.output.name,
        sha256=hash_path(request.output),
        size_bytes=size_of(request.output),
        target=target.name,
        backend=request.backend,
        precision=scheme.precision,
        model=checkpoint.name,
        task=checkpoint.config.task,
        config=asdict(checkpoint.config),
        weights=_weights(context),
        input=_input(context, request),
        output=_port(
            request, request.output_name, (context.file_form.photos, *context.reference.shape[1:])
        ),
        preprocessing=checkpoint.preprocess.to_json(),
        labels=list(checkpoint.labels),
        scheme=entry,
        calibration=_calibration(context, target, request),
        parity=parity,
        tools=tool_versions(),
        assumptions=list(checkpoint.assumptions),
        requires=dict(target.least[scheme.precision]),
        mask=None if request.mask is None else _port(request, MASK_NAME, request.mask.shape),
        approximation=None if context.merging is None else context.merging.entry(),
    )


def _weights(context: ExportContext) -> Weights:
    checkpoint = context.checkpoint
    found: Weights = {"source": shareable_source(checkpoint.source), "sha256": checkpoint.sha256}
    if options := context.options.shareable(checkpoint.preprocess).to_json():
        found["options"] = options
    return found


def _input(context: ExportContext, request: ExportRequest) -> Port:
    photos, (height, width) = context.file_form.photos, context.photos.shape[2:]
    if context.file_form.takes == "pixels":
        shape = [photos, 3, height, width]
        return {**_port(request, request.input_name, shape), "layout": "NCHW"}
    port = _port(request, "image", [photos, height, width, 3])
    return {**port, "dtype": "uint8", "layout": "NHWC"}


def _port(request: ExportRequest, name: str, shape: Sequence[int]) -> Port:
    port: Port = {"name": name, "shape": list(shape), "dtype": "float32"}
    if request.dynamic_batch:
        port["free_batch"] = True
    return port


def _calibration(
    context: ExportContext, target: Target, request: ExportRequest
) -> Calibration | None:
    """The photos that the file was made with: its ranges, or its weights, come from them."""
    scheme, found = request.scheme, context.calibration
    if not (scheme.needs_calibration or (scheme.quantized and context.own_photos)):
        return None
    if context.trained is not None and scheme.precision not in target.all_integer:
        return None  # nothing was chosen on photos
    entry: Calibration = {
        "images": len(found),
        "sha256": found.sha256,
        "source": found.source,
        "photo_sha256": sorted(set(found.photo_sha256)),
    }
    if (pinning := context.pinning(scheme)) is not None:
        entry["pinned"] = pinning.pinned
    if doubts := context.doubts(scheme):
        entry["notes"] = doubts
    return entry


def _scheme(context: ExportContext, target: Target, request: ExportRequest) -> SchemeEntry:
    """Which layers are integer, and how they came to be so."""
    scheme, form = request.scheme, context.form
    entry: SchemeEntry = {
        "precision": scheme.precision,
        "keep_float": list(scheme.keep_float),
        "layers": scheme.quantized_layers(form),
        "dynamic": scheme.dynamic_layers(form),
    }
    if floats := scheme.float_input_layers(form):
        entry["float_inputs"] = floats
    if scheme.halved:
        entry["single"] = dict(request.single)
    if scheme.precision in target.half_remainder.get(request.backend, ()):
        entry["half_remainder"] = request.half_remainder
    if scheme.packed:
        entry["seed"] = context.form_seed
        entry["bits"] = {name: one.bits for name, one in request.packed.items()}
        if scheme.grouped:
            entry["groups"] = _groups(request)
    if context.trained is not None and (scheme.quantized or scheme.packed):
        entry["trained"] = True
    if scheme.quantized and context.conditioned is not None:
        entry["seed"] = context.form_seed
        found = context.conditioned
        entry["equalised"] = found.exponents
        if scheme.precision not in target.all_integer:
            assert isinstance(request.model, DeployDeiT)
            entry["token_scaled"] = token_scaled(request.model)
            rounded = target.integer_outputs and request.backend not in target.float_outputs
            entry["ranges"] = {
                name: _recorded(ends, found.methods[name], output=rounded)
                for name, ends in request.ranges.items()
            }
    return entry


def _groups(request: ExportRequest) -> dict[str, int]:
    """Input channels that share a scale, of the layers in few bits."""
    packed = request.packed.items()
    return {n: one.group for n, one in packed if isinstance(one, GroupedWeight) and one.bits < 8}


def _recorded(ends: LayerRanges, methods: Sequence[str], *, output: bool) -> Ranges:
    """What the file has of a layer's ranges: without `output` its results stay float."""
    if output:
        return {"input": ends.input, "output": ends.output, "methods": list(methods)}
    return {"input": ends.input, "methods": list(methods[:1])}
