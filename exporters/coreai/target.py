"""Core AI: what the target is called, what it needs and what it can do.

Neither the converter nor torch is imported before they are needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edge_deit.exporters.coreai.packages import PINS, TORCH
from edge_deit.exporters.coreai.runtime import PRECISIONS, RUNTIME
from edge_deit.exporters.target import ExportRequest, Fine, Target

__all__ = ["TARGET"]


def _export(request: ExportRequest) -> Path:
    from edge_deit.exporters.coreai.export import export

    return export(request)


TARGET: Final = Target(
    runtime=RUNTIME,
    requires={"coreai": "coreai-core", "coreai_torch": TORCH},
    precisions=PRECISIONS,
    backends=("coreai",),
    export=_export,
    least={one: {"ios": "27", "macos": "27"} for one in PRECISIONS},
    pins=PINS,
    fine={"coreai": Fine(2.0, "float")},
    beta=True,
    forms={
        "fp32": "cpu",
        "fp16": "ane",
        "int8": "cpu",
        "palettized-6": "ane",
        "palettized-4": "ane",
    },
    effort=4,
)
