"""The form that a file with lookup tables computes, and its tables."""

from __future__ import annotations

import copy
import json
import threading
from typing import Final

from torch import Tensor

from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.kept import kept
from edge_deit.model.file_form import read_grey_levels
from edge_deit.model.form import DeployDeiT
from edge_deit.quantization.packed import PackedWeight, TableWeight
from edge_deit.quantization.palette import Palette, passes, see
from edge_deit.quantization.scheme import Scheme

__all__ = ["pack_tables"]

_LOCK: Final = threading.Lock()
"""Files are made side by side, and all have the same tables."""


def pack_tables(
    context: ExportContext, scheme: Scheme
) -> tuple[DeployDeiT, dict[str, PackedWeight]]:
    """The form whose tables they are, not changed, and the tables of the scheme's layers."""
    with _LOCK:
        if scheme not in context.tables:
            context.tables[scheme] = dict(_tables(context, scheme))
        return _form(context), context.tables[scheme]


def _tables(context: ExportContext, scheme: Scheme) -> dict[str, TableWeight]:
    layers = scheme.quantized_layers(context.form)

    def make() -> tuple[dict[str, Tensor], str]:
        palette = _palette(context)
        photos = passes(len(palette.photos)) - len(palette.photos)
        with context.progress.task("tables", photos) as advance:
            made = palette.choose(
                scheme.precision, layers, scheme.eight, on_photo=lambda: advance(1)
            )
        tensors = {f"indices.{name}": one.indices for name, one in made.items()}
        tensors |= {f"tables.{name}": one.tables for name, one in made.items()}
        return tensors, json.dumps({name: one.bits for name, one in made.items()})

    what = f"{scheme.precision} {sorted(layers)} {sorted(scheme.eight)}"
    tensors, bits = kept(context, "lookup tables", what, make)
    return {
        name: TableWeight(count, tensors[f"indices.{name}"], tensors[f"tables.{name}"])
        for name, count in json.loads(bits).items()
    }


def _form(context: ExportContext) -> DeployDeiT:
    """The form whose weights the tables replace: it reads grey levels."""
    if context.palette:
        return context.palette[0].form
    form, spec = copy.deepcopy(context.form), context.checkpoint.preprocess
    read_grey_levels(form, spec.mean, spec.std)
    return form


def _palette(context: ExportContext) -> Palette:
    """What the calibration photos show."""
    if not context.palette:
        form, photos = _form(context), list(context.calibration)
        with context.progress.task("importance of weights", len(photos)) as advance:
            found = see(form, photos, seed=context.seed, on_photo=lambda: advance(1))
        context.palette.append(found)
    return context.palette[0]
