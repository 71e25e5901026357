"""Python's collector of cycles, less often at work while millions of objects are made and kept."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from edge_deit.common.meanwhile import Meanwhile

__all__ = ["rare_collection"]

_NEW_OBJECTS: Final = 200_000  # between two collections; by default it is 700


def rare_collection() -> AbstractContextManager[None]:
    """Collect seldom inside the block, and never look at what was there before it.

    A converter keeps nearly all that it makes, so that looking through it over and over is a sixth of its
    processor time and finds nothing.
    """
    return _RARELY.inside()


def _seldom() -> Callable[[], None]:
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *before[1:])

    def undo() -> None:
        gc.set_threshold(*before)
        gc.collect()  # what the block left; what was there before it is still out of sight
        gc.unfreeze()

    return undo


_RARELY: Final = Meanwhile(_seldom)
