"""Runs inside the Arm Python: one artefact on its own runtime, some pixels, logits into a file.

    python3.11 inner.py RUNTIME ARTEFACT PIXELS.npy RUNS LOGITS.npy

RUNTIME is the target's name; PIXELS holds what the file takes, (M, 3, H, W) float32 or (M, H, W, 3) uint8.
The first inference is not counted, as
runtimes do part of their set-up in it. RUNS inferences follow the photos in order, again from the first
when they end; a mark stands in front of each counted one and another behind it, and Python collects no
garbage in between. LOGITS gets what the file returns, (M, K) float32.
Standard output carries the runtime's name and version, then a line for each inference that has ended.

Nothing of this package is imported here: the Arm Python has NumPy and the runtimes only.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.metadata
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

__all__ = ["MARK", "main"]

MARK: Final = 0x0ED6ED
"""First argument of a system call `getsid` that marks a place; no process has so large a number."""

_PTE: Final = "pte.so"

Model = Callable[[np.ndarray], Any]


def _mark() -> None:
    """Tell the counter that a counted inference begins or has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.getsid(MARK)


def _tflite(path: Path) -> tuple[str, Model]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    (result,) = interpreter.get_output_details()

    def run(pixels: np.ndarray) -> Any:
        interpreter.set_tensor(source["index"], _integers(pixels, source))
        interpreter.invoke()
        return _reals(interpreter.get_tensor(result["index"]), result)

    return f"LiteRT {importlib.metadata.version('ai-edge-litert')}", run


def _onnx(path: Path) -> tuple[str, Model]:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()

    def run(pixels: np.ndarray) -> Any:
        return session.run(None, {source.name: pixels})[0]

    return f"ONNX Runtime {onnxruntime.__version__}", run


def _integers(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """What an int8 end of a LiteRT file takes; a float end takes the values as they are."""
    if tensor["dtype"] != np.int8:
        return values
    scale, zero = tensor["quantization"]
    limits = np.iinfo(np.int8)
    levels = np.clip(np.round(values / scale) + zero, limits.min, limits.max)
    return np.asarray(levels, np.int8)


def _reals(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """The inverse of `_integers`."""
    if tensor["dtype"] != np.int8:
        return values
    scale, zero = tensor["quantization"]
    return np.asarray((values.astype(np.float32) - zero) * scale, np.float32)


def _executorch(path: Path) -> tuple[str, Model]:
    """Through our C functions (pte.cpp), which lie on PYTHONPATH beside the runtime."""
    (folder,) = (Path(entry) for entry in sys.path if (Path(entry) / _PTE).is_file())
    library = ctypes.CDLL(str(folder / _PTE))
    library.pte_open.restype = ctypes.c_void_p
    library.pte_outputs.restype = ctypes.c_int64
    module = ctypes.c_void_p(library.pte_open(os.fsencode(path)))
    if not module or (outputs := library.pte_outputs(module)) < 0:
        sys.exit("ExecuTorch refuses the file")

    def run(pixels: np.ndarray) -> Any:
        logits = np.zeros((1, outputs), np.float32)
        source, result = (ctypes.c_void_p(values.ctypes.data) for values in (pixels, logits))
        sizes = (ctypes.c_int32 * pixels.ndim)(*pixels.shape)
        if (code := library.pte_run(module, source, pixels.dtype == np.uint8, sizes, result)) != 0:
            sys.exit(f"ExecuTorch's error {code}")
        return logits

    return f"ExecuTorch {importlib.metadata.version('executorch')}", run


_LOADERS: Final[dict[str, Callable[[Path], tuple[str, Model]]]] = {
    "tflite": _tflite,
    "executorch": _executorch,
    "onnx": _onnx,
}


def main(runtime: str, artefact: str, pixels: str, runs: str, logits: str) -> None:
    """Load, run and write."""
    photos = np.load(pixels)
    name, model = _LOADERS[runtime](Path(artefact))
    print(name, flush=True)
    found = [np.array(model(photos[:1]), np.float32)]  # (1, K)
    print("not counted", flush=True)
    gc.disable()
    for run in range(1, int(runs) + 1):
        place = run % len(photos)
        photo = photos[place : place + 1]
        _mark()
        result = model(photo)
        _mark()
        found.append(np.array(result, np.float32))
        print("counted", flush=True)
    np.save(logits, np.concatenate(found)[: len(photos)])


if __name__ == "__main__":
    main(*sys.argv[1:])
