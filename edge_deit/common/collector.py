"""Python's collector of cycles, less often at work while millions of objects are made and kept."""

from __future__ import annotations

import gc
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
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
        gc.collect()
