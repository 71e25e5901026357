"""LiteRT: what the target is called, what it needs and what it can do.

Neither the converter nor torch is imported before they are needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_deit.exporters.target import ExportRequest, Target
from edge_deit.exporters.tflite.runtime import RUNTIME
from edge_deit.exporters.tflite.versions import FLOAT_RUNTIME, GROUPED_RUNTIME, HYBRID_RUNTIME

if TYPE_CHECKING:
    from edge_deit.model.config import DeiTConfig
    from edge_deit.model.points import LayerReader

__all__ = ["TARGET"]


def _export(request: ExportRequest) -> Path:
    from edge_deit.exporters.tflite.export import export

    return export(request)


def _layer_reader(path: Path, config: DeiTConfig) -> LayerReader:
    from edge_deit.exporters.tflite.layers import layer_reader

    return layer_reader(path, config)


TARGET: Final = Target(
    runtime=RUNTIME,
    requires={
        "litert_torch": "litert-torch",
        "ai_edge_litert": "ai-edge-litert",
        "litert_quantizer": "litert-quantizer",
    },
    precisions=("fp32", "fp16", "int8", "int8-dynamic", "int8-full", "int4"),
    backends=("xnnpack",),
    export=_export,
    layer_reader=_layer_reader,
    integer_outputs=True,
    token_ranges=True,
    all_integer=("int8-full",),
    one_photo={"int8-full": "its scales are found by running the graph for one photo; take int8"},
    remarks={"int4": "int4 is small, not fast: 8-bit weights take less time on most processors"},
    int8_dynamic=("patch_embed", "*.proj", "*.fc1", "*.fc2", "head"),
    half_remainder={"xnnpack": ("fp16", "int8", "int8-dynamic")},
    least={
        "fp32": FLOAT_RUNTIME,
        "fp16": FLOAT_RUNTIME,
        "int8": HYBRID_RUNTIME,
        "int8-dynamic": HYBRID_RUNTIME,
        "int8-full": HYBRID_RUNTIME,
        "int4": GROUPED_RUNTIME,
    },
    effort=2,
    merges={"xnnpack": ("fp32", "int8", "int8-dynamic")},
)
