"""Work on several cores, a thread each: PyTorch lets go of Python's lock while it computes.

Every piece of work is computed by one thread of PyTorch's, and results come in the order of what was asked
for. So they are the same numbers on any machine, however many cores it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Self, TypeVar

import torch

from edge_deit.common.host import usable_cores

__all__ = ["ALONE", "Cores"]

Item = TypeVar("Item")
Made = TypeVar("Made")

_END: Final = object()


class Cores:
    """Does pieces of work side by side; use it as a context manager, in which PyTorch has one thread.

    `count` 1 does everything in the calling thread and in turn, also outside of a `with`.
    """

    def __init__(self, count: int | None = None) -> None:
        self._count = usable_cores() if count is None else count
        self._pool: ThreadPoolExecutor | None = None
        self._maker: ThreadPoolExecutor | None = None
        self._threads = 0

    def __enter__(self) -> Self:
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)
        if self._count > 1:
            self._pool = ThreadPoolExecutor(
                self._count, initializer=torch.set_num_threads, initargs=(1,)
            )
            self._maker = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
        return self

    def __exit__(self, *error: object) -> None:
        for pool in (self._pool, self._maker):
            if pool is not None:
                pool.shutdown(cancel_futures=True)
        self._pool = self._maker = None
        torch.set_num_threads(self._threads)

    def map(self, function: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
        """What `function` makes of each item, in their order; the first error of one is raised."""
        if self._pool is None:
            return [function(item) for item in items]
        return list(self._pool.map(function, items))

    def ahead(self, items: Iterator[Item]) -> Iterator[Item]:
        """The same items; while one is used the next is made."""
        if self._maker is None:
            yield from items
            return
        coming: Future[Item | object] = self._maker.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = self._maker.submit(next, items, _END)
            yield item  # type: ignore[misc] # it is no end


ALONE: Final = Cores(1)
"""One thing after the other, with the threads that PyTorch has."""
