"""Runs stock files as their user would: the runtime's defaults, but for the number of threads.

Two things differ from `exporters`' runners. ONNX Runtime gets its default session, except that its threads
stop to spin when a call ends, as for ours, since that slows whatever runs next. A LiteRT file whose ends
are int8 gets its input quantized and its output dequantized here; the interpreter's own figures are taken
for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import toolchains.coreml as stock_coreml
from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters import Runner
from edge_deit.exporters import target as find_target

__all__ = ["load_stock"]


def load_stock(target: str, path: Path, threads: int) -> Runner:
    """Load a stock file.

    Raises:
        EdgeDeitError: the file is missing or unusable, or the runtime is absent.
    """
    if not path.exists():
        raise EdgeDeitError(f"{path} does not exist; make it with benchmarks/stock.py")
    if target == "onnx":
        return _load_onnx(path, threads)
    if target == "tflite":
        return _load_litert(path, threads)
    if target == "coreml" and find_target(target).runs_on() is not None:
        return stock_coreml.load(path, threads)
    return find_target(target).load_runner(path, threads)


def _load_onnx(path: Path, threads: int) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return _OnnxRunner(session, session.get_inputs()[0].name)


@dataclass(frozen=True)
class _OnnxRunner:
    session: Any
    input_name: str

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        (result,) = self.session.run(None, {self.input_name: pixels})
        return np.asarray(result, dtype=np.float32)


def _load_litert(path: Path, threads: int) -> Runner:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    return _LiteRTRunner(interpreter, source, result)


@dataclass(frozen=True)
class _LiteRTRunner:
    interpreter: Any
    source: dict[str, Any]
    result: dict[str, Any]

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        self.interpreter.set_tensor(self.source["index"], _to_integer(pixels, self.source))
        self.interpreter.invoke()
        return _to_float(self.interpreter.get_tensor(self.result["index"]), self.result)


def _to_integer(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """clip(round(x / scale) + zero point) in the tensor's integer type; floats pass unchanged."""
    if detail["dtype"] == np.float32:
        return np.ascontiguousarray(values, np.float32)
    scale, zero_point = detail["quantization"]
    limits = np.iinfo(detail["dtype"])
    steps = np.rint(values / np.float32(scale)) + zero_point
    return np.asarray(np.clip(steps, limits.min, limits.max), dtype=detail["dtype"])


def _to_float(values: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    """(q - zero point) scale; floats pass unchanged."""
    if detail["dtype"] == np.float32:
        return np.array(values, dtype=np.float32)
    scale, zero_point = detail["quantization"]
    return np.asarray((values.astype(np.float32) - zero_point) * scale, dtype=np.float32)
