"""The process that does jobs for `conversion.crew`: it writes and checks one file after another.

Its one argument is the descriptor of the connection. Both ends are ours and what goes over it comes from no
file, so jobs and answers are pickled.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import resource
import signal
import threading
import traceback
from multiprocessing.connection import Connection

__all__ = ["main"]


def main(descriptor: int) -> None:
    """Do jobs until the connection ends; each gets one answer: what was returned, or what was raised."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that we work for
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is reported, not dumped
    connection = Connection(descriptor)
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, jobs), daemon=True).start()
    from edge_deit.conversion.steady import steady_threads

    with steady_threads():
        while True:
            connection.send_bytes(_answer(jobs.get()))


def _answer(data: bytes) -> bytes:
    from edge_deit.common.quiet import quiet
    from edge_deit.conversion.job import convert_here
    from edge_deit.exporters import target

    try:
        job = pickle.loads(data)  # noqa: S301 # from the process that started us
        with quiet():
            target(job.target).warm_up()
        return pickle.dumps((convert_here(job), None))
    except Exception as error:  # noqa: BLE001 # it is raised where the job came from
        return _failure(error)


def _listen(connection: Connection, jobs: queue.SimpleQueue[bytes]) -> None:
    """Read jobs while converters work, so that the end of the connection is seen at once."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            jobs.put(connection.recv_bytes())
    os._exit(0)


def _failure(error: Exception) -> bytes:
    """The error with its traceback; one that cannot be sent goes in words."""
    told = "".join(traceback.format_exception(error))
    error.add_note(told)
    with contextlib.suppress(Exception):
        data = pickle.dumps((None, error))
        pickle.loads(data)  # noqa: S301 # some can be written, but not read
        return data
    return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}\n{told}")))
