"""LiteRT: a `.tflite` file in its interpreter, XNNPACK included."""

from __future__ import annotations

import importlib
import importlib.util
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.exporters.runtime import FileRunner, Runtime, contiguous, in_order
from edge_deit.exporters.tflite.file import verify

__all__ = ["RUNTIME", "load_runner", "open_interpreter", "runs_on"]


def load_runner(path: Path, threads: int) -> FileRunner:
    """Load a file into the interpreter, XNNPACK included.

    Raises:
        EdgeDeitError: the file is missing, cut short, no `.tflite`, or the interpreter refuses it.
    """
    interpreter = open_interpreter(path, threads)
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(outputs) != 1:
        raise EdgeDeitError(f"{path} has not one input and one output; export it again")
    places = in_order([str(one["name"]) for one in inputs], path)
    sources = tuple(int(inputs[place]["index"]) for place in places)
    return _LiteRTRunner(interpreter, sources, int(outputs[0]["index"]))


def runs_on() -> str | None:
    """None when an interpreter is installed, otherwise why the file cannot be run here."""
    if _interpreter_module() is None:
        return "LiteRT's interpreter is not installed: pip install 'edge-deit[runtime]'"
    return None


def open_interpreter(path: Path, threads: int) -> Any:
    """An interpreter with its tensors allocated.

    Raises:
        EdgeDeitError: as `load_runner`.
    """
    module = _interpreter_module()
    if module is None:
        raise EdgeDeitError(str(runs_on()))
    verify(path)
    interpreter_class = importlib.import_module(module).Interpreter
    try:
        interpreter = interpreter_class(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except Exception as error:  # the binding raises whatever class comes to hand
        raise EdgeDeitError(
            f"{path} is not a usable .tflite file: {first_line(error)}; export it again"
        ) from error
    return interpreter


def _interpreter_module() -> str | None:
    """The interpreter there is: LiteRT's, or the older tflite-runtime found on small devices."""
    for package in ("ai_edge_litert", "tflite_runtime"):
        if importlib.util.find_spec(package) is not None:
            return f"{package}.interpreter"
    return None


@dataclass(frozen=True)
class _LiteRTRunner:
    """An interpreter and its tensors' numbers; it holds one photo, so threads take turns."""

    interpreter: Any
    sources: tuple[int, ...]
    result: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, pixels: np.ndarray, *more: np.ndarray) -> np.ndarray:
        with self.lock:
            for source, values in zip(self.sources, (pixels, *more), strict=True):
                self.interpreter.set_tensor(source, contiguous(values))
            self.interpreter.invoke()
            return np.array(self.interpreter.get_tensor(self.result))


RUNTIME: Final = Runtime(
    name="tflite",
    label="LiteRT",
    suffix=".tflite",
    extra="tflite",
    alone="runtime",
    older="tflite_runtime",
    modules=("ai_edge_litert.interpreter", "ai_edge_litert.schema_py_generated"),
    load=lambda path, threads, units: load_runner(path, threads),
    runs_on=runs_on,
)
