"""A report and its limits to a verdict: what the command `gate` and the pytest fixture call."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge_deit.common.arguments import checked_arguments
from edge_deit.common.files import hash_path
from edge_deit.common.whereabouts import recall
from edge_deit.gating.judge import BASELINE_PREFIX, judge_report
from edge_deit.gating.thresholds import Thresholds, read_thresholds
from edge_deit.report.figures import display_names
from edge_deit.report.report import ArtefactResult, Report, read_report
from edge_deit.report.verdict import Verdict

__all__ = ["gate_report"]

_MOST_ENTRIES: Final = 10_000


@checked_arguments
def gate_report(
    report: Report | Path, thresholds: Thresholds | Path, baseline: Report | Path | None = None
) -> Verdict:
    """Judge a report of `validate` by limits, and against the last release's report where it is given.

    A limit that does not hold, or cannot be judged, is in the verdict; its `exit_code` is 0 when all limits
    hold, 1 when one does not and 2 when it could not judge. It does not judge an unfinished report, nor one
    whose artefact lies where it was, or next to the report, and is another file by now.

    Raises:
        EdgeDeitError: a file that is missing, damaged or of another kind.
    """
    found = read_report(report) if isinstance(report, Path) else report
    limits = read_thresholds(thresholds) if isinstance(thresholds, Path) else thresholds
    former = read_report(baseline) if isinstance(baseline, Path) else baseline
    folder = report.parent if isinstance(report, Path) else None
    verdict = judge_report(found, limits, former)
    problems = [*_unfinished(found, former), *_replaced(found, folder), *verdict.problems]
    notes = tuple(_not_compared(found, limits, former, verdict)) if not problems else ()
    return Verdict(verdict.checks, tuple(problems), notes)


def _unfinished(report: Report, baseline: Report | None) -> Iterator[str]:
    for which, one in (("report", report), ("baseline", baseline)):
        if one is not None and not one.finished:
            yield (
                f"the {which} is unfinished: its validation was stopped or still runs; wait for it, or run "
                "edge_deit.validate again"
            )


def _replaced(report: Report, folder: Path | None) -> Iterator[str]:
    """Artefacts that are there and are not the files that were measured."""
    for name, one in zip(display_names(report), report.artefacts, strict=True):
        places = [Path(one.path), *filter(None, [recall(one.sha256)])]
        if folder is not None:
            places += [folder / one.path, folder / one.name]
        for path in dict.fromkeys(places):
            if _differs(path, one):
                yield (
                    f"{path} is not the {name} that the report is on (sha256 differs): it was exported "
                    "again; run edge_deit.validate again"
                )
                break


def _differs(path: Path, result: ArtefactResult) -> bool:
    """Whether a file or folder is there that has not the result's hash."""
    try:
        if path.is_file():
            return path.stat().st_size != result.size_bytes or hash_path(path) != result.sha256
        if path.is_dir():
            return not _may_be(path, result.size_bytes) or hash_path(path) != result.sha256
    except (OSError, ValueError):  # a name that the system does not take, or that may not be read
        return False
    return False


def _may_be(folder: Path, size_bytes: int) -> bool:
    """Whether the files of a folder add up to a size; it stops where that is clear."""
    size = entries = 0
    for place, folders, files in os.walk(folder):
        entries += 1 + len(folders) + len(files)
        size += sum(os.stat(os.path.join(place, file)).st_size for file in files)
        if size > size_bytes or entries > _MOST_ENTRIES:
            return False
    return size == size_bytes


def _not_compared(
    report: Report, limits: Thresholds, baseline: Report | None, verdict: Verdict
) -> Iterator[str]:
    """What the baseline's limits did not cover, so that nobody takes it for checked."""
    if limits.baseline and baseline is None:
        yield "no --baseline was given: the limits of [baseline] were not checked"
    if baseline is not None:
        compared = {c.artefact for c in verdict.checks if c.limit.startswith(BASELINE_PREFIX)}
        for name in display_names(report):
            if name not in compared:
                yield f"{name} is new: the baseline has nothing to compare it with"
