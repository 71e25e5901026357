"""Starts the processes that hold one artefact each, and talks to them over pipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from edge_deit.evaluation.latency import JsonProcess, Served
from harness.candidates import Candidate

__all__ = ["measure_peak", "run_logits", "serve"]

_FOLDER: Final = Path(__file__).parents[1]
_WORKER: Final = ("-m", "harness.worker")


def serve(artefact: Candidate, threads: int, image_size: int) -> Served:
    """A process in which the artefact stays loaded and runs when it is told to."""
    place = (artefact.origin, artefact.target, artefact.path)
    return Served(artefact.name, threads, (*_WORKER, "serve", *place, threads, image_size), _FOLDER)


def run_logits(
    artefact: Candidate,
    threads: int,
    pixels: Path,
    logits: Path,
    photos: int,
    on_photo: Callable[[], None],
) -> None:
    """Run the artefact in its own process on (M, 3, H, W) of a .npy file; logits (M, K) go to another."""
    place = (artefact.origin, artefact.target, artefact.path)
    arguments = (*_WORKER, "logits", *place, threads, pixels, logits)
    with JsonProcess(artefact.name, threads, arguments, _FOLDER) as worker:
        for _ in range(photos):
            worker.answer()
            on_photo()
        worker.finish()


def measure_peak(threads: int) -> dict[int, float]:
    """GFLOP/s that torch.mm reaches in float32, by matrix side."""
    with JsonProcess("torch.mm", threads, (*_WORKER, "peak", threads), _FOLDER) as worker:
        return {int(side): float(value) for side, value in worker.answer().items()}
