"""The form that a file with lookup tables computes, and its tables."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import torch

from edge_deit.conversion.context import ExportContext
from edge_deit.model.file_form import GREATEST_LEVEL, read_grey_levels
from edge_deit.model.form import DeployDeiT
from edge_deit.quantization.packed import PackedWeight, TableWeight
from edge_deit.quantization.palette import Palette, passes, see
from edge_deit.quantization.scheme import Scheme

__all__ = ["pack_tables", "reading_bytes", "with_packed"]

_LOCK: Final = threading.Lock()
"""Files are made side by side, and all have the same tables."""


def pack_tables(
    context: ExportContext, scheme: Scheme
) -> tuple[DeployDeiT, dict[str, PackedWeight]]:
    """The form whose tables they are, not changed, and the tables of the scheme's layers."""
    layers = scheme.quantized_layers(context.form)
    with _LOCK:
        palette = _palette(context)
        if scheme not in context.tables:
            photos = passes(len(palette.photos)) - len(palette.photos)
            with context.progress.task("tables", photos) as advance:
                made = palette.choose(
                    scheme.precision, layers, scheme.eight, on_photo=lambda: advance(1)
                )
            context.tables[scheme] = dict(made)
        return palette.form, context.tables[scheme]


def _palette(context: ExportContext) -> Palette:
    """What the calibration photos show."""
    if not context.palette:
        form, spec = copy.deepcopy(context.form), context.checkpoint.preprocess
        read_grey_levels(form, spec.mean, spec.std)
        photos = list(context.calibration)
        with context.progress.task("importance of weights", len(photos)) as advance:
            found = see(form, photos, seed=context.seed, on_photo=lambda: advance(1))
        context.palette.append(found)
    return context.palette[0]


def with_packed(form: DeployDeiT, packed: Mapping[str, PackedWeight]) -> DeployDeiT:
    """A copy of `form` whose weights are exactly those of `packed`."""
    made = copy.deepcopy(form)
    with torch.no_grad():
        for name, found in packed.items():
            weight = made.get_submodule(name).get_parameter("weight")
            weight.copy_(found.weight().reshape(weight.shape))
    return made


def reading_bytes(packed: dict[str, PackedWeight]) -> dict[str, PackedWeight]:
    """The same where the patch embedding reads grey levels from 0 to 255."""
    embed = packed.get("patch_embed")
    if not isinstance(embed, TableWeight):
        return packed
    tables = (embed.tables.double() / GREATEST_LEVEL).float()
    return packed | {"patch_embed": replace(embed, tables=tables)}
