"""Latency side by side: each model loaded in a process of its own, one of them running at a time.

Runtimes in one process disturb each other (threads that spin between calls), and so do two processes that
run at once. So every round visits all processes in a shuffled order, and only ratios of medians of the
same rounds are worth quoting on a machine that does other things too.

Source of the intervals: Efron, "Bootstrap methods: another look at the jackknife", 1979 (percentile
interval).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import numpy as np

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.waiting import default_waiting

__all__ = ["JsonProcess", "Rounds", "Served", "interleave"]

_STOP_SECONDS: Final = 20
_LAST_LINES: Final = 5


@dataclass(frozen=True)
class Rounds:
    """How often to measure: `runs` timed inferences a process, each after `rewarm` untimed ones.

    `warmup` inferences come first; between two processes there is a rest of `pause_ms`, till threads sleep.
    """

    runs: int = 40
    warmup: int = 5
    rewarm: int = 1
    pause_ms: float = 20.0
    seed: int = 0


class JsonProcess:
    """One process that answers in JSON lines; what else it prints is kept and shown when it fails.

    `arguments` follow the Python interpreter; `folder` is one more place where it looks for modules.
    """

    def __init__(
        self, name: str, threads: int, arguments: Sequence[object], folder: Path | None = None
    ) -> None:
        self._name = name
        environment = {**default_waiting(os.environ), "OMP_NUM_THREADS": str(threads)}
        if folder is not None:
            others = filter(None, [os.environ.get("PYTHONPATH")])
            environment["PYTHONPATH"] = os.pathsep.join([str(folder), *others])
        self._noise: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 # closed by `close`
        self._process = subprocess.Popen(  # noqa: S603 # our own module, no shell
            [sys.executable, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            text=True,
            env=environment,
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


class Served(JsonProcess):
    """A model that stays loaded in a process of its own and runs when it is told to."""

    def wait_until_ready(self) -> Any:
        """Return what the process says when it has loaded the model and run it once."""
        return self.answer()

    def run(self, untimed: int, timed: int) -> list[float]:
        """Milliseconds of each of `timed` inferences that follow `untimed` ones."""
        self.tell(f"{untimed} {timed}")
        return [float(value) for value in self.answer()]


def interleave(
    served: Mapping[str, Served],
    rounds: Rounds,
    *,
    reverse: bool = False,
    on_round: Callable[[], None] = lambda: None,
) -> dict[str, np.ndarray]:
    """(R,) milliseconds by name; with `reverse` the same shuffled orders are walked backwards."""
    names = list(served)
    times = {name: np.zeros(rounds.runs) for name in names}
    generator = np.random.default_rng(rounds.seed)
    orders = [generator.permutation(len(names)).tolist() for _ in range(rounds.runs)]
    if reverse:
        orders = [order[::-1] for order in reversed(orders)]
    for index, order in enumerate(orders):
        for place in order:
            time.sleep(rounds.pause_ms / 1e3)
            (times[names[place]][index],) = served[names[place]].run(rounds.rewarm, 1)
        on_round()
    return times
