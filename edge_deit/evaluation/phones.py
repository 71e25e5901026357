"""What phones and browsers measured of the artefacts that are validated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_deit.artefacts.artefact import Artefact
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Progress
from edge_deit.report.device_report import read_device_report
from edge_deit.report.phone_result import PhoneResult, phone_results
from edge_deit.report.result import ArtefactResult

__all__ = ["measured_on_phones", "read_phones"]


def read_phones(
    paths: Sequence[Path], artefacts: Sequence[Artefact], progress: Progress
) -> list[PhoneResult]:
    """The reports' entries that were measured of these artefacts; a note names each other one.

    Raises:
        EdgeDeitError: a report that cannot be read, or of which no entry is of these artefacts.
    """
    known = {one.manifest.sha256 for one in artefacts}
    names = {one.path.name for one in artefacts}
    kept = []
    for path in paths:
        found = phone_results(read_device_report(path))
        others = [one for one in found if one.sha256 not in known]
        if len(others) == len(found):
            raise EdgeDeitError(
                f"device report {path}: it measured {_listed(others)}, none of which is an artefact "
                "given here; name those files, or bundle these and measure again"
            )
        for one in others:
            why = "another export of that name" if one.path in names else "not among the artefacts"
            progress.note(
                f"device report {path}: {one.path} with {one.runner} is left out: {why} "
                f"(sha256 {one.sha256[:12]})"
            )
        kept += [one for one in found if one.sha256 in known]
    return kept


def _listed(found: Sequence[PhoneResult]) -> str:
    names = dict.fromkeys(f"{one.path} (sha256 {one.sha256[:12]})" for one in found)
    return ", ".join(names)


def measured_on_phones(
    one: ArtefactResult, phones: Sequence[PhoneResult]
) -> tuple[PhoneResult, ...]:
    """What phones measured of the same file."""
    return tuple(found for found in phones if found.sha256 == one.sha256)
