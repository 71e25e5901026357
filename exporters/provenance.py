"""Where the nodes of a graph come from, without a copy of the whole history for each.

Whenever torch.fx makes a node from another one it copies that one's history, which grows with each pass: a
tenth of the time that a file takes. The entries of a history are never changed, so they can be shared.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from edge_deit.common.meanwhile import Meanwhile

__all__ = ["shared_history"]

_COPY: Final = "__deepcopy__"


def shared_history() -> AbstractContextManager[None]:
    """Let the copies of a history have its entries meanwhile; several threads may be inside.

    Source: torch.fx.traceback, NodeSource.
    """
    return _SHARED.inside()


def _share() -> Callable[[], None]:
    from torch.fx.traceback import NodeSource

    setattr(NodeSource, _COPY, _itself)
    return lambda: delattr(NodeSource, _COPY)


def _itself(entry: Any, memo: dict[int, Any]) -> Any:
    return entry


_SHARED: Final = Meanwhile(_share)
