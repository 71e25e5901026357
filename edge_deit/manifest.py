"""The manifest beside every artefact: what it is, what it takes, what it was made from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from edge_deit._atomic import write_text
from edge_deit.errors import EdgeDeitError
from edge_deit.preprocess import PreprocessSpec

__all__ = [
    "SCHEMA",
    "Manifest",
    "hash_path",
    "manifest_path",
    "read_manifest",
    "size_of",
    "tool_versions",
    "write_manifest",
]

SCHEMA: Final = 1
"""Version of the manifest's layout; a file with another one is refused."""

_PACKAGES: Final = (
    "torch",
    "executorch",
    "torchao",
    "coremltools",
    "litert-torch",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "onnx",
    "onnxruntime",
    "onnxscript",
)


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


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in _files(path))


def hash_path(path: Path) -> str:
    """sha256 of a file; of a folder, that of its sorted relative names and contents."""
    digest = hashlib.sha256()
    for file in _files(path):
        if path.is_dir():
            name = file.relative_to(path).as_posix().encode()
            digest.update(f"{len(name)}:{file.stat().st_size}:".encode() + name)
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def tool_versions() -> dict[str, str]:
    """Versions of Python and of those converters that are installed."""
    versions = {"python": platform.python_version(), "edge-deit": _version("edge-deit")}
    versions |= {name: _version(name) for name in _PACKAGES}
    return {name: version for name, version in versions.items() if version}


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


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
