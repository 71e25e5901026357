"""The collector is back as it was after the block, and what the block left is collected."""

from __future__ import annotations

import gc
import weakref

import pytest

from edge_deit.common.collector import rare_collection


class Ring:
    """Only the collector can free it."""

    def __init__(self) -> None:
        self.me = self


def test_collection_is_seldom_and_then_as_before() -> None:
    before = gc.get_threshold()
    with rare_collection():
        seen = weakref.ref(Ring())
        assert gc.get_threshold()[0] > 100 * before[0]
        assert gc.get_freeze_count() > 0
        assert seen() is not None
    assert seen() is None
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_also_after_a_failure() -> None:
    before = gc.get_threshold()
    with pytest.raises(ValueError, match="broken"), rare_collection():
        raise ValueError("broken")
    assert gc.get_threshold() == before


def test_two_threads_leave_it_as_it_was() -> None:
    before = gc.get_threshold()
    first, second = rare_collection(), rare_collection()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # not in the order of a stack, as threads do it
    assert gc.get_threshold() != before
    second.__exit__(None, None, None)
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
