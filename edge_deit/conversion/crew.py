"""Files made side by side: each converter is a process of its own, as converters work on one core."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final, Self, TypeVar

from edge_deit.common.arguments import whole_number
from edge_deit.common.child import end_child, start_child
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.host import available_memory_bytes, usable_cores
from edge_deit.conversion.job import Convert, Job, convert_here
from edge_deit.metrics.outputs import Closeness

__all__ = ["Crew", "jobs_setting", "processes_for"]

Made = TypeVar("Made")

_CONVERTER: Final = "edge_deit.conversion.converter"
_SETTING: Final = "EDGE_DEIT_JOBS"
_MOST: Final = 4
_GOING_S: Final = 5.0
_BASE_BYTES: Final = 1 << 30
_TIMES_THE_WEIGHTS: Final = 12


def jobs_setting() -> int | None:
    """What the environment's `EDGE_DEIT_JOBS` says; None where it is not set.

    Raises:
        EdgeDeitError: it is no number from 1 on.
    """
    if not (wanted := os.environ.get(_SETTING, "")):
        return None
    if not (number := whole_number(wanted)):
        raise EdgeDeitError(
            f"{_SETTING} is {wanted[:40]!r}; set it to a number from 1 on, or not at all"
        )
    return number


def processes_for(files: int, weights_bytes: int) -> int:
    """How many files of a model, of `files`, this machine can make at the same time: cores and free memory.

    The environment's `EDGE_DEIT_JOBS` is taken instead where it is set.

    Raises:
        EdgeDeitError: as `jobs_setting`.
    """
    if (wanted := jobs_setting()) is not None:
        return max(1, min(files, wanted))
    free, each = available_memory_bytes(), _BASE_BYTES + _TIMES_THE_WEIGHTS * weights_bytes
    room = _MOST if free is None else free // each
    return max(1, min(files, usable_cores(), _MOST, room))


@dataclass(frozen=True)
class _Task:
    """What is to be made, with whose packages, and who waits for it."""

    make: Callable[[Convert], Any]
    target: str
    rank: int
    made: Future[Any]


class Crew:
    """Makes up to `jobs` files at the same time; use it as a context manager.

    A process that has loaded a target's packages makes that target's next file, where one waits.
    With one job `here` does everything, in this process and in turn.
    """

    def __init__(self, jobs: int, here: Convert = convert_here) -> None:
        self._here = here
        self._pool = ThreadPoolExecutor(jobs) if jobs > 1 else None
        self._converters = [_Converter() for _ in range(jobs)] if jobs > 1 else []
        self._waiting: list[_Task] = []
        self._choosing = threading.Lock()
        self._free: queue.SimpleQueue[_Converter] = queue.SimpleQueue()
        for one in self._converters:
            self._free.put(one)

    def submit(
        self, make: Callable[[Convert], Made], target: str = "", rank: int = 0
    ) -> Future[Made]:
        """Call `make` with something that does a job of `target`; with one job, at once.

        Of what waits, a lower `rank` comes first. The result raises what `make` raised.
        """
        made: Future[Made] = Future()
        if self._pool is None:
            made.set_result(make(self._here))
            return made
        with self._choosing:
            self._waiting.append(_Task(make, target, rank, made))
        self._pool.submit(self._make_one)
        return made

    def _make_one(self) -> None:
        converter = self._free.get()
        try:
            task = self._choose(converter)
            try:
                task.made.set_result(task.make(converter))
            except BaseException as error:  # noqa: BLE001 # whoever waits for the result raises it
                task.made.set_exception(error)
        finally:
            self._free.put(converter)

    def _choose(self, mine: _Converter) -> _Task:
        """What that process is to do next: what it has packages for, else what nobody has."""
        with self._choosing:
            taken = {name for one in self._converters for name in one.loaded}

            def cost(task: _Task) -> tuple[int, bool, bool]:
                return task.rank, task.target not in mine.loaded, task.target in taken

            task = min(self._waiting, key=cost)  # of equal ones the first
            self._waiting.remove(task)
            mine.loaded.add(task.target)
            return task

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End what is still at work: after an error or Ctrl-C, nobody waits for it."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for one in self._converters:
                one.stop()
            self._pool.shutdown()  # whoever waited for one sees its end, and cleans up
            for one in self._converters:
                one.close()


class _Converter:
    """A process that does jobs, one at a time, and ends with this one; it starts with the first.

    `loaded` are the targets whose packages it has, or will have first.
    """

    def __init__(self) -> None:
        self.loaded: set[str] = set()
        self._closed = False
        self._starting = threading.Lock()
        self._child: tuple[subprocess.Popen[bytes], Connection] | None = None

    def __call__(self, job: Job) -> Closeness:
        """Do a job there.

        Raises:
            EdgeDeitError: as `convert_here`, or the process died.
        """
        name = job.request.output.name
        try:
            connection = self._connection()
            connection.send_bytes(pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL))
            found, error = pickle.loads(connection.recv_bytes())  # noqa: S301 # our own process
        except (EOFError, OSError) as lost:
            raise EdgeDeitError(f"{name}: {self._end()}") from lost
        if error is not None:
            raise error
        result: Closeness = found
        return result

    def stop(self) -> None:
        """Kill the process, from any thread; a job that it is at fails, and so does each later one."""
        with self._starting:
            self._closed = True
            if self._child is not None:
                self._child[0].kill()

    def close(self) -> None:
        """End the process and the connection, which no other thread may be using."""
        self.stop()
        self._end()

    def _connection(self) -> Connection:
        with self._starting:
            if self._closed:
                raise EOFError
            if self._child is None:
                self._child = start_child(_CONVERTER)
            return self._child[1]

    def _end(self) -> str:
        """End the process, and say what became of it."""
        if self._child is None:
            return "no process could be started for it"
        process, connection = self._child
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may have gone, and not be gone
            code = process.poll() if self._closed else process.wait(_GOING_S)
        end_child(os.getpid(), process, connection)
        if code is None:
            return "the process that made it was ended"
        if code == -signal.SIGKILL:
            return (
                "the process that made it was killed (SIGKILL), most likely as memory ran out: give it "
                "more, or --jobs 1"
            )
        how = f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
        return f"the process that made it {how}; try --jobs 1, and report it with what that prints"
