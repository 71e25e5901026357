"""The targets, one literal table; a target's packages are imported only when it is used."""

from __future__ import annotations

import importlib
import platform
from typing import Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.host import version_of
from exporters.target import ExportRequest, Runner, Target

__all__ = ["TARGETS", "ExportRequest", "Runner", "Target", "target", "tool_versions"]

TARGETS: Final[dict[str, str]] = {
    "executorch": "exporters.executorch",
    "coreml": "exporters.coreml",
    "tflite": "exporters.tflite",
    "onnx": "exporters.onnx",
}
"""Target name -> module whose `TARGET` describes it. The modules import no heavy package at the top."""


def target(name: str) -> Target:
    """The target called `name`.

    Raises:
        EdgeDeitError: there is no such target; the message lists those there are.
    """
    if name not in TARGETS:
        raise EdgeDeitError(f"unknown target {name!r}; choose one of: {', '.join(TARGETS)}, all")
    found = importlib.import_module(TARGETS[name]).TARGET
    assert isinstance(found, Target)
    return found


def tool_versions() -> dict[str, str]:
    """Versions of Python, of Edge DeiT, of NumPy, of torch and of those converters that are installed."""
    distributions = ["edge-deit", "numpy", "torch"]
    for name in TARGETS:
        distributions += target(name).requires.values()
    found = {name: version_of(name) for name in dict.fromkeys(distributions)}
    return {"python": platform.python_version()} | {n: v for n, v in found.items() if v is not None}
