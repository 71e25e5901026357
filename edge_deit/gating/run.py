"""A report and its limits to a verdict: what `gate` runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge_deit.gating.judge import BASELINE_PREFIX
from edge_deit.gating.thresholds import Thresholds
from edge_deit.report.figures import display_names
from edge_deit.report.report import Report
from edge_deit.report.verdict import Verdict


def _not_compared(
    report: Report, limits: Thresholds, baseline: Path | None, verdict: Verdict
) -> Iterator[str]:
    """What the baseline's limits did not cover, so that nobody takes it for checked."""
    if limits.baseline and baseline is None:
        yield "no --baseline was given: the limits of [baseline] were not checked"
    if baseline is not None and not verdict.problems:
        compared = {c.artefact for c in verdict.checks if c.limit.startswith(BASELINE_PREFIX)}
        for name in display_names(report):
            if name not in compared:
                yield f"{name} is new: the baseline has nothing to compare it with"
