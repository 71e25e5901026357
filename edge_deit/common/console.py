"""What every command shares: a console that survives `quiet`, progress bars, and exit codes."""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, Self

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from typer import exceptions as typer_exceptions

from edge_deit.common.errors import EdgeDeitError

__all__ = ["Bars", "new_app", "out", "progress", "run", "status_console"]


@functools.cache
def out() -> Console:
    """Console for results, on stdout."""
    return Console(soft_wrap=not sys.stdout.isatty())


@functools.cache
def status_console() -> Console:
    """Console for progress, on a duplicate of stderr, so that it goes on while stderr is held back."""
    try:
        stream = os.fdopen(os.dup(2), "w", buffering=1)
    except OSError:  # stderr is closed: there is nobody to show progress to
        return Console(stderr=True, quiet=True)
    return Console(file=stream)


def progress() -> RichProgress:
    """A bare progress bar on stderr, for scripts; it shows nothing where stderr is no terminal."""
    console = status_console()
    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


class Bars:
    """Progress as bars on stderr; where that is no terminal, only the notes.

    Use it as a context manager: the bars are gone afterwards.
    """

    def __init__(self) -> None:
        self._console, self._bars = status_console(), progress()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    @contextmanager
    def task(self, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """A bar, which is gone after the block."""
        task = self._bars.add_task(what, total=total)
        try:
            yield lambda steps: self._bars.advance(task, steps)
        finally:
            self._bars.remove_task(task)

    def note(self, line: str) -> None:
        """A line of its own above the bars."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def new_app(help_text: str | None) -> typer.Typer:
    """A typer application without shell completion and tracebacks."""
    return typer.Typer(
        add_completion=False,
        help=help_text,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


def run(app: typer.Typer, name: str | None = None) -> NoReturn:
    """Run a command line and exit: 0 well, 2 bad input (one line on stderr), 130 interrupted.

    A termination signal is an interrupt too, so that it leaves nothing half-written either.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(standalone_mode=False, prog_name=name)
    except EdgeDeitError as error:
        _fail(str(error))
    except typer_exceptions.TyperException as error:
        _fail(f"{error.format_message()} (--help shows what there is)")
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except OSError as error:
        if error.errno not in _EXPLAINED:
            raise
        where = f": {error.filename}" if error.filename else ""
        _fail(f"{_EXPLAINED[error.errno]}{where}")
    if code == _INTERRUPTED:  # typer turns Ctrl-C into this code
        print("interrupted; nothing half-written was left behind", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_EXPLAINED = {
    errno.ENOSPC: "the disk is full; free some space or choose another --output",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another --output",
    errno.EFBIG: "the file grew beyond the allowed size; raise the limit or choose another --output",
    errno.EACCES: "permission denied; choose another --output",
    errno.EPERM: "operation not permitted; choose another --output",
    errno.EROFS: "the file system is read-only; choose another --output",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EISDIR: "a folder stands where a file is needed",
    errno.ENOENT: "no such file or folder",
    errno.EEXIST: "a file is in the way",
}


def _fail(message: str) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
