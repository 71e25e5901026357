"""Exported files, each with the manifest that was read and verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_deit.artefacts.manifest import Manifest, read_manifest
from edge_deit.common.errors import EdgeDeitError

__all__ = ["Artefact", "read_artefacts"]


_CLASSES: Final = "classification"


@dataclass(frozen=True)
class Artefact:
    """A file and its manifest."""

    path: Path
    manifest: Manifest


def read_artefacts(paths: Sequence[Path]) -> list[Artefact]:
    """The artefacts, each one checked against its manifest.

    Raises:
        EdgeDeitError: one is missing or damaged, named twice, or returns no classes.
    """
    found = [Artefact(path, read_manifest(path)) for path in paths]
    for artefact in found:
        if artefact.manifest.task != _CLASSES:
            raise EdgeDeitError(
                f"{artefact.path} returns {artefact.manifest.task}, not classes: "
                "there is no answer to compare"
            )
    names = [artefact.path.resolve() for artefact in found]
    if twice := [path for path in names if names.count(path) > 1]:
        raise EdgeDeitError(f"{twice[0]} is named twice")
    return found
