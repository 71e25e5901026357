"""Starts the processes that hold one artefact each, and talks to them over pipes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from artefacts import Artefact

from edge_deit.errors import EdgeDeitError

__all__ = ["Served", "measure_peak", "run_logits"]

_WORKER: Final = Path(__file__).with_name("worker.py")
_STOP_SECONDS: Final = 20
_LAST_LINES: Final = 5


class _Worker:
    """One process; what it prints beside its answers is kept and shown when it fails."""

    def __init__(self, name: str, threads: int, *arguments: object) -> None:
        self._name = name
        self._noise: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 # closed by `close`
        self._process = subprocess.Popen(
            [sys.executable, str(_WORKER), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )

    def tell(self, line: str) -> None:
        """Send one line.

        Raises:
            EdgeDeitError: the process has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._failure() from error

    def answer(self) -> Any:
        """The next answer; waits for it.

        Raises:
            EdgeDeitError: the process ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure()
        return json.loads(line)

    def finish(self) -> None:
        """Wait for the end of a task that ends by itself.

        Raises:
            EdgeDeitError: it failed.
        """
        if self._process.wait() != 0:
            raise self._failure()

    def close(self) -> None:
        """End the process: its input closes, and it is killed if that is not enough."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it may have ended already
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._noise.close()

    def _failure(self) -> EdgeDeitError:
        code = self._process.wait()
        self._noise.seek(0)
        lines = self._noise.read().decode(errors="replace").strip().splitlines()
        last = " | ".join(lines[-_LAST_LINES:]) or "it said nothing"
        return EdgeDeitError(f"{self._name} failed, exit code {code}: {last}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Served(_Worker):
    """An artefact that stays loaded in a process of its own and runs when it is told to."""

    def __init__(self, artefact: Artefact, threads: int, image_size: int) -> None:
        place = (artefact.origin, artefact.target, artefact.path)
        super().__init__(artefact.name, threads, "serve", *place, threads, image_size)

    def wait_until_ready(self) -> None:
        """Return when it is loaded and has run once."""
        self.answer()

    def run(self, untimed: int, timed: int) -> list[float]:
        """Milliseconds of each of `timed` inferences that follow `untimed` ones."""
        self.tell(f"{untimed} {timed}")
        return [float(value) for value in self.answer()]


def run_logits(
    artefact: Artefact,
    threads: int,
    pixels: Path,
    logits: Path,
    photos: int,
    on_photo: Callable[[], None],
) -> None:
    """Run the artefact in its own process on (M, 3, H, W) of a .npy file; logits (M, K) go to another."""
    place = (artefact.origin, artefact.target, artefact.path)
    with _Worker(artefact.name, threads, "logits", *place, threads, pixels, logits) as worker:
        for _ in range(photos):
            worker.answer()
            on_photo()
        worker.finish()


def measure_peak(threads: int) -> dict[int, float]:
    """GFLOP/s that torch.mm reaches in float32, by matrix side."""
    with _Worker("torch.mm", threads, "peak", threads) as worker:
        return {int(side): float(value) for side, value in worker.answer().items()}
