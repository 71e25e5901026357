"""The process that holds one model for `evaluation.latency`.

    python -m edge_deit.evaluation.worker artefact PATH THREADS PIXELS.npy [UNITS]
    python -m edge_deit.evaluation.worker float WEIGHTS THREADS PIXELS.npy [OPTIONS]

OPTIONS is the JSON of `LoadOptions`. Standard output carries one JSON value a line: first what loading
took, then, for each line `UNTIMED TIMED` on standard input, the milliseconds of the timed inferences,
divided by the number of photos in PIXELS.npy: an artefact that takes several at once gets as many.
Whatever a runtime prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO

import numpy as np
import torch

from edge_deit.artefacts.runners import open_runner
from edge_deit.checkpoint.options import LoadOptions
from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters import Runner
from edge_deit.model.outputs import as_runner

__all__ = ["serve"]

_NS_PER_MS: Final = 1e6
_STATUS: Final = Path("/proc/self/status")
_CLEAR: Final = Path("/proc/self/clear_refs")
_RESET_PEAK: Final = "5"  # proc(5), clear_refs


def serve(say: TextIO, model: Runner, pixels: np.ndarray) -> None:
    """Answer each line `UNTIMED TIMED` of standard input with that many timed inferences' milliseconds.

    They are a photo of `pixels` (M, 3, H, W).
    """
    for line in sys.stdin:
        untimed, timed = map(int, line.split())
        for _ in range(untimed):
            model(pixels)
        times = []
        for _ in range(timed):
            started = time.perf_counter_ns()
            model(pixels)
            times.append((time.perf_counter_ns() - started) / _NS_PER_MS / len(pixels))
        print(json.dumps(times), file=say, flush=True)


def _kilobytes(name: str) -> int | None:
    """A value of this process's status, None where the system has no such file."""
    if not _STATUS.is_file():
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    return int(found[1]) if found else None


def _load(
    loader: Callable[[], Runner], pixels: np.ndarray
) -> tuple[Runner, dict[str, float | None]]:
    """A loaded model that has run once, and what that took.

    `peak_rss_bytes` is the most resident memory from loading to the end of the first run, less what the
    process held before. `load_ms` is the time of a second load, when the runtime's library is in memory.
    """
    before = _kilobytes("VmRSS")
    if before is not None:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    model = loader()
    model(pixels)
    peak = _kilobytes("VmHWM")
    del model
    started = time.perf_counter_ns()
    model = loader()
    load_ms = (time.perf_counter_ns() - started) / _NS_PER_MS
    model(pixels)
    taken = None if before is None or peak is None else 1024 * (peak - before)
    return model, {"load_ms": load_ms, "peak_rss_bytes": taken}


def _float_model(weights: str, threads: int, image_size: int, options: str) -> Runner:
    torch.set_num_threads(threads)
    chosen = LoadOptions.from_json(json.loads(options))
    return as_runner(chosen.load(weights, image_size=image_size).model)


def main() -> None:
    """Keep standard output for the answers, load and serve."""
    say = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    kind, path, threads, file, *more = sys.argv[1:]
    pixels = np.load(file)
    try:
        if kind == "float":
            options = more[0] if more else "{}"
            model, taken = _load(
                lambda: _float_model(path, int(threads), pixels.shape[-1], options), pixels
            )
        else:
            unit = more[0] if more else None
            model, taken = _load(
                lambda: open_runner(Path(path), int(threads), unit, isolated=False), pixels
            )
    except EdgeDeitError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(taken), file=say, flush=True)
    serve(say, model, pixels)


if __name__ == "__main__":
    main()
