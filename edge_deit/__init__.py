"""Edge DeiT: a trained DeiT becomes the files a phone runs, and each file is checked.

The names of `__all__` are imported when they are first used, so `import edge_deit` costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from edge_deit.artefacts.classifier import Classifier
    from edge_deit.checkpoint.load import Checkpoint, load_model
    from edge_deit.common.errors import EdgeDeitError
    from edge_deit.common.progress import SILENT, Progress
    from edge_deit.conversion.run import ExportResult, export_model
    from edge_deit.evaluation.run import validate_artefacts
    from edge_deit.gating.run import gate_report
    from edge_deit.model.config import VARIANTS, DeiTConfig
    from edge_deit.model.deit import DeiT
    from edge_deit.report.report import Report
    from edge_deit.report.verdict import Verdict

__all__ = [
    "SILENT",
    "VARIANTS",
    "Checkpoint",
    "Classifier",
    "DeiT",
    "DeiTConfig",
    "EdgeDeitError",
    "ExportResult",
    "Progress",
    "Report",
    "Verdict",
    "__version__",
    "export_model",
    "gate_report",
    "load_model",
    "validate_artefacts",
]

__version__ = "0.1.0"

_HOMES: Final = {
    "artefacts.classifier": ("Classifier",),
    "checkpoint.load": ("Checkpoint", "load_model"),
    "common.errors": ("EdgeDeitError",),
    "common.progress": ("SILENT", "Progress"),
    "conversion.run": ("ExportResult", "export_model"),
    "evaluation.run": ("validate_artefacts",),
    "gating.run": ("gate_report",),
    "model.config": ("VARIANTS", "DeiTConfig"),
    "model.deit": ("DeiT",),
    "report.report": ("Report",),
    "report.verdict": ("Verdict",),
}

_BROUGHT: Final = dict.fromkeys(("torch", "safetensors", "scipy"), "edge-deit[torch]")
"""What a runtime-only installation lacks -> what brings it."""


if sys.argv[:1] == ["-m"] or (sys.argv[:1] and sys.argv[0].endswith("edge-deit")):
    # a command of ours is about to be imported, and nothing else runs in this process
    from edge_deit.common.interrupt import say_interrupts

    say_interrupts()


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            try:
                return getattr(importlib.import_module(f"{__name__}.{home}"), name)
            except ModuleNotFoundError as error:
                remedy = _BROUGHT.get(str(error.name).partition(".")[0])
                if remedy is None:
                    raise
                said = f"{__name__}.{name} needs {error.name}: pip install '{remedy}'"
                raise ModuleNotFoundError(said, name=error.name) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
