"""How PyTorch's threads wait for each other: a moment awake, then asleep, so that other work goes on.

By default OpenMP's threads spin while they wait. Where two processes share the cores, each then waits for
a core that the other one burns: on two cores, beside one neighbour, a forward pass of DeiT-tiny took 17
times as long as with sleeping threads, and 40 times as long where both were ours. Threads that sleep at
once are slow to wake: alone on two cores the pass took 1.5 times as long as with threads that look a
thousand times first, and beside a neighbour those lose a sixth.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

__all__ = ["default_waiting", "wait_asleep"]

_NAME: Final = "OMP_WAIT_POLICY"
_ASLEEP: Final = "PASSIVE"
_SPINS: Final = (
    "GOMP_SPINCOUNT"  # GNU's OpenMP, which PyTorch has on Linux; others do as `_NAME` says
)
_MOMENT: Final = "1000"
_OURS: Final = "EDGE_DEIT_WAITS_ASLEEP"  # set beside it
_CHOSEN: Final = (_SPINS, "KMP_BLOCKTIME", _NAME)  # whoever sets one of them has chosen


def wait_asleep() -> None:
    """Have the threads of this process sleep soon; it has to be called before torch is imported."""
    if not any(name in os.environ for name in _CHOSEN):
        os.environ |= {_NAME: _ASLEEP, _SPINS: _MOMENT, _OURS: "1"}


def default_waiting(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what `wait_asleep` set: latency is measured as an app would have it."""
    ours = _OURS in environment
    return {k: v for k, v in environment.items() if not (ours and k in (_NAME, _SPINS, _OURS))}
