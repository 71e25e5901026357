"""The same arithmetic everywhere: torch splits sums over its threads, and their number shows in results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

__all__ = ["steady_threads"]

_THREADS: Final = 2
"""Whatever the machine has, and whatever runs the files: ranges and weights follow from these sums."""


@contextmanager
def steady_threads() -> Iterator[None]:
    """Let torch compute with a fixed number of threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(_THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)
