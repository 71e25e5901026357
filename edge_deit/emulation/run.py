"""Artefacts on emulated Arm cores, from files to results: what `arm64` runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edge_deit.artefacts.artefact import Artefact, check_one_photo, read_artefacts
from edge_deit.artefacts.float_model import find_float_models
from edge_deit.artefacts.photos import open_photos
from edge_deit.common.arguments import checked_arguments
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import write_text
from edge_deit.common.host import describe_host
from edge_deit.common.progress import SILENT, Progress
from edge_deit.common.whereabouts import shareable_names
from edge_deit.emulation.check import (
    ArmResult,
    Batch,
    check_emulated,
    check_native,
    fp32_artefacts,
    load_batch,
)
from edge_deit.emulation.emulator import require
from edge_deit.emulation.figures import NATIVE_NOTE, merged
from edge_deit.emulation.setup import native
from edge_deit.emulation.sysroot import Cpu, find_cpu
from edge_deit.exporters import tool_versions
from edge_deit.report.emulated import Emulated
from edge_deit.report.html import photo_root, write_html
from edge_deit.report.report import Report, read_report, write_report

__all__ = ["measure_arm64"]


@checked_arguments
def measure_arm64(
    artefacts: Sequence[Path],
    *,
    cpus: Sequence[str] = ("cortex-a76",),
    data: Path | None = None,
    split: str | None = None,
    images: int = 4,
    weights: str | None = None,
    fp32: Sequence[Path] = (),
    jobs: int | None = None,
    report: Path | None = None,
    output: Path = Path("report"),
    progress: Progress = SILENT,
) -> tuple[ArmResult, ...]:
    """Run artefacts on their runtimes' Arm builds under emulation and count instructions.

    `cpus` names the cores, `images` photos are spread evenly over `data`, `fp32` are artefacts that only
    the ratio needs, `jobs` is how many run at a time (None: one a processor). `arm64.json` goes into
    `output`; the figures are also added to `report`, a report.json of these artefacts, and to the page
    beside it.

    Raises:
        EdgeDeitError: the emulator is not set up, a file or a photo cannot be read or run, or the report
            knows nothing of an artefact.
    """
    workers = _processors() if jobs is None else jobs
    if min(images, workers) < 1:
        raise EdgeDeitError("--images and --jobs must be at least 1")
    cores = [find_cpu(name) for name in dict.fromkeys(cpus)]
    found = read_artefacts(artefacts)
    floats = fp32_artefacts(found, read_artefacts(fp32))
    for one in (*found, *floats):
        check_one_photo(one, "arm64 counts the instructions of one")
    former = None if report is None else _matching(read_report(report), found, report)
    if not native():
        require([one.manifest.target for one in found])
    elif report is not None:
        raise EdgeDeitError(f"{NATIVE_NOTE}; leave --report out, or run this on x86-64")
    models = find_float_models(found, weights)
    with open_photos(data, split, images, models) as listing:
        batches = [load_batch(model, [one.path for one in listing.photos]) for model in models]
    results = _check(batches, cores, floats, workers, progress)
    results.sort(key=lambda one: artefacts.index(one.artefact.path))
    output.mkdir(parents=True, exist_ok=True)
    _write(results, output / "arm64.json")
    if report is not None and former is not None:
        _add(former, results, report)
    return tuple(results)


def _check(
    batches: Sequence[Batch],
    cores: Sequence[Cpu],
    floats: Sequence[Artefact],
    workers: int,
    progress: Progress,
) -> list[ArmResult]:
    if native():
        return check_native(batches)
    return check_emulated(batches, cores, floats, workers, progress)


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
    names = shareable_names([one.artefact.path for one in results])
    entries = [
        {
            "path": name,
            "sha256": one.artefact.manifest.sha256,
            "target": one.artefact.manifest.target,
            "precision": one.artefact.manifest.precision,
            "model": one.artefact.manifest.model,
            "arm64": one.arm64,
            "problems": list(one.problems),
        }
        for name, one in zip(names, results, strict=True)
    ]
    content = {"environment": describe_host(tool_versions()), "artefacts": entries}
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _add(report: Report, results: Sequence[ArmResult], path: Path) -> None:
    """Put the result into a report, and into the HTML file beside it if there is one."""
    new = {one.artefact.manifest.sha256: one.arm64 for one in results}
    entries = tuple(
        replace(one, arm64=_joined(one.arm64, new[one.sha256])) if one.sha256 in new else one
        for one in report.artefacts
    )
    report = replace(report, artefacts=entries)
    write_report(report, path)
    if (page := path.with_suffix(".html")).is_file():
        with photo_root(report) as root:
            write_html(report, page, data_root=root)


def _joined(former: Emulated | None, new: Mapping[str, Any]) -> Emulated:
    return Emulated.from_dict(merged(None if former is None else asdict(former), new))


def _processors() -> int:
    """How many this process may use; macOS does not tell, so all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
