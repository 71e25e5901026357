"""Keeps the converters' chatter from the user, and gives it all back when something goes wrong."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO, Final

from edge_deit.common.errors import EdgeDeitError

__all__ = ["is_verbose", "quiet"]

_STREAMS: Final = (1, 2)


def is_verbose() -> bool:
    """Whether the user wants to see all that third parties print: `EDGE_DEIT_VERBOSE=1`."""
    return os.environ.get("EDGE_DEIT_VERBOSE", "") not in ("", "0")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back everything written to file descriptors 1 and 2, Python's and C++'s alike.

    When the block ends well the text is dropped; when it raises, the text goes to stderr before the
    exception travels on, so that a converter's real message is never lost. An EdgeDeitError is a line
    for the user already, and comes alone; so does an interrupt. `EDGE_DEIT_VERBOSE=1` turns the holding
    back off. The command line's own console writes to a duplicate of the terminal (`common.console`), so
    progress bars go on meanwhile.

    Blocks may be nested, and several threads may be in one at the same time: the first that comes in takes
    the descriptors away, the last that goes out puts them back. They are the whole process's, so what other
    threads print meanwhile is held back too. It is for converters, which work in this process; artefacts
    run in one of their own (`artefacts.process`), which needs nothing of the kind.
    """
    if is_verbose():
        yield
        return
    with _HELD:
        try:
            yield
        except (EdgeDeitError, KeyboardInterrupt, GeneratorExit):
            raise  # a line that says what the converter said, or a stop that has nothing to say
        except BaseException:
            _HELD.give_back()
            raise


class _Held:
    """What was printed since the first block began, and where the descriptors led before."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._wanted = False
        self._file: IO[bytes] | None = None
        self._saved: list[int | None] = []

    def give_back(self) -> None:
        """A block failed: the text is shown as soon as there is a stream to show it on."""
        self._wanted = True

    def __enter__(self) -> None:
        with self._lock:
            if not self._depth:
                self._take()
            self._depth += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._depth -= 1
            if not self._depth:
                self._restore()

    def _take(self) -> None:
        _flush()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 # closed by `_restore`
        self._saved = [_duplicate(descriptor) for descriptor in _STREAMS]
        try:
            for descriptor in _STREAMS:
                os.dup2(self._file.fileno(), descriptor)
        except BaseException:
            self._restore()
            raise

    def _restore(self) -> None:
        assert self._file is not None
        _flush()
        for descriptor, original in zip(_STREAMS, self._saved, strict=True):
            if original is None:
                os.close(descriptor)
            else:
                os.dup2(original, descriptor)
                os.close(original)
        with self._file as file:
            wanted, self._file, self._saved, self._wanted = self._wanted, None, [], False
            if wanted and sys.stderr is not None:
                file.seek(0)
                sys.stderr.write(file.read().decode(errors="replace"))
                sys.stderr.flush()


def _duplicate(descriptor: int) -> int | None:
    """A second name for what a descriptor leads to, None where it is closed."""
    try:
        return os.dup(descriptor)
    except OSError:
        return None


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # Python's way to say that it was closed from the start
            stream.flush()
    for handler in logging.getLogger().handlers:
        handler.flush()


_HELD: Final = _Held()
