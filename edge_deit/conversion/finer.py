"""Layers of an int8 file whose activations are finer, as rounding them would cost the most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.plan import Item
from edge_deit.quantization.ranges import read_together
from edge_deit.quantization.scheme import Scheme

__all__ = ["with_finer_layers"]


def with_finer_layers(context: ExportContext, item: Item) -> Item:
    """The item, its `int8` scheme with the layers finer that carry most of the predicted noise.

    How many follows from `Target.fine`; the noise is what conditioning predicts on the calibration photos.
    """
    target, scheme, backend = item
    if scheme.precision != "int8" or (fine := target.fine.get(backend)) is None:
        return item
    assert context.conditioned is not None
    outputs = target.integer_outputs and backend not in target.float_outputs
    noise = _noise(context.conditioned.noise, outputs=outputs)
    limit = fine.times * sum(noise.values()) / max(1, len(noise))
    fixed = _choosable(context, scheme, fine.way)
    found = tuple(name for name in fixed if noise[read_together(name)] > limit)
    if fine.way == "float":
        return target, replace(scheme, float_inputs=found), backend
    return target, replace(scheme, dynamic=(*scheme.dynamic, *found)), backend


def _choosable(context: ExportContext, scheme: Scheme, way: str) -> list[str]:
    """Layers with fixed ranges; a convolution finds its own only in pixels of one photo."""
    file_form, form = context.file_form, context.form
    plain = file_form.takes == "pixels" and file_form.photos == 1 and not context.layout.batched
    return [
        name
        for name in scheme.static_layers(form)
        if way == "float" or plain or not isinstance(form.get_submodule(name), nn.Conv2d)
    ]


def _noise(layers: Mapping[str, tuple[float, float]], *, outputs: bool) -> dict[str, float]:
    """Shares of the output's power, what is rounded once counted once."""
    inputs: dict[str, float] = {}
    results: dict[str, float] = {}
    for name, (of_input, of_output) in layers.items():
        unit = read_together(name)
        inputs[unit] = max(inputs.get(unit, 0.0), of_input)
        results[unit] = results.get(unit, 0.0) + of_output
    return {unit: inputs[unit] + (results[unit] if outputs else 0.0) for unit in inputs}
