"""What every command shares: a console that survives `quiet`, progress bars, and exit codes."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Final, NoReturn, Self

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text
from typer import exceptions as typer_exceptions

from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.common.interrupt import INTERRUPTED
from edge_deit.common.progress_lines import ProgressLines, in_pace
from edge_deit.common.text import shortened, visible
from edge_deit.common.waiting import wait_asleep

__all__ = ["Bars", "PlainConsole", "new_app", "out", "progress", "run", "status_console"]

_FAILED: Final = 2
"""Exit code of bad input and of refused requests."""


class PlainConsole(Console):
    """A console on which every text appears as itself: no markup, no smileys, nothing hidden."""

    def __init__(self, stream: IO[str], *, soft_wrap: bool = False, quiet: bool = False) -> None:
        super().__init__(
            file=stream,
            markup=False,
            emoji=False,
            highlight=False,
            soft_wrap=soft_wrap,
            quiet=quiet,
        )

    def render_str(self, text: str, **settings: Any) -> Text:
        """The one place where text becomes something to print, in tables and titles too."""
        return super().render_str(visible(text), **settings)

    def on_broken_pipe(self) -> None:
        """The reader has gone: `run` knows what to do."""
        raise BrokenPipeError


def out() -> PlainConsole:
    """Console for results, on what is stdout now."""
    return _console_on(sys.stdout)


@functools.lru_cache(maxsize=1)
def _console_on(stream: IO[str]) -> PlainConsole:
    return PlainConsole(stream, soft_wrap=not stream.isatty())


@functools.cache
def status_console() -> PlainConsole:
    """Console for progress, on a duplicate of stderr, so that it goes on while stderr is held back."""
    try:
        stream = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    except OSError:  # stderr is closed: there is nobody to show progress to
        return PlainConsole(io.StringIO(), quiet=True)
    return PlainConsole(stream)


class _Pace(ProgressColumn):
    """How many steps a second, where a task says what its steps are."""

    def render(self, task: Task) -> Text:
        """`154 photos/s`, or nothing."""
        unit, speed = task.fields.get("unit"), task.speed
        return Text(in_pace(speed, unit) if unit and speed else "")


def progress() -> RichProgress:
    """A bare progress bar on stderr, for scripts; it shows nothing where stderr is no terminal."""
    console = status_console()
    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        _Pace(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


class Bars:
    """Progress as bars on stderr; where that is no terminal, as a line now and then.

    Use it as a context manager: the bars are gone afterwards.
    """

    def __init__(self) -> None:
        self._console, self._bars = status_console(), progress()
        self._lines = None if self._console.is_terminal else ProgressLines(self.note)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    @contextmanager
    def task(
        self, what: str, total: int | None = None, *, unit: str = ""
    ) -> Iterator[Callable[[int], None]]:
        """A bar, which is gone after the block, or lines."""
        if self._lines is not None:
            with self._lines.task(what, total, unit=unit) as advance:
                yield advance
            return
        task = self._bars.add_task(what, total=total, unit=unit)
        try:
            yield lambda steps: self._bars.advance(task, steps)
        finally:
            self._bars.remove_task(task)

    def note(self, line: str) -> None:
        """A line of its own above the bars."""
        self._console.print(line, soft_wrap=True)


def new_app(help_text: str | None) -> typer.Typer:
    """A typer application without shell completion and tracebacks."""
    return typer.Typer(
        add_completion=False,
        help=help_text,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


def run(
    app: typer.Typer, name: str | None = None, *, before_error: Callable[[], None] = lambda: None
) -> NoReturn:
    """Run a command line and exit: 0 well, 2 anything that failed (one line on stderr), 130 interrupted.

    A termination signal is an interrupt too, so that it leaves nothing half-written either. With `--debug`
    a failure that nobody foresaw ends with its traceback. `before_error` is called before an error is said.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wait_asleep()
    debug = "--debug" in sys.argv
    sys.argv = [word for word in sys.argv if word != "--debug"]
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter gets its escape
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False, prog_name=name)
        sys.stdout.flush()
    except EdgeDeitError as error:
        before_error()
        _say_error(str(error))
        if error.leaves_running:
            sys.stdout.flush()
            os._exit(_FAILED)
        code = _FAILED
    except typer_exceptions.TyperException as error:
        before_error()
        said = " ".join(error.format_message().split())  # typer's own lines
        _fail(f"{said} (--help shows what there is)")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if debug:
            raise
        before_error()
        _fail(_explained(error))
    if code == INTERRUPTED:  # typer turns Ctrl-C into this code
        print("interrupted; nothing half-written was left behind", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


def _explained(error: Exception) -> str:
    """One line for a failure that is no message of ours."""
    if isinstance(error, BrokenPipeError):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 # Python flushes it when it ends
        return "whoever read the output has gone"
    if isinstance(error, OSError) and error.errno is not None:
        name = error.filename2 or error.filename  # of two names the one that is there afterwards
        where = f": {name}" if name else ""
        return f"{_EXPLAINED.get(error.errno, os.strerror(error.errno))}{where}"
    if isinstance(error, ModuleNotFoundError) and error.name in _BROUGHT:
        return f"this needs {error.name}: pip install 'edge-deit[{_BROUGHT[error.name]}]'"
    if isinstance(error, MemoryError):
        return "out of memory; give fewer or smaller photos, or a smaller model"
    if isinstance(error, RecursionError):
        return "the input is nested too deeply"
    words = f"{type(error).__name__}: {first_line(error)}"
    return f"unexpected {words}; this is a bug: please report it, with what --debug adds"


_BROUGHT = {"torch": "torch", "safetensors": "torch", "scipy": "torch"}
"""What an installation without a target lacks -> the extra that brings it."""

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
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ELOOP: "links lead in a circle",
}


def _fail(message: str) -> NoReturn:
    _say_error(message)
    sys.exit(_FAILED)


def _say_error(message: str) -> None:
    with contextlib.suppress(OSError):  # stderr may be closed or full: the code says it too
        # in one piece, as other processes may write to the same terminal
        sys.stderr.write(f"error: {visible(shortened(message.strip()))}\n")
