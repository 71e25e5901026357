"""The process that runs artefacts for `artefacts.process`: it loads files, and runs them, when told to.

Its one argument list: the descriptor of the connection, the target and the backend whose files it will run,
and a folder for temporary files, which ends with the process. It answers each request with one message; a
request that fails is answered with `error`, one line. When the other side closes the connection, or is
gone, the process ends at once, whatever it is doing.
"""

from __future__ import annotations

import contextlib
import os
import queue
import resource
import shutil
import signal
import tempfile
import threading
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edge_deit.artefacts.local import LocalRunner, load_local, one_line
from edge_deit.artefacts.wire import Message, receive, send
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import size_of
from edge_deit.exporters import runtime_of

if TYPE_CHECKING:
    from edge_deit.model.points import LayerReader

__all__ = ["main"]

_TRIES: Final = 100
_BASE_BYTES: Final = 4 << 30
_TIMES_THE_FILE: Final = 32
_LIMITS: Final = resource.getrlimit(resource.RLIMIT_DATA)  # soft and hard


def main(descriptor: int, target: str, backend: str, scratch: str) -> None:
    """Serve until the connection ends."""
    os.environ["TMPDIR"] = tempfile.tempdir = scratch
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that we work for
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is reported, not dumped
    connection = Connection(descriptor)
    requests: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, requests, scratch), daemon=True).start()
    runtime_of(target, backend).warm_up()
    held = _Held(target, backend)
    while True:
        header, arrays = requests.get()
        try:
            answer, found = held.answer(header, arrays)
        except EdgeDeitError as error:
            traceback.print_exc()  # to be read with EDGE_DEIT_VERBOSE=1
            send(connection, {"error": str(error)})
        else:
            send(connection, answer, found)


def _listen(connection: Connection, requests: queue.SimpleQueue[Message], scratch: str) -> None:
    """Read requests while the runtime works, so that the end of the connection is seen at once."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            requests.put(receive(connection))
    _remove(scratch)  # who would do it may be gone
    os._exit(0)


def _remove(folder: str) -> None:
    """Remove a folder into which another thread may still be writing."""
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return


class _Held:
    """The one artefact that is loaded, if any, and the number of the request that loaded it."""

    def __init__(self, target: str, backend: str) -> None:
        self._target, self._backend = target, backend
        self._runtime = runtime_of(target, backend)
        self._number = 0
        self._runner: LocalRunner | None = None
        self._reader: LayerReader | None = None

    def answer(self, header: dict[str, Any], arrays: Sequence[np.ndarray]) -> Message:
        """Do what a request says."""
        if header["do"] in ("load", "look"):
            path = Path(header["path"])
            _limit_memory(path)
            return self._load(path, header) if header["do"] == "load" else self._look(path, header)
        if header["do"] == "points" and self._reader is not None:
            with one_line("the copy of the file", self._runtime, "looking into"):
                found = self._reader.read(arrays[0])
            return {"points": list(found)}, list(found.values())
        if self._runner is None or header["number"] != self._number:
            raise EdgeDeitError("the worker has loaded another file since; load this one again")
        return {}, [self._runner(*arrays)]

    def _load(self, path: Path, header: dict[str, Any]) -> Message:
        self._runner = None
        self._runner = load_local(self._runtime, path, header["threads"], header["units"])
        self._number = header["number"]
        return {}, []

    def _look(self, path: Path, header: dict[str, Any]) -> Message:
        from edge_deit.exporters import layer_reader_of
        from edge_deit.model.config import DeiTConfig

        self._reader = None
        open_reader = layer_reader_of(self._target, self._backend)
        if open_reader is None:
            raise EdgeDeitError(
                f"{self._target}: the runtime shows nothing of what is inside a file"
            )
        with one_line(path.name, self._runtime, "looking into"):
            self._reader = open_reader(path, DeiTConfig(**header["config"]))
        return {"method": self._reader.method}, []


def _limit_memory(path: Path) -> None:
    """A damaged size in a file must not take the whole machine's memory; a limit that is there stays."""
    wanted = _BASE_BYTES + _TIMES_THE_FILE * size_of(path)
    limits = [wanted, *(limit for limit in _LIMITS if limit != resource.RLIM_INFINITY)]
    with contextlib.suppress(OSError, ValueError):  # a system without such a limit
        resource.setrlimit(resource.RLIMIT_DATA, (min(limits), _LIMITS[1]))
