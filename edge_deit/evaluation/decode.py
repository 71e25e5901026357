"""Photos decoded ahead by a few threads, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
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
) -> Iterator[Future[Decoded]]:
    """What each path will be, in order; at most two photos a thread are held ahead.

    A result raises EdgeDeitError where the photo cannot be read.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        waiting: deque[Future[Decoded]] = deque()
        for path in paths:
            waiting.append(pool.submit(_decode, path, spec))
            if len(waiting) > 2 * workers:
                yield waiting.popleft()
        yield from waiting


def _decode(path: Path, spec: PreprocessSpec) -> Decoded:
    return load_pixels(path, spec), hash_path(path)
