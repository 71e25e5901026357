"""A node's history is shared while files are written, and copied again afterwards."""

from __future__ import annotations

import copy

import torch
from torch.fx.traceback import NodeSource

from edge_deit.exporters.provenance import shared_history


def entry() -> NodeSource:
    graph = torch.fx.Graph()
    node = graph.placeholder("x")
    node.meta["from_node"] = [NodeSource(node, "first")]
    return NodeSource(node, "second")


def test_copies_share_entries_only_meanwhile() -> None:
    one = entry()
    before = copy.deepcopy(one)
    assert before is not one
    assert before == one
    with shared_history():
        with shared_history():
            assert copy.deepcopy([one])[0] is one
        assert copy.deepcopy(one) is one  # another thread may still be inside
    assert copy.deepcopy(one) is not one


def test_a_failure_puts_it_back() -> None:
    one = entry()
    try:
        with shared_history():
            raise ValueError("broken")
    except ValueError:
        pass
    assert copy.deepcopy(one) is not one
