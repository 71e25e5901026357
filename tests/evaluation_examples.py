"""What the tests of evaluation share."""

from __future__ import annotations

from edge_deit.evaluation.accuracy import Evaluation
from edge_deit.evaluation.tally import Tally

__all__ = ["everything", "sums"]


def sums(tally: Tally) -> dict[str, object]:
    """All that a tally has added up, to the last bit."""
    found = dict(vars(tally))
    return {**found, "_random": found["_random"].getstate(), "_classes": found["_classes"].tolist()}


def everything(found: Evaluation) -> dict[str, object]:
    """All that a report is made of, but for where it came from."""
    return {
        **vars(found),
        "digest": found.digest.hexdigest(),
        "tallies": {name: sums(tally) for name, tally in found.tallies.items()},
        "resumed": None,
    }
