"""Artefacts on emulated Arm cores, from files to results."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edge_deit import assets
from edge_deit.artefacts.artefact import Artefact
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import write_text
from edge_deit.common.host import describe_host
from edge_deit.emulation.check import ArmResult
from edge_deit.emulation.figures import merged
from edge_deit.report.html import write_html
from edge_deit.report.report import Report, write_report
from exporters import tool_versions


def _matching(report: Report, found: Sequence[Artefact], path: Path) -> Report:
    """The report, if it knows every artefact."""
    known = {one.sha256 for one in report.artefacts}
    for one in found:
        if one.manifest.sha256 not in known:
            raise EdgeDeitError(
                f"{path} has no {one.path.name} (by sha256); run edge_deit.validate on it first"
            )
    return report


def _write(results: Sequence[ArmResult], path: Path) -> None:
    entries = [
        {
            "path": str(one.artefact.path),
            "sha256": one.artefact.manifest.sha256,
            "target": one.artefact.manifest.target,
            "precision": one.artefact.manifest.precision,
            "model": one.artefact.manifest.model,
            "arm64": one.arm64,
            "problems": list(one.problems),
        }
        for one in results
    ]
    content = {"environment": describe_host(tool_versions()), "artefacts": entries}
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _add(report: Report, results: Sequence[ArmResult], path: Path) -> None:
    """Put the result into a report, and into the HTML file beside it if there is one."""
    new = {one.artefact.manifest.sha256: one.arm64 for one in results}
    entries = tuple(
        replace(one, arm64=merged(one.arm64, new[one.sha256])) if one.sha256 in new else one
        for one in report.artefacts
    )
    report = replace(report, artefacts=entries)
    write_report(report, path)
    if (html := path.with_suffix(".html")).is_file():
        with ExitStack() as stack:
            root = Path(report.data.source)
            if report.data.source == "bundled":
                root = stack.enter_context(assets.validation_folder())
            write_html(report, html, data_root=root if root.is_dir() else None)


def _processors() -> int:
    """How many this process may use; macOS does not tell, so all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
