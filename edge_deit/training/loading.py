"""Batches from processes that decode photos: how these start, what they hear, what their death means."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.interrupt import uninterrupted

__all__ = ["batches", "decoders_watched"]


def batches(
    photos: Dataset[Any],
    order: Sampler[Any] | Sequence[Any],
    collate: Callable[[list[Any]], Any],
    *,
    workers: int,
    pinned: bool,
) -> Iterator[Any]:
    """What `collate` makes of each batch of keys in `order`; `workers` processes decode, 0: this one.

    An interrupt while they are started comes after it: Python would drop it inside a fork.
    """
    loader = DataLoader(
        photos,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pinned,
        worker_init_fn=_deaf,
    )
    with uninterrupted():
        started = iter(loader)
    yield from started


def _deaf(worker: int) -> None:
    """Signals that the whole group of processes gets are the trainer's, which ends this one in order."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def decoders_watched() -> Iterator[None]:
    """Say in a line that a process which decodes photos has died: PyTorch raises that anywhere.

    Raises:
        EdgeDeitError: it has.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):
            raise
        raise EdgeDeitError(
            "a process that decodes photos was ended from outside, perhaps for want of memory: give fewer "
            "--workers, or 0, and --resume"
        ) from error
