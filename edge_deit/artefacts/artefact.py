"""An exported file with its manifest: the one way in which every command opens one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_deit.artefacts.manifest import (
    Manifest,
    approximation_words,
    manifest_path,
    read_manifest,
)
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.opening import check_regular
from edge_deit.exporters import RUNTIMES, Runtime, runtime_of

__all__ = [
    "Artefact",
    "approximations",
    "check_classes",
    "check_one_photo",
    "no_classes",
    "read_artefact",
    "read_artefacts",
]

_CLASSES: Final = "classification"


@dataclass(frozen=True)
class Artefact:
    """An exported file or folder whose manifest was read and verified."""

    path: Path
    manifest: Manifest

    @property
    def engine_key(self) -> tuple[str, str]:
        """Target and backend."""
        return self.manifest.target, self.manifest.backend

    @property
    def runtime(self) -> Runtime:
        """What runs it here."""
        return runtime_of(*self.engine_key)


def read_artefact(path: Path) -> Artefact:
    """One artefact, verified before anything of it is used.

    Everything that its runtime will read is what the manifest's hash covers: a file, or a folder of plain
    files, that names nothing outside it.

    Raises:
        EdgeDeitError: it is missing, no file or folder of plain files, not what its manifest describes, of
            a target that there is not, or it refers to something outside.
    """
    check_regular(path, "artefact", or_folder=True)
    _check_folder(path)
    if os.path.lexists(manifest_path(path)):  # that it is missing is its reader's to say
        check_regular(manifest_path(path), "manifest")
    else:
        _check_named(path)
    artefact = Artefact(path, read_manifest(path))
    if artefact.manifest.target not in RUNTIMES:
        raise EdgeDeitError(
            f"{path.name} is made for {artefact.manifest.target!r}, which this version does not know; "
            f"it knows {', '.join(RUNTIMES)}"
        )
    runtime = artefact.runtime
    if path.is_dir() != runtime.folder:
        found, wanted = ("folder", "file") if path.is_dir() else ("file", "folder")
        raise EdgeDeitError(
            f"{path} is a {found}, and {runtime.suffix} is a {wanted}: export it again"
        )
    runtime.check(path)
    return artefact


def _check_named(path: Path) -> None:
    """Refuse what is no artefact, but lies in one or beside one, and name that."""
    if manifest_path(path.with_suffix("")) == path and path.with_suffix("").exists():
        raise EdgeDeitError(f"{path} is a manifest: name {path.with_suffix('')} itself")
    folders = {one.suffix for one in map(runtime_of, RUNTIMES) if one.folder}
    for folder in path.parents:
        if folder.suffix in folders:
            raise EdgeDeitError(f"{path} is a part of {folder}: name that folder")


def _check_folder(folder: Path) -> None:
    """Refuse a folder with links, pipes and the like in it, before any of it is read; files pass."""
    for entry in folder.rglob("*"):
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise EdgeDeitError(f"{entry} is no plain file; export the artefact again")


def check_classes(artefact: Artefact) -> None:
    """Refuse an artefact that has no answer to show or to compare.

    Raises:
        EdgeDeitError: it returns something else than one value for each label.
    """
    if (reason := no_classes(artefact.manifest)) is not None:
        raise EdgeDeitError(f"{artefact.path} {reason}")


def no_classes(manifest: Manifest) -> str | None:
    """Why there is no answer in an artefact, and what to do; None where there is."""
    if manifest.task == "masked-image":
        return (
            "reconstructs masked photos and has no classes to show or compare; run it in its own runtime, "
            "with the inputs that its manifest names, or export a classifier"
        )
    if manifest.task != _CLASSES:
        return (
            f"returns {manifest.task}, not classes: there is no answer in it; "
            f"export again with --task {_CLASSES}"
        )
    return None


def check_one_photo(artefact: Artefact, what: str) -> None:
    """Refuse an artefact that takes several photos at once, for `what`, which hands it one.

    Raises:
        EdgeDeitError: it says how to export it.
    """
    if (photos := artefact.manifest.photos_at_once) > 1:
        raise EdgeDeitError(
            f"{artefact.path.name} takes {photos} photos at once (--batch {photos}), and {what}: "
            "export it without --batch"
        )


def read_artefacts(paths: Sequence[Path]) -> list[Artefact]:
    """The artefacts, each one verified.

    Raises:
        EdgeDeitError: as `read_artefact`; or one is named twice, or returns no classes.
    """
    found = [read_artefact(path) for path in paths]
    for artefact in found:
        check_classes(artefact)
    names = [artefact.path.resolve() for artefact in found]
    if twice := [path for path in names if names.count(path) > 1]:
        raise EdgeDeitError(f"{twice[0]} is named twice")
    return found


def approximations(artefacts: Sequence[Artefact]) -> list[str]:
    """Which artefacts are not to be what the float model is, a line each."""
    return [
        f"{one.path.name} is an approximation: {words}; it is held against the float model, which merges "
        "none"
        for one in artefacts
        if (words := approximation_words(one.manifest))
    ]
