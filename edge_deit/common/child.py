"""Processes of our own that work for this one, each with a connection to it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Final

import edge_deit

__all__ = ["end_child", "start_child"]

_PACKAGES: Final = str(Path(edge_deit.__file__).parents[1])
_START: Final = (  # our own packages are those of this process, whatever else is called so
    "import sys; sys.path.insert(0, sys.argv[1]); import edge_deit; del sys.path[0]; "
    "import importlib; importlib.import_module(sys.argv[2]).main(int(sys.argv[3]), *sys.argv[4:])"
)
_STDERR: Final = 2


def start_child(
    module: str, arguments: Sequence[str] = (), output: IO[bytes] | None = None
) -> tuple[subprocess.Popen[bytes], Connection]:
    """A process that calls `main(descriptor, *arguments)` of a module, and our end of its connection.

    `descriptor` is that of the other end. What it prints goes to `output`, by default to our stderr. Ctrl-C
    does not reach it: it is for us, who then end it.

    Raises:
        OSError: no process, or no descriptor, can be had.
    """
    ours, theirs = Pipe()
    with theirs:
        number = fcntl.fcntl(  # clear of the three streams
            theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, _STDERR + 1
        )
    printed: int | IO[bytes] = _STDERR if output is None else output
    command = [sys.executable, "-P", "-c", _START, _PACKAGES, module, str(number), *arguments]
    try:
        process = subprocess.Popen(  # noqa: S603 # our own module, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            pass_fds=(number,),
            process_group=0,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        os.close(number)
    return process, ours


def end_child(owner: int, process: subprocess.Popen[bytes], connection: Connection) -> None:
    """Leave neither the process nor a descriptor behind. It has nothing to lose, so it is killed.

    `owner` is the process that started it: a fork of that one must not end what its parent still needs.
    """
    if os.getpid() == owner:  # first, so that a thread that still reads sees the end
        process.kill()
        process.wait()
    connection.close()
