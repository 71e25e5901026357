"""ONNX: what the target is called, what it needs and what it can do.

Neither the converter nor torch is imported before they are needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_deit.exporters.onnx.runtime import RUNTIME
from edge_deit.exporters.target import ExportRequest, Fine, Target
from edge_deit.quantization.scheme import Precision

if TYPE_CHECKING:
    from edge_deit.model.config import DeiTConfig
    from edge_deit.model.points import LayerReader

__all__ = ["TARGET"]

_PRECISIONS: Final[tuple[Precision, ...]] = ("fp32", "fp16", "int8", "int8-dynamic", "int4")


def _export(request: ExportRequest) -> Path:
    from edge_deit.exporters.onnx.export import export

    return export(request)


def _layer_reader(path: Path, config: DeiTConfig) -> LayerReader:
    from edge_deit.exporters.onnx.layers import layer_reader

    return layer_reader(path, config)


TARGET: Final = Target(
    runtime=RUNTIME,
    requires={"onnx": "onnx", "onnxruntime": "onnxruntime", "onnxscript": "onnxscript"},
    precisions=_PRECISIONS,
    backends=("cpu",),
    export=_export,
    least={one: {"onnxruntime": "1.17"} for one in _PRECISIONS}  # the first with opset 20
    | {"int4": {"onnxruntime": "1.32"}},  # what was tried with weights in blocks
    batched=("fp32", "fp16", "int8"),
    one_photo={
        "int8-dynamic": "ONNX Runtime would find one range for all photos at once, so that each changes "
        "the answers of the others; take int8"
    },
    layer_reader=_layer_reader,
    in_pairs=True,
    fine={"cpu": Fine(5.0, "float")},
    single=("norm", "*.norm1", "*.norm2"),  # the fused norm is there in float32 alone
    remarks={
        "fp16": "fp16 of onnx is smaller, not faster, on ONNX Runtime's CPU",
        "int4": "int4 is small, not fast: 8-bit weights take less time on most processors",
    },
    merges={"cpu": ("fp32", "int8")},
)
