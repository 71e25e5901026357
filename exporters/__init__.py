"""The targets, one literal table; a target's packages are imported only when it is used."""

from __future__ import annotations

import importlib
import platform
from typing import Final

from edge_deit.common.errors import EdgeDeitError
from exporters.target import ExportRequest, Runner, Target

__all__ = ["TARGETS", "ExportRequest", "Runner", "Target", "target"]

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


_PACKAGES: Final = (
    "torch",
    "executorch",
    "torchao",
    "coremltools",
    "litert-torch",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "onnx",
    "onnxruntime",
    "onnxscript",
)


def tool_versions() -> dict[str, str]:
    """Versions of Python and of those converters that are installed."""
    versions = {"python": platform.python_version(), "edge-deit": _version("edge-deit")}
    versions |= {name: _version(name) for name in _PACKAGES}
    return {name: version for name, version in versions.items() if version}


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
