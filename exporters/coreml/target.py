"""Core ML: what the target is called, what it needs and what it can do.

Neither the converter nor torch is imported before they are needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_deit.exporters.coreml.runtime import RUNTIME
from edge_deit.exporters.target import ExportRequest, Fine, Target

if TYPE_CHECKING:
    from edge_deit.model.config import DeiTConfig
    from edge_deit.model.points import LayerReader

__all__ = ["TARGET"]


def _export(request: ExportRequest) -> Path:
    from edge_deit.exporters.coreml.export import export

    return export(request)


def _layer_reader(path: Path, config: DeiTConfig) -> LayerReader:
    from edge_deit.exporters.coreml.layers import layer_reader

    return layer_reader(path, config)


TARGET: Final = Target(
    runtime=RUNTIME,
    requires={"coremltools": "coremltools", "torchao": "torchao"},
    precisions=("fp32", "fp16", "int8", "palettized-6", "palettized-4"),
    backends=("mlprogram",),
    export=_export,
    image_planes=True,
    half_remainder={"mlprogram": ("int8",)},
    fine={"mlprogram": Fine(2.0, "float")},
    least={
        "fp32": {"ios": "15", "macos": "12"},
        "fp16": {"ios": "16", "macos": "13"},
        "int8": {"ios": "17", "macos": "14"},
        "palettized-6": {"ios": "16", "macos": "13"},
        "palettized-4": {"ios": "16", "macos": "13"},
    },
    layer_reader=_layer_reader,
    forms={
        "fp32": "cpu",
        "fp16": "cpu",
        "int8": "cpu",
        "palettized-6": "cpu",
        "palettized-4": "cpu",
    },
    merges=("fp32", "fp16", "int8", "palettized-6", "palettized-4"),
)
