"""The manifest beside every artefact: what it is, what it takes, what it was made from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path, write_text
from edge_deit.data.preprocess import PreprocessSpec

__all__ = ["SCHEMA", "Manifest", "manifest_path", "read_manifest", "write_manifest"]

SCHEMA: Final = 1
"""Version of the manifest's layout; a file with another one is refused."""


@dataclass(frozen=True)
class Manifest:
    """All that a runner, a phone app or a validator needs to know about one artefact.

    `weights` is the float baseline: `source` as it was named and the `sha256` of its file. `input` and
    `output` hold `name`, `shape`, `dtype`. `scheme` holds `precision`, `keep_float` and the integer
    `layers`. `calibration` is null for precisions without one. `parity` is what the export measured.
    """

    schema: int
    artefact: str
    sha256: str
    size_bytes: int
    target: str
    backend: str
    precision: str
    model: str
    task: str
    config: dict[str, Any]
    weights: dict[str, str]
    input: dict[str, Any]
    output: dict[str, Any]
    preprocessing: dict[str, Any]
    labels: list[str]
    scheme: dict[str, Any]
    calibration: dict[str, Any] | None
    parity: dict[str, Any]
    tools: dict[str, str]

    @property
    def preprocess_spec(self) -> PreprocessSpec:
        """The preprocessing as the Python code takes it."""
        return PreprocessSpec.from_json(self.preprocessing)


def manifest_path(artefact: Path) -> Path:
    """`model.int8.tflite` -> `model.int8.tflite.json`, beside it."""
    return artefact.with_name(artefact.name + ".json")


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write it as JSON, whole or not at all."""
    text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_manifest(artefact: Path) -> Manifest:
    """The manifest of an artefact, checked against it.

    Raises:
        EdgeDeitError: no such artefact or manifest, not JSON, made by another version, or the artefact
            is not the one the manifest describes.
    """
    if not artefact.exists():
        raise EdgeDeitError(f"artefact {artefact} does not exist")
    path = manifest_path(artefact)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EdgeDeitError(f"{path} is missing; export the artefact again") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EdgeDeitError(f"{path} is not JSON ({error}); export the artefact again") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else None
        raise EdgeDeitError(
            f"{path} has schema {found}, this version reads {SCHEMA}; export the artefact again"
        )
    expected = {field.name for field in fields(Manifest)}
    if wrong := sorted(expected ^ data.keys()):
        raise EdgeDeitError(f"{path} lacks or adds {', '.join(wrong)}; export the artefact again")
    manifest = Manifest(**data)
    if hash_path(artefact) != manifest.sha256:
        raise EdgeDeitError(
            f"{artefact} is not the file that {path.name} describes (sha256 differs): it was changed, "
            "cut short, or the manifest belongs to another export; export it again"
        )
    return manifest
