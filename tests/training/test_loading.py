"""Processes that decode photos: how they start, what they hear, and that their death is noticed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.interrupt import uninterrupted
from edge_deit.training import loading
from edge_deit.training.loading import batches, decoders_watched


class Signalled(Dataset[int]):
    """Its third item comes after a signal to the process that makes it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __getitem__(self, index: int) -> int:
        if index == 2:
            os.kill(os.getpid(), self.number)
        return index


def found(number: int) -> list[list[int]]:
    made = batches(Signalled(number), [[0, 1], [2, 3]], torch.tensor, workers=1, pinned=False)
    return [batch.tolist() for batch in made]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_the_whole_group_are_the_trainers(number: int) -> None:
    assert found(number) == [[0, 1], [2, 3]]


def test_a_process_that_is_killed_is_a_line() -> None:
    with pytest.raises(EdgeDeitError, match="fewer --workers"), decoders_watched():
        found(signal.SIGKILL)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), decoders_watched():
        raise RuntimeError("shapes differ")


def test_an_interrupt_while_processes_start_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Loader:
        def __init__(self, *given: object, **named: object) -> None:
            pass

        def __iter__(self) -> Iterator[Tensor]:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:  # as Python does inside a fork
                started.append("interrupted")
            started.append("whole")
            return iter([torch.zeros(1)])

    monkeypatch.setattr(loading, "DataLoader", Loader)
    with pytest.raises(KeyboardInterrupt):
        list(batches(Signalled(0), [[0]], torch.tensor, workers=0, pinned=False))
    assert started == ["whole"]


def test_each_signal_that_was_held_is_heard() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda number, frame: heard.append(number))
    try:
        with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012 # what is held is the point
            signal.raise_signal(signal.SIGCHLD)
            signal.raise_signal(signal.SIGINT)
            assert heard == []
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert heard == [signal.SIGCHLD]
