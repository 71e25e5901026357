"""The process that holds one artefact; `processes` starts it and talks to it, nobody else does.

    python -m harness.worker logits ORIGIN TARGET PATH THREADS PIXELS.npy LOGITS.npy
    python -m harness.worker serve  ORIGIN TARGET PATH THREADS SIDE
    python -m harness.worker peak   THREADS

Answers go to standard output, one JSON value a line. Whatever a runtime prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO

import numpy as np
import torch

from edge_deit.common.errors import EdgeDeitError
from edge_deit.evaluation.worker import serve as answer_requests
from harness.candidates import load

__all__ = ["logits", "main", "peak", "serve"]

_PEAK_SIDES: Final = (256, 512, 768, 1024, 1536, 2048)
_PEAK_SECONDS: Final = 1.0  # spent on each size


def logits(say: TextIO, origin: str, target: str, path: str, threads: str, *files: str) -> None:
    """Run photos (M, 3, H, W) one at a time and save (M, K); say each photo's number when it is done."""
    pixels_file, logits_file = files
    pixels = np.load(pixels_file, mmap_mode="r")
    runner = load(origin, target, Path(path), int(threads))
    outputs = []
    for index in range(len(pixels)):
        outputs.append(runner(np.ascontiguousarray(pixels[index : index + 1])))
        print(index, file=say, flush=True)
    partial = Path(f"{logits_file}.part")
    with partial.open("wb") as stream:
        np.save(stream, np.concatenate(outputs))
    os.replace(partial, logits_file)


def serve(say: TextIO, origin: str, target: str, path: str, threads: str, side: str) -> None:
    """Load, say `ready`, then answer each line `UNTIMED TIMED` with that many timed inferences' ms."""
    runner = load(origin, target, Path(path), int(threads))
    shape = (1, 3, int(side), int(side))
    pixels = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    runner(pixels)
    print(json.dumps("ready"), file=say, flush=True)
    answer_requests(say, runner, pixels)


def peak(say: TextIO, threads: str) -> None:
    """Say the best GFLOP/s of float32 torch.mm, 2 n^3 operations, for each size n."""
    torch.set_num_threads(int(threads))
    found = {}
    for side in _PEAK_SIDES:
        a, b = torch.randn(side, side), torch.randn(side, side)
        result = torch.empty(side, side)
        torch.mm(a, b, out=result)
        best, until = float("inf"), time.perf_counter() + _PEAK_SECONDS
        while time.perf_counter() < until:
            started = time.perf_counter_ns()
            torch.mm(a, b, out=result)
            best = min(best, float(time.perf_counter_ns() - started))
        found[side] = 2 * side**3 / best  # operations a nanosecond are GFLOP/s
    print(json.dumps(found), file=say, flush=True)


_TASKS: Final[dict[str, Callable[..., None]]] = {"logits": logits, "serve": serve, "peak": peak}


def main() -> None:
    """Keep standard output for the answers and do the task."""
    say = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    task, *arguments = sys.argv[1:]
    try:
        _TASKS[task](say, *arguments)
    except EdgeDeitError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
