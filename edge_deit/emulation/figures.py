"""From logits and counts to the `arm64` object of a report, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge_deit.emulation.counts import Counts, median, ratio, relative_spread
from edge_deit.metrics.outputs import EQUAL_DB, closeness

__all__ = [
    "COUNTED_NOTE",
    "NATIVE_NOTE",
    "REPEATABLE",
    "Core",
    "core_entry",
    "merged",
    "problems",
    "remarks",
]

COUNTED_NOTE: Final = "instructions on an emulated core, never a time"
NATIVE_NOTE: Final = "ran natively on this Arm machine: nothing was counted"

REPEATABLE: Final = 0.005
"""Counts of repeats may lie so far apart, as a share of the smallest."""

_SIGMAS: Final = 3.0
_CONTENDERS: Final = 5
_NOISIER_DB: Final = 3.0  # twice the noise power; what separates two cores by chance is well below
_FINE_DB: Final = 40.0  # above it noise is no int8's, and of no consequence
_HALF_DB: Final = 30.0  # what sums in half precision leave; measured: 35


@dataclass(frozen=True)
class Core:
    """What one artefact did on one core.

    `logits` (M, K) are the core's; `x86` those of the same file on this machine, None where this machine
    is the Arm core; `reference` the float model's. `repeats` is empty where nothing was counted; `fp32` is
    the count of the fp32 artefact on the same core, where there is one. `halved` says that the core may
    compute all of the file in half precision, which this machine's runtime does not.
    """

    logits: np.ndarray
    x86: np.ndarray | None
    reference: np.ndarray
    repeats: Sequence[Counts] = ()
    fp32: Counts | None = None
    halved: bool = False


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
        "repeat_spread": relative_spread(core.repeats) if core.repeats else None,
        "images": to_float.images,
        "max_abs_to_x86": None if to_x86 is None else to_x86.max_abs,
        "snr_db_to_x86": None if to_x86 is None else min(to_x86.snr_db, EQUAL_DB),
        "snr_db_to_float": min(to_float.snr_db, EQUAL_DB),
        "same_argmax_as_x86": None if to_x86 is None else to_x86.agreement,
    }


def problems(core: Core) -> list[str]:
    """What makes a core's result a failure, in words; empty when all is well.

    Int8 answers scatter around the float model's, and differently on each core, so that a photo with two
    answers nearly level falls to one side or the other by chance. Another first answer than the float
    model's is therefore a failure where the x86 runner's logits exclude it: where they put it further below
    their own first than noise like theirs explains (`_blur`). In an fp32 artefact that is next to nothing.
    """
    found = []
    if core.x86 is not None:
        flips = _flips(core.logits, core.reference)
        if wrong := int((flips & ~_near_ties(core, core.x86)).sum()):
            found.append(
                f"{wrong} of {len(flips)} photos get another first answer than from the float model, one "
                "that x86's logits exclude"
            )
        here, there = (_snr_db(core.reference, logits) for logits in (core.logits, core.x86))
        if here < min(there - _NOISIER_DB, _HALF_DB if core.halved else _FINE_DB):
            found.append(f"{here:.1f} dB to the float model, on x86 {there:.1f} dB")
    if core.repeats and (apart := relative_spread(core.repeats)) > REPEATABLE:
        found.append(
            f"repeated counts lie {100 * apart:.2f} % apart, more than {100 * REPEATABLE:g} %"
        )
    return found


def remarks(core: Core) -> list[str]:
    """What a reader should know although it is no failure: more near-ties lost here than on x86."""
    if core.x86 is None:
        return []
    ours = int((_flips(core.logits, core.reference) & _near_ties(core, core.x86)).sum())
    theirs = int(_flips(core.x86, core.reference).sum())
    if ours <= theirs:
        return []
    return [
        f"{ours} of {len(core.reference)} photos get another first answer than from the float model, on "
        f"x86 {theirs}; on x86 too these answers lie within the noise of the first: no failure"
    ]


def _flips(logits: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(M,) photos whose first answer is not the float model's."""
    found: np.ndarray = logits.argmax(axis=1) != reference.argmax(axis=1)
    return found


def _near_ties(core: Core, x86: np.ndarray) -> np.ndarray:
    """(M,) photos on which x86's logits have the core's first answer within noise of their own."""
    answers = core.logits.argmax(axis=1)[:, None]
    below = x86.max(axis=1) - np.take_along_axis(x86, answers, axis=1)[:, 0]
    blur = _blur(core.reference, x86)
    if core.halved:  # the noise is the core's alone
        blur = max(blur, _blur(core.reference, core.logits))
    found: np.ndarray = below <= blur
    return found


def _blur(reference: np.ndarray, x86: np.ndarray) -> float:
    """How far two runners with noise like the x86 one's may differ in the distance of two answers.

    The noise is the root mean square of that runner's errors in the distance between the float model's
    first answer and its next four, over the photos; both runners have it, and `_SIGMAS` cover nearly all.
    """
    best = np.argsort(-reference, axis=1, kind="stable")[:, :_CONTENDERS]  # (M, 5)
    noise = np.take_along_axis(x86.astype(np.float64) - reference, best, axis=1)
    distances = noise[:, 1:] - noise[:, :1]  # (M, 4)
    return float(_SIGMAS * np.sqrt(2 * np.square(distances).mean()))


def _snr_db(reference: np.ndarray, logits: np.ndarray) -> float:
    return min(closeness(reference, logits, classes=True).snr_db, EQUAL_DB)


def merged(former: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """A report's `arm64` object with the new cores in it; those of the same runtime stay."""
    if former is None or former.get("runtime") != new["runtime"]:
        return dict(new)
    return {**new, "cpus": {**former.get("cpus", {}), **new["cpus"]}}
