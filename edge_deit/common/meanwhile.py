"""Something of the whole process that is changed as long as any thread is inside a block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Meanwhile"]


class Meanwhile:
    """The first thread in calls `change`, the last one out calls what that returned."""

    def __init__(self, change: Callable[[], Callable[[], None]]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._depth = 0
        self._undo: Callable[[], None] = _nothing

    @contextmanager
    def inside(self) -> Iterator[None]:
        """A block in which the change holds; blocks may be nested, and overlap in any order."""
        with self._lock:
            if not self._depth:
                self._undo = self._change()
            self._depth += 1
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                if not self._depth:
                    self._undo()


def _nothing() -> None:
    pass
