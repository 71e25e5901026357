"""From logits and counts to the `arm64` object of a report, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge_deit._arm64.counts import Counts, median, ratio, spread
from edge_deit.metrics import EQUAL_DB, closeness

__all__ = ["COUNTED_NOTE", "NATIVE_NOTE", "REPEATABLE", "Core", "core_entry", "merged", "problems"]

COUNTED_NOTE: Final = "instructions on an emulated core, never a time"
NATIVE_NOTE: Final = "ran natively on this Arm machine: nothing was counted"

REPEATABLE: Final = 0.005
"""Counts of repeats may lie so far apart, as a share of the smallest."""


@dataclass(frozen=True)
class Core:
    """What one artefact did on one core.

    `logits` (M, K) are the core's; `x86` those of the same file on this machine, None where this machine
    is the Arm core; `reference` the float model's. `repeats` is empty where nothing was counted; `fp32` is
    the count of the fp32 artefact on the same core, where there is one.
    """

    logits: np.ndarray
    x86: np.ndarray | None
    reference: np.ndarray
    repeats: Sequence[Counts] = ()
    fp32: Counts | None = None


def core_entry(core: Core) -> dict[str, Any]:
    """The figures of one core, as a report has them.

    Raises:
        EdgeDeitError: a logit that is not finite, or outputs of another shape.
    """
    to_float = closeness(core.reference, core.logits, classes=True)
    to_x86 = None if core.x86 is None else closeness(core.x86, core.logits, classes=True)
    counts = median(core.repeats) if core.repeats else None
    return {
        "instructions": None if counts is None else counts.total,
        "ratio_to_fp32": None if counts is None else ratio(counts, core.fp32),
        "classes": {} if counts is None else dict(counts.kinds),
        "repeat_spread": spread(core.repeats) if core.repeats else None,
        "images": to_float.images,
        "max_abs_to_x86": None if to_x86 is None else to_x86.max_abs,
        "snr_db_to_x86": None if to_x86 is None else min(to_x86.snr_db, EQUAL_DB),
        "snr_db_to_float": min(to_float.snr_db, EQUAL_DB),
        "same_argmax_as_x86": None if to_x86 is None else to_x86.agreement,
    }


def problems(core: Core) -> list[str]:
    """What makes a core's result a failure, in words; empty when all is well."""
    found = []
    if core.x86 is not None:
        ours, theirs = (_flips(logits, core.reference) for logits in (core.logits, core.x86))
        if ours > theirs:
            found.append(
                f"{ours} of {len(core.reference)} photos get another first answer than from the float "
                f"model, on x86 {theirs}"
            )
    if core.repeats and (apart := spread(core.repeats)) > REPEATABLE:
        found.append(
            f"repeated counts lie {100 * apart:.2f} % apart, more than {100 * REPEATABLE:g} %"
        )
    return found


def _flips(logits: np.ndarray, reference: np.ndarray) -> int:
    """Photos whose first answer is not the float model's."""
    return int((logits.argmax(axis=1) != reference.argmax(axis=1)).sum())


def merged(former: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """A report's `arm64` object with the new cores in it; those of the same runtime stay."""
    if former is None or former.get("runtime") != new["runtime"]:
        return dict(new)
    return {**new, "cpus": {**former.get("cpus", {}), **new["cpus"]}}
