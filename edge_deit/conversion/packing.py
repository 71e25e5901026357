"""Weights in few bits: the form that a file computes, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.grouped import pack_groups
from edge_deit.conversion.tables import pack_tables
from edge_deit.model.file_form import GREATEST_LEVEL
from edge_deit.model.form import DeployDeiT
from edge_deit.quantization.packed import PackedWeight, TableWeight
from edge_deit.quantization.scheme import Scheme

__all__ = ["pack", "reading_bytes"]

_EMBEDDING: Final = "patch_embed"


def pack(context: ExportContext, scheme: Scheme) -> tuple[DeployDeiT, dict[str, PackedWeight]]:
    """The form, perhaps with exact weights still, and the packed weights of the scheme's layers."""
    if scheme.tabled:
        return pack_tables(context, scheme)
    form, packed = pack_groups(context, scheme)
    return form, dict(packed)


def reading_bytes(packed: Mapping[str, PackedWeight]) -> dict[str, PackedWeight]:
    """The same where the patch embedding reads grey levels from 0 to 255."""
    found = dict(packed)
    embed = found.get(_EMBEDDING)
    if isinstance(embed, TableWeight):
        found[_EMBEDDING] = replace(embed, tables=(embed.tables.double() / GREATEST_LEVEL).float())
    elif embed is not None:
        found[_EMBEDDING] = replace(embed, scales=(embed.scales.double() / GREATEST_LEVEL).float())
    return found
