"""The targets, one literal table; a target's packages are imported only when it is used."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.host import version_of
from edge_deit.exporters.runtime import MASK_NAME, FileRunner, Runner, Runtime
from edge_deit.exporters.target import ExportRequest, Form, Target

if TYPE_CHECKING:  # so that the list of targets costs no torch
    from edge_deit.model.config import DeiTConfig
    from edge_deit.model.points import LayerReader

__all__ = [
    "MASK_NAME",
    "RUNTIMES",
    "TARGETS",
    "ExportRequest",
    "FileRunner",
    "Form",
    "Runner",
    "Runtime",
    "Target",
    "check_units",
    "layer_reader_of",
    "runtime_of",
    "target",
    "tool_versions",
]

TARGETS: Final[dict[str, str]] = {
    "executorch": "edge_deit.exporters.executorch.target",
    "coreml": "edge_deit.exporters.coreml.target",
    "coreai": "edge_deit.exporters.coreai.target",
    "tflite": "edge_deit.exporters.tflite.target",
    "onnx": "edge_deit.exporters.onnx.target",
}
"""Target name -> module whose `TARGET` describes it. They import neither torch nor a converter."""

RUNTIMES: Final[dict[str, str]] = {
    "executorch": "edge_deit.exporters.executorch.runtime",
    "coreml": "edge_deit.exporters.coreml.runtime",
    "coreai": "edge_deit.exporters.coreai.runtime",
    "tflite": "edge_deit.exporters.tflite.runtime",
    "onnx": "edge_deit.exporters.onnx.runtime",
}
"""Target name -> module whose `RUNTIME` describes what runs it. They import neither torch nor a runtime."""


def target(name: str) -> Target:
    """The target called `name`.

    Raises:
        EdgeDeitError: there is no such target; the message lists those there are.
    """
    found = importlib.import_module(_module(TARGETS, name)).TARGET
    assert isinstance(found, Target)
    return found


def runtime_of(name: str, backend: str = "") -> Runtime:
    """What runs the files of the target called `name` here, those for `backend` where it says one.

    Raises:
        EdgeDeitError: as `target`.
    """
    found = importlib.import_module(_module(RUNTIMES, name)).RUNTIME
    assert isinstance(found, Runtime)
    if (enclosed := found.enclosed(backend)) is None:
        return found
    return found.running(enclosed, runtime_of(enclosed.target))


def layer_reader_of(name: str, backend: str) -> Callable[[Path, DeiTConfig], LayerReader] | None:
    """What shows the inside of such files, None where nothing does: the file and its model's shape.

    Raises:
        EdgeDeitError: as `target`.
    """
    if (enclosed := runtime_of(name).enclosed(backend)) is None:
        return target(name).layer_reader
    inner = target(enclosed.target).layer_reader
    assert inner is not None

    def read(path: Path, config: DeiTConfig) -> LayerReader:
        with enclosed.unpacked(path) as file:
            runtime_of(enclosed.target).check(file)
            found = inner(file, config)
        return replace(found, method=f"{file.name} in the {path.suffix}: {found.method}")

    return read


def check_units(units: str) -> None:
    """Refuse a choice of processors that no target's runtime offers.

    Raises:
        EdgeDeitError: it is named, with those that there are.
    """
    known = dict.fromkeys(unit for name in RUNTIMES for unit in runtime_of(name).units)
    if units not in known:
        raise EdgeDeitError(f"unknown units {units!r}; choose one of: {', '.join(known)}")


def _module(table: dict[str, str], name: str) -> str:
    if name not in table:
        raise EdgeDeitError(f"unknown target {name!r}; choose one of: {', '.join(table)}, all")
    return table[name]


def tool_versions() -> dict[str, str]:
    """Versions of Python, of Edge DeiT, of NumPy, of torch and of those converters that are installed."""
    distributions = ["edge-deit", "numpy", "torch"]
    for name in TARGETS:
        distributions += target(name).requires.values()
    found = {name: version_of(name) for name in dict.fromkeys(distributions)}
    return {"python": platform.python_version()} | {n: v for n, v in found.items() if v is not None}
