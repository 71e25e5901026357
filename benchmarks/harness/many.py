"""The process that evaluates one artefact on many photos, for scale.py.

    python -m harness.many ARTEFACT DATA THREADS WORKERS JOURNAL

Answers go to standard output, one JSON value a line: a 0 for each photo, then what all of them cost.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np

from edge_deit.artefacts.artefact import read_artefacts
from edge_deit.artefacts.float_model import find_float_models
from edge_deit.artefacts.photos import open_photos
from edge_deit.artefacts.runners import open_runner
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.labels import match_labels
from edge_deit.evaluation.accuracy import EvaluationRequest, evaluate
from edge_deit.exporters import Runner

__all__ = ["main"]

_KIB: Final = 1024


class _Timed:
    """A runner that counts the seconds spent in it."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.seconds = 0.0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        started = time.perf_counter()
        found = self._runner(pixels)
        self.seconds += time.perf_counter() - started
        return found


def _memory_bytes(name: str) -> int:
    """`VmRSS`, or `VmHWM`, the most of it since this program began: getrusage counts its parent's too."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise EdgeDeitError(f"this system does not tell {name} of a process")
    return _KIB * int(found[1])


def main() -> None:
    """Evaluate and say what it cost."""
    say = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    artefact, data, threads, workers, journal = sys.argv[1:]
    try:
        (float_model,) = find_float_models(read_artefacts([Path(artefact)]), None)
        checkpoint = float_model.checkpoint
        with (
            open_photos(Path(data), None, None, [float_model]) as listing,
            open_runner(Path(artefact), int(threads)) as runner,
        ):
            timed = _Timed(runner), _Timed(float_model)
            request = EvaluationRequest(
                photos=match_labels(listing, checkpoint.labels).photos,
                root=listing.root,
                spec=checkpoint.preprocess,
                labels=checkpoint.labels,
                reference=timed[1],
                models={artefact: timed[0]},
                key={},
                journal=Path(journal),
                workers=int(workers),
                strict=True,
            )
            before = _memory_bytes("VmRSS")
            started = time.perf_counter()
            found = evaluate(request, lambda: print(0, file=say, flush=True))
            seconds = time.perf_counter() - started
    except EdgeDeitError as error:
        sys.exit(f"error: {error}")
    cost = {
        "photos": found.images,
        "seconds": seconds,
        "runner_seconds": sum(one.seconds for one in timed),
        "parameters": checkpoint.size_bytes // 4,
        "loaded_bytes": before,
        "peak_bytes": _memory_bytes("VmHWM"),
        "journal_bytes": Path(journal).stat().st_size,
    }
    print(json.dumps(cost), file=say, flush=True)


if __name__ == "__main__":
    main()
