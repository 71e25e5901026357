"""ExecuTorch: what the target is called, what it needs and what it can do.

Neither the converter nor torch is imported before they are needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_deit.common.host import version_of
from edge_deit.exporters.executorch.runtime import BACKENDS, RUNTIME
from edge_deit.exporters.target import ExportRequest, Fine, Target
from edge_deit.quantization.scheme import Precision

if TYPE_CHECKING:
    from edge_deit.model.config import DeiTConfig
    from edge_deit.model.points import LayerReader

__all__ = ["TARGET"]

_PRECISIONS: Final[tuple[Precision, ...]] = ("fp32", "fp16", "int8", "int8-dynamic", "int4")


def _export(request: ExportRequest) -> Path:
    from edge_deit.exporters.executorch.export import export

    return export(request)


def _layer_reader(path: Path, config: DeiTConfig) -> LayerReader:
    from edge_deit.exporters.executorch.layers import layer_reader

    return layer_reader(path, config)


TARGET: Final = Target(
    runtime=RUNTIME,
    requires={"executorch": "executorch", "torchao": "torchao"},
    precisions=_PRECISIONS,
    backends=BACKENDS,
    export=_export,
    least={one: {"executorch": version_of("executorch") or "1.5.1"} for one in _PRECISIONS},
    layer_reader=_layer_reader,
    remarks={
        "fp16": "fp16 of executorch is smaller, not faster: weights are widened when loaded",
        "int4": "int4 is small, not fast: 8-bit weights take less time on most processors",
    },
    half_remainder={"coreml": ("int8",)},
    integer_outputs=True,
    float_outputs=("coreml",),
    fine={"xnnpack": Fine(1.25, "dynamic"), "coreml": Fine(2.0, "float")},
    token_ranges=True,
    effort=5,
    merges={"xnnpack": ("fp32", "int8")},
    pixels_only={
        "coreml": "Core ML's delegate takes no bytes; leave --input out, or take --target coreml"
    },
)
