"""Writes artefacts, labels and golden cases into the apps' projects."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_deit import __version__
from edge_deit.artefacts.manifest import manifest_path, read_manifest
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.quiet import quiet
from edge_deit.mobile.deliveries import PLACEHOLDERS, Artefact, Delivery
from edge_deit.mobile.golden import golden_cases, golden_spec, measured_logits, write_golden
from exporters import Target
from exporters import target as find_target

_SCHEMA: Final = 1


def _run_all(
    artefacts: list[Artefact], threads: int
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
        target = find_target(manifest.target)
        if reason := target.unchecked(manifest.backend) or _missing(target):
            notes.append(f"{artefact.path.name} was not run: {reason}")
            continue
        with quiet():
            stand_in = target.runs_on()
            found = measured_logits(target.load_runner(artefact.path, threads), manifest)
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


def _missing(target: Target) -> str | None:
    if missing := target.missing():
        return f"it needs {', '.join(missing)}: pip install 'edge-deit[{target.extra}]'"
    return None


@contextmanager
def _workplace(place: Path) -> Iterator[Path]:
    """A hidden folder beside `place`; it is gone afterwards, unless it holds the only former set."""
    place.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        yield work
    finally:
        if place.exists() or not (work / "former").exists():
            shutil.rmtree(work, ignore_errors=True)


def _stage(
    delivery: Delivery, work: Path, logits: Mapping[Path, dict[str, np.ndarray]]
) -> dict[str, Any]:
    """Build the whole new folder in `work / "new"`; returns its golden spec."""
    new = work / "new"
    new.mkdir()
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
    write_golden(new, spec, golden_cases(manifest, logits[source]))
    labels = "".join(f"{label}\n" for label in manifest.labels)
    (new / "labels.txt").write_text(labels, encoding="utf-8")
    table = {
        "schema": _SCHEMA,
        "created_by": f"edge-deit {__version__}",
        "artefacts": [artefact.to_json() for artefact in delivery.artefacts],
    }
    text = json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False)
    (new / "bundle.json").write_text(text + "\n", encoding="utf-8")
    for name in PLACEHOLDERS:
        if (delivery.place / name).is_file():
            shutil.copyfile(delivery.place / name, new / name)
    return spec


def _swap(place: Path, work: Path) -> None:
    """Put the new folder in place; whatever interrupts it, the former one or the new one is there."""
    former = work / "former"
    try:
        if place.exists():
            place.rename(former)
        (work / "new").rename(place)
    finally:
        if former.exists() and not place.exists():
            former.rename(place)


def _write(
    deliveries: list[Delivery], logits: Mapping[Path, dict[str, np.ndarray]]
) -> dict[str, Any]:
    """Stage all projects, then swap all; returns platform -> golden spec."""
    specs = {}
    with ExitStack() as stack:
        works = {}
        for delivery in deliveries:
            work = works[delivery.place] = stack.enter_context(_workplace(delivery.place))
            specs[delivery.platform.name] = _stage(delivery, work, logits)
        for place, work in works.items():
            _swap(place, work)
    return specs
