"""Side by side as in turn: the same results in the same order, and the first error."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from edge_deit.quantization.cores import ALONE, Cores


def test_results_are_in_order() -> None:
    with Cores(3) as cores:
        assert cores.map(lambda value: value * value, range(50)) == [i * i for i in range(50)]
        assert list(cores.ahead(iter(range(50)))) == list(range(50))
    assert ALONE.map(str, [1, 2]) == ["1", "2"]
    assert list(ALONE.ahead(iter([1, 2]))) == [1, 2]


def test_each_has_one_thread_of_torch() -> None:
    before = torch.get_num_threads()
    with Cores(2) as cores:
        assert torch.get_num_threads() == 1
        assert cores.map(lambda _: torch.get_num_threads(), range(4)) == [1] * 4
    assert torch.get_num_threads() == before


def test_the_next_is_made_meanwhile() -> None:
    second = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    with Cores(2) as cores:
        coming = cores.ahead(items())
        assert next(coming) == 1
        assert second.wait(10)
        assert list(coming) == [2]


def test_errors_come_through() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    with Cores(2) as cores:
        with pytest.raises(ValueError, match="broken"):
            list(cores.ahead(items()))
        with pytest.raises(ZeroDivisionError):
            cores.map(lambda value: 1 // value, [1, 0])
