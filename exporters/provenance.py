"""Where the nodes of a graph come from, without a copy of the whole history for each.

Whenever torch.fx makes a node from another one it copies that one's history, which grows with each pass: a
tenth of the time that a file takes. The entries of a history are never changed, so they can be shared.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["shared_history"]

_COPY: Final = "__deepcopy__"


@contextmanager
def shared_history() -> Iterator[None]:
    """Let the copies of a history have its entries meanwhile; several threads may be inside.

    Source: torch.fx.traceback, NodeSource.
    """
    _SHARED.enter()
    try:
        yield
    finally:
        _SHARED.leave()


class _Shared:
    """The class is the process's: the first thread in changes it, the last one out puts it back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0

    def enter(self) -> None:
        from torch.fx.traceback import NodeSource

        with self._lock:
            self._depth += 1
            if self._depth == 1:
                setattr(NodeSource, _COPY, _itself)

    def leave(self) -> None:
        from torch.fx.traceback import NodeSource

        with self._lock:
            self._depth -= 1
            if not self._depth:
                delattr(NodeSource, _COPY)


def _itself(entry: Any, memo: dict[int, Any]) -> Any:
    return entry


_SHARED: Final = _Shared()
