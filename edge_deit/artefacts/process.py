"""Artefacts in a process of their own: what a damaged or hostile file does to its runtime ends there.

The process imports what the target's runtime needs and nothing else, so it starts in a fraction of a second
where the runtime does. Its output is held back and shown when it dies, or at once with EDGE_DEIT_VERBOSE=1.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Final, Self

import numpy as np

from edge_deit.artefacts.wire import Message, receive, send
from edge_deit.common.child import end_child, start_child
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.quiet import is_verbose
from edge_deit.exporters import runtime_of

__all__ = ["IsolatedRunner", "RunnerCrashError", "Worker"]

_WORKER: Final = "edge_deit.artefacts.worker"
_LAST_BYTES: Final = 2000


class RunnerCrashError(EdgeDeitError):
    """The process that ran an artefact died or did not answer; others are not concerned."""


class Worker:
    """A process that holds one artefact of a target and backend at a time, and runs it; threads take turns.

    It begins to import the runtime when it is made. Close it, or use it as a context manager; otherwise it
    ends when nobody holds it any longer, or with this process. What its runtime leaves in temporary files
    goes with it, however it ends. `timeout_s` is for one load, or one photo;
    None: the runtime's own.
    """

    def __init__(self, target: str, backend: str = "", *, timeout_s: float | None = None) -> None:
        runtime = runtime_of(target, backend)
        self._label = runtime.label
        self._timeout_s = runtime.timeout_s if timeout_s is None else timeout_s
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._ended = "the process that ran it was closed"
        try:
            self._held: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 # closed by `_end`
            self._scratch = tempfile.mkdtemp(prefix="edge-deit-")
            self._process, self._connection = self._start(target, backend)
        except OSError as error:
            raise EdgeDeitError(
                f"no process for {self._label} can be started: {error.strerror}"
            ) from error
        self._finalizer = weakref.finalize(
            self, _end, os.getpid(), self._process, self._connection, self._held, self._scratch
        )

    def _start(self, target: str, backend: str) -> tuple[subprocess.Popen[bytes], Connection]:
        try:
            arguments = [target, backend, self._scratch]
            return start_child(_WORKER, arguments, None if is_verbose() else self._held)
        except BaseException:
            os.rmdir(self._scratch)
            raise

    def load(self, path: Path, threads: int, units: str | None = None) -> IsolatedRunner:
        """Load a file, in place of the one before.

        Raises:
            EdgeDeitError: the runtime is absent or refuses the file.
            RunnerCrashError: the process died of it, or took too long.
        """
        number = next(self._numbers)
        request = {"do": "load", "path": os.path.abspath(path), "threads": threads, "units": units}
        self.ask(path.name, "loading", {**request, "number": number})
        return IsolatedRunner(self, path.name, number)

    def ask(
        self, name: str, doing: str, header: Mapping[str, Any], arrays: Sequence[np.ndarray] = ()
    ) -> Message:
        """One request and its answer; `name` and `doing` are for messages.

        Raises:
            EdgeDeitError: the process answers that it failed.
            RunnerCrashError: it does not answer.
        """
        with self._lock:
            if not self._finalizer.alive:
                raise RunnerCrashError(f"{name}: {self._ended}")
            try:
                send(self._connection, header, arrays)
                answer, found = self._answer()
            except (EOFError, OSError, ValueError) as error:
                self._ended = f"{self._label} {self._failure(doing, error)}"
                self.close()
                raise RunnerCrashError(f"{name}: {self._ended}") from error
            except BaseException:
                self.close()  # the answer that is still to come would be taken for another one's
                raise
        if "error" in answer:
            raise EdgeDeitError(str(answer["error"]))
        return answer, found

    def close(self) -> None:
        """End the process."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _answer(self) -> Message:
        if not self._connection.poll(self._timeout_s):
            raise TimeoutError
        return receive(self._connection)

    def _failure(self, doing: str, error: Exception) -> str:
        """What became of the process while it was at work, and what to do about it."""
        if isinstance(error, TimeoutError):
            return (
                f"did not answer within {self._timeout_s:g} s while {doing} it; the file is damaged, or "
                "this machine is very busy: try again, then export it again"
            )
        if isinstance(error, ValueError):
            return f"gave no readable answer while {doing} it ({error}): export it again"
        try:
            code = self._process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            return f"hung up while {doing} it: export it again"
        if code == -signal.SIGKILL:
            return (
                f"was killed (SIGKILL) while {doing} it, most likely as memory ran out: give it more, or "
                "export it again"
            )
        how = f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
        last = _last_line(self._held)
        return (
            f"{how} while {doing} it; the file is damaged, or of a version that this {self._label} cannot "
            "run: export it again" + (f" (its last words: {last})" if last else "")
        )


class IsolatedRunner:
    """An artefact that a `Worker` has loaded."""

    def __init__(self, worker: Worker, name: str, number: int) -> None:
        self._worker, self._name, self._number = worker, name, number

    def __call__(self, pixels: np.ndarray, *more: np.ndarray) -> np.ndarray:
        """(1, 3, H, W) float32, and what else the file takes -> what it returns, float32.

        Raises:
            EdgeDeitError: the runtime failed, or the worker has loaded another file since.
            RunnerCrashError: its process died, or did not answer.
        """
        request = {"do": "run", "number": self._number}
        _, found = self._worker.ask(self._name, "running", request, [pixels, *more])
        if len(found) != 1:
            raise RunnerCrashError(f"{self._name}: its process returned no output: export it again")
        return found[0]


def _end(
    owner: int,
    process: subprocess.Popen[bytes],
    connection: Connection,
    held: IO[bytes],
    scratch: str,
) -> None:
    """Leave neither the process nor a descriptor nor a temporary file behind."""
    held.close()
    end_child(owner, process, connection)
    if os.getpid() == owner:
        shutil.rmtree(scratch, ignore_errors=True)


def _last_line(held: IO[bytes]) -> str:
    """The last line that a process printed, at most 160 characters that can be printed again."""
    held.seek(0, os.SEEK_END)
    held.seek(max(0, held.tell() - _LAST_BYTES))
    lines = held.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return "".join(c if c.isprintable() else "?" for c in last[:160])
