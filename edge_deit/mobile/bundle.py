"""Writes artefacts, labels and golden cases into the apps' projects."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_deit import __version__
from edge_deit.artefacts.artefact import Artefact, check_one_photo, read_artefact
from edge_deit.artefacts.manifest import manifest_path, read_manifest
from edge_deit.artefacts.runners import open_runner, patiently
from edge_deit.common.arguments import Threads, checked_arguments
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import SILENT, Progress
from edge_deit.mobile.deliveries import (
    Delivery,
    check_alone,
    check_together,
    plan_deliveries,
)
from edge_deit.mobile.golden import golden_cases, golden_spec, measured_logits, write_golden
from edge_deit.mobile.golden_images import PHOTOS
from edge_deit.mobile.replace import OWN_NAMES, owned_files, project_made, set_replaced
from edge_deit.mobile.templates import copy_template

__all__ = ["Bundled", "bundle_artefacts"]

_SCHEMA: Final = 1


@dataclass(frozen=True)
class Bundled:
    """What went into the apps.

    `specs` maps each platform to its golden spec; `notes` say what was not run here, or by a stand-in.
    """

    deliveries: tuple[Delivery, ...]
    specs: Mapping[str, Mapping[str, Any]]
    notes: tuple[str, ...]


@checked_arguments
def bundle_artefacts(
    artefacts: Sequence[Path],
    *,
    android: Path | None = None,
    ios: Path | None = None,
    web: Path | None = None,
    threads: Threads = 2,
    progress: Progress = SILENT,
) -> Bundled:
    """Put artefacts of one checkpoint, labels and golden cases into the apps' projects.

    Where nothing is, or an empty folder, a project is made from this package's template. Elsewhere they
    take the place of the former set; files that no bundle wrote stay. Everything is verified and
    written beside its place first, and each folder is exchanged in one step.

    Raises:
        EdgeDeitError: artefacts that cannot share an app or that it cannot run, no project, or a project
            that cannot be written; then it is as it was.
    """
    if threads < 1:
        raise EdgeDeitError(f"--threads is {threads}; it must be at least 1")
    chosen = [read_artefact(path) for path in artefacts]
    for artefact in chosen:
        check_one_photo(artefact, "the apps classify one at a time")
        check_alone(artefact)
    _check_names(chosen)
    deliveries = plan_deliveries(chosen, {"--android": android, "--ios": ios, "--web": web})
    check_together(chosen)
    logits, notes = _run_all(chosen, threads, progress)
    try:
        specs = _write(deliveries, logits)
    except OSError as error:
        raise EdgeDeitError(
            f"the bundle cannot be written, the project is as before: {error}"
        ) from error
    return Bundled(tuple(deliveries), specs, tuple(notes))


def _check_names(artefacts: Sequence[Artefact]) -> None:
    """Refuse an artefact that would overwrite a file which every bundle has."""
    for artefact in artefacts:
        for name in (artefact.path.name, manifest_path(artefact.path).name):
            if name.casefold() in OWN_NAMES:
                raise EdgeDeitError(
                    f"{artefact.path}: {name} is the name of a file that the bundle itself writes; "
                    "export it under another name"
                )


def _run_all(
    artefacts: list[Artefact], threads: int, progress: Progress
) -> tuple[dict[Path, dict[str, np.ndarray]], list[str]]:
    """Logits of all artefacts that run here, by path, and a line on each that does not quite.

    Those of a format's own runtime come before those of a stand-in.

    Raises:
        EdgeDeitError: none runs here, or one returns something else than finite logits.
    """
    real: dict[Path, dict[str, np.ndarray]] = {}
    by_stand_in: dict[Path, dict[str, np.ndarray]] = {}
    notes = []
    for artefact in artefacts:
        manifest = artefact.manifest
        runtime = artefact.runtime
        if reason := runtime.remedy():
            notes.append(f"{artefact.path.name} was not run: {reason}")
            continue
        stand_in = runtime.runs_on()
        with (
            patiently(artefact, PHOTOS, progress) as on_photo,
            open_runner(artefact, threads) as runner,
        ):
            found = measured_logits(runner, manifest, on_photo=on_photo)
        (by_stand_in if stand_in else real)[artefact.path] = found
        if stand_in:
            notes.append(f"{artefact.path.name}: {stand_in}")
    logits = real | by_stand_in
    if not logits:
        raise EdgeDeitError(
            f"{notes[0]}; the app's self-test needs logits: add an artefact of the same weights that "
            "runs here"
        )
    return logits, notes


def _stage(
    delivery: Delivery, new: Path, logits: Mapping[Path, dict[str, np.ndarray]]
) -> dict[str, Any]:
    """Build the whole new set in the folder `new`; returns its golden spec."""
    for artefact in delivery.artefacts:
        copy = new / artefact.path.name
        if artefact.path.is_dir():
            shutil.copytree(artefact.path, copy)
        else:
            shutil.copyfile(artefact.path, copy)
        shutil.copyfile(manifest_path(artefact.path), manifest_path(copy))
        if read_manifest(copy) != artefact.manifest:
            raise EdgeDeitError(f"{artefact.path} was replaced while it was copied; run it again")
    own = [artefact.path for artefact in delivery.artefacts]
    source = next((path for path in logits if path in own), next(iter(logits)))
    manifest = read_manifest(source)
    spec = golden_spec(manifest)
    others = {path.name: logits[path] for path in own if path in logits and path != source}
    write_golden(new, spec, golden_cases(manifest, logits[source], others))
    labels = "".join(f"{label}\n" for label in manifest.labels)
    (new / "labels.txt").write_text(labels, encoding="utf-8")
    table = {
        "schema": _SCHEMA,
        "created_by": f"edge-deit {__version__}",
        "artefacts": [_entry(artefact) for artefact in delivery.artefacts],
    }
    text = json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False)
    (new / "bundle.json").write_text(text + "\n", encoding="utf-8")
    return spec


def _entry(artefact: Artefact) -> dict[str, Any]:
    """One artefact in `bundle.json`."""
    return {
        "file": artefact.path.name,
        "manifest": manifest_path(artefact.path).name,
        "sha256": artefact.manifest.sha256,
        "size_bytes": artefact.manifest.size_bytes,
        "target": artefact.manifest.target,
        "precision": artefact.manifest.precision,
        "model": artefact.manifest.model,
    }


def _write(
    deliveries: Sequence[Delivery], logits: Mapping[Path, dict[str, np.ndarray]]
) -> dict[str, Any]:
    """Stage all projects, then exchange all folders; returns platform -> golden spec."""
    specs = {}
    with ExitStack() as stack:
        for delivery in deliveries:
            if delivery.new:
                project = stack.enter_context(project_made(delivery.project))
                copy_template(delivery.platform.name, project)
                new = project / delivery.platform.place
                new.mkdir(parents=True, exist_ok=True)
            else:
                former = owned_files(delivery.place)
                new = stack.enter_context(set_replaced(delivery.place, former))
            specs[delivery.platform.name] = _stage(delivery, new, logits)
    return specs
