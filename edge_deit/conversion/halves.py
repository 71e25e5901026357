"""Which parts of a file half precision can compute: found on the calibration photos, before it is made."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from edge_deit.artefacts.manifest import Manifest
from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.masks import masks_for
from edge_deit.data.listing import pick_evenly
from edge_deit.data.preprocess import bytes_of
from edge_deit.exporters import Target
from edge_deit.exporters import target as find_target
from edge_deit.model.file_form import GREATEST_LEVEL
from edge_deit.model.form import DeployDeiT
from edge_deit.model.mixed import MODEL
from edge_deit.quantization.half import INTEGER_LEAST_DB, LEAST_DB, beyond_half
from edge_deit.quantization.scheme import Scheme

__all__ = ["float_notes", "halves_of"]

_ALWAYS: Final = "squares of other photos may leave the range"
_SHOWN: Final = 4
_MOST_PHOTOS: Final = 16
_LOCK: Final = threading.Lock()
"""Files are made side by side, and several ask the same."""


def halves_of(
    context: ExportContext, target: Target, scheme: Scheme, backend: str, model: DeployDeiT
) -> tuple[Mapping[str, str], bool]:
    """Layers of an `fp16` file that stay float32, with why; whether what is float may be in half precision.

    `model` is what the file will compute.
    """
    may_halve = scheme.precision in target.half_remainder.get(backend, ())
    may_halve = may_halve and context.merging is None  # XNNPACK refuses such a graph in half
    if not scheme.halved:
        return {}, may_halve and not _beyond(context, scheme, model)
    found = _beyond(context, scheme, model)
    always = dict.fromkeys(target.single_layers(model), _ALWAYS)
    return {**always, **found}, may_halve and not found


def float_notes(context: ExportContext, manifests: Sequence[Manifest]) -> list[str]:
    """What is to be known about float files: which layers of `fp16` stay float32, and targets' remarks."""
    lines = []
    if not context.own_photos and any(one.precision == "fp16" for one in manifests):
        lines.append(
            "fp16: half precision's range was checked on the bundled photos, which are not like those that "
            "these weights will see: give --calibration DIR"
        )
    for one in manifests:
        target = find_target(one.target)
        single = one.scheme.get("single") or {}
        if chosen := {name: why for name, why in single.items() if why != _ALWAYS}:
            lines.append(_single_note(one, chosen))
        if one.backend == target.backends[0]:
            lines += [text for name, text in target.remarks.items() if name == one.precision]
    return lines


def _single_note(manifest: Manifest, single: Mapping[str, str]) -> str:
    shown = ", ".join(f"{name} ({why})" for name, why in list(single.items())[:_SHOWN])
    more = f" and {len(single) - _SHOWN} more, see the manifest" if len(single) > _SHOWN else ""
    whole = ""
    if manifest.scheme.get("half_remainder") is False:
        whole = "; so all of it is computed in float32"
    return f"{manifest.precision} of {manifest.target}: float32 stay {shown}{more}{whole}"


def _beyond(context: ExportContext, scheme: Scheme, model: DeployDeiT) -> dict[str, str]:
    """Layers that are beyond half precision on the calibration photos."""
    if scheme.quantized and not context.own_photos:
        return {MODEL: "no photos were measured"}
    floats = scheme.float_input_layers(model)
    computed = [] if scheme.halved else scheme.quantized_layers(model)
    integer = tuple(name for name in computed if name not in floats)
    planes = model.image is not None and model.image.planes
    key = integer, scheme.dynamic, planes, scheme if scheme.packed else None
    with _LOCK:
        if key not in context.halves:
            photos = _arguments(context, planes=planes)
            own = copy.deepcopy(model)  # it is watched by hooks, and others may be at the model
            with context.progress.task("range of half precision", len(photos)) as advance:
                context.halves[key] = beyond_half(
                    own,
                    photos,
                    integer=integer,
                    least_db=INTEGER_LEAST_DB if scheme.quantized else LEAST_DB,
                    on_photo=lambda: advance(1),
                )
        return context.halves[key]


def _arguments(context: ExportContext, *, planes: bool) -> list[tuple[Tensor, ...]]:
    """What the file's form takes, one tuple a calibration photo, of 16 of them at most."""
    pixels = torch.stack(pick_evenly(list(context.calibration.pixels), _MOST_PHOTOS))
    if context.file_form.takes == "image":
        levels = torch.from_numpy(bytes_of(pixels.numpy(), context.checkpoint.preprocess))
        pixels = levels.permute(0, 3, 1, 2) / GREATEST_LEVEL if planes else levels
    masks = masks_for(context.checkpoint.config, len(pixels), context.seed)
    if masks is None:
        return [(one[None],) for one in pixels]
    return [(one[None], mask[None]) for one, mask in zip(pixels, masks, strict=True)]
