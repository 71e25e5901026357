#!/usr/bin/env python3
"""Load time and peak memory of files, each opened by its runtime with default options, in turns.

    python benchmarks/footprint.py OURS STOCK [OURS STOCK ...]

Each file is opened in a process of its own, which loads it and runs one photo. Load time is processor time.
What the runtime's own import takes is not counted, in either figure.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from edge_deit.common.console import new_app, run
from edge_deit.common.errors import EdgeDeitError
from tables.grid import Grid, show

__all__ = ["footprint"]

app = new_app(__doc__)

_ALONE: Final = "--measure"  # how this script calls itself
_SHAPE: Final = (1, 3, 224, 224)
_KIB: Final = 1024
_LEAST_ROUNDS: Final = 5


@app.command()
def footprint(
    files: Annotated[list[Path], typer.Argument(help="Pairs: ours, then the stock file.")],
    rounds: Annotated[int, typer.Option(help="Processes a file.")] = 15,
) -> None:
    """Medians, and the ratio of each first file to its second."""
    if len(files) % 2 or rounds < _LEAST_ROUNDS:
        raise EdgeDeitError(f"name pairs of files, and --rounds of {_LEAST_ROUNDS} or more")
    if missing := [path for path in files if not path.is_file()]:
        raise EdgeDeitError(
            f"{missing[0]} does not exist; make it with export or benchmarks/stock.py"
        )
    found: dict[Path, list[dict[str, float]]] = {path: [] for path in files}
    for _ in range(rounds):
        for path in found:
            found[path].append(_alone(path))
    rows = []
    for ours, stock in zip(files[::2], files[1::2], strict=True):
        cells = [ours.name, stock.name]
        for key in ("load_ms", "peak_mb"):
            first, second = (
                float(np.median([one[key] for one in found[p]])) for p in (ours, stock)
            )
            cells += [f"{first:.0f}", f"{second:.0f}", f"{first / second:.2f}"]
        rows.append(tuple(cells))
    heads = ("ours", "stock", "load, ms", "stock's", "ratio", "peak, MB", "stock's", "ratio")
    show(
        Grid("load time and peak memory", heads, tuple(rows), (f"medians of {rounds}, one thread",))
    )


def _alone(path: Path) -> dict[str, float]:
    """Measure a file in a process of its own.

    Raises:
        EdgeDeitError: its runtime refused it.
    """
    command = [sys.executable, __file__, _ALONE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EdgeDeitError(f"{path} could not be opened: {done.stderr.strip()[-200:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _measure(path: Path) -> None:
    """Say the processor time of loading and of the first inference, and the memory that both added."""
    loader = {".onnx": _onnx, ".tflite": _litert, ".pte": _executorch}[path.suffix]
    start = loader()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    infer = start(path)
    loaded = time.process_time()
    infer()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"load_ms": (loaded - started) * 1e3, "peak_mb": (peak - before) / _KIB}))


def _onnx() -> Any:
    import onnxruntime

    def start(path: Path) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (source,) = session.get_inputs()
        return lambda: session.run(None, {source.name: np.zeros(_SHAPE, np.float32)})

    return start


def _litert() -> Any:
    from ai_edge_litert.interpreter import Interpreter

    def start(path: Path) -> Any:
        interpreter = Interpreter(str(path), num_threads=1)
        interpreter.allocate_tensors()
        (source,) = interpreter.get_input_details()
        interpreter.set_tensor(source["index"], np.zeros(_SHAPE, source["dtype"]))
        return interpreter.invoke

    return start


def _executorch() -> Any:
    import torch
    from executorch.runtime import Runtime

    runtime = Runtime.get()

    def start(path: Path) -> Any:
        method = runtime.load_program(path).load_method("forward")
        return lambda: method.execute([torch.zeros(_SHAPE)])

    return start


if __name__ == "__main__":
    if sys.argv[1:2] == [_ALONE]:
        _measure(Path(sys.argv[2]))
    else:
        run(app, "python benchmarks/footprint.py")
