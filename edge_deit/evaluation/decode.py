"""Photos decoded ahead by a few threads, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from edge_deit.common.files import hash_path
from edge_deit.data.preprocess import PreprocessSpec, load_pixels

__all__ = ["Decoded", "decoded_ahead"]

Decoded = tuple[np.ndarray, str]
"""Pixels (1, 3, H, W) and the sha256 of the file."""


def decoded_ahead(
    paths: Sequence[Path], spec: PreprocessSpec, workers: int
) -> Generator[Future[Decoded], None, None]:
    """What each path will be, in order; at most two photos a thread are held ahead.

    A result raises EdgeDeitError where the photo cannot be read. Close it where not all are taken: its
    threads end then, and not when it is collected.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        waiting: deque[Future[Decoded]] = deque()
        for path in paths:
            waiting.append(pool.submit(_decode, path, spec))
            if len(waiting) > 2 * workers:
                yield waiting.popleft()
        yield from waiting
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(path: Path, spec: PreprocessSpec) -> Decoded:
    return load_pixels(path, spec), hash_path(path)
