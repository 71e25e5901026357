"""Python's collector of cycles, less often at work while millions of objects are made and kept."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["rare_collection"]

_NEW_OBJECTS: Final = 200_000  # between two collections; by default it is 700


@contextmanager
def rare_collection() -> Iterator[None]:
    """Collect seldom inside the block, and never look at what was there before it.

    A converter keeps nearly all that it makes, so that looking through it over and over is a sixth of its
    processor time and finds nothing.
    """
    _RARELY.enter()
    try:
        yield
    finally:
        _RARELY.leave()


class _Rarely:
    """The threshold is the process's: the first thread in changes it, the last one out puts it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._before = gc.get_threshold()

    def enter(self) -> None:
        with self._lock:
            self._depth += 1
            if self._depth == 1:
                self._before = gc.get_threshold()
                gc.freeze()
                gc.set_threshold(_NEW_OBJECTS, *self._before[1:])

    def leave(self) -> None:
        with self._lock:
            self._depth -= 1
            if not self._depth:
                gc.set_threshold(*self._before)
                gc.collect()  # what the block left; what was there before it is still out of sight
                gc.unfreeze()


_RARELY: Final = _Rarely()
