"""How PyTorch's threads wait for each other: asleep, so that other work on the same cores goes on.

By default OpenMP's threads spin while they wait. Where two processes share the cores, each then waits for
a core that the other one burns: on two cores, beside one neighbour, a forward pass of DeiT-tiny took 17
times as long as with sleeping threads, and 40 times as long where both were ours.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

__all__ = ["default_waiting", "wait_asleep"]

_NAME: Final = "OMP_WAIT_POLICY"
_ASLEEP: Final = "PASSIVE"
_OURS: Final = "EDGE_DEIT_WAITS_ASLEEP"  # set beside it
_CHOSEN: Final = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", _NAME)  # whoever sets one of them has chosen


def wait_asleep() -> None:
    """Have the threads of this process sleep; it has to be called before torch is imported."""
    if not any(name in os.environ for name in _CHOSEN):
        os.environ[_NAME] = _ASLEEP
        os.environ[_OURS] = "1"


def default_waiting(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what `wait_asleep` set: latency is measured as an app would have it."""
    ours = _OURS in environment
    return {k: v for k, v in environment.items() if not (ours and k in (_NAME, _OURS))}
