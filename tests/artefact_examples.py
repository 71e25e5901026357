"""Copies of exported files that a test may damage, pixels for the tiny model, and a manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_deit.artefacts.manifest import SCHEMA, Manifest, manifest_path
from edge_deit.common.files import hash_path, size_of
from edge_deit.data.preprocess import PreprocessSpec


def pixels_for(seed: int) -> np.ndarray:
    """(1, 3, 64, 64) normally distributed pixels."""
    generator = np.random.default_rng(seed)
    return generator.standard_normal((1, 3, 64, 64)).astype(np.float32)


def copy_of(artefact: Path, folder: Path) -> Path:
    """The artefact and its manifest, in another folder."""
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / artefact.name
    if artefact.is_dir():
        shutil.copytree(artefact, copy)
    else:
        shutil.copyfile(artefact, copy)
    shutil.copyfile(manifest_path(artefact), manifest_path(copy))
    return copy


def sign(artefact: Path, **changes: object) -> None:
    """Make the manifest fit the changed file, as somebody would who made it up; an inner hash too."""
    inner = artefact / "main.hash"
    if inner.is_file() and inner.stat().st_size == hashlib.sha256().digest_size:
        program = (artefact / "main.mlirb").read_bytes()
        inner.write_bytes(hashlib.sha256(program).digest())
    path = manifest_path(artefact)
    data = json.loads(path.read_text(encoding="utf-8"))
    data |= {"sha256": hash_path(artefact), "size_bytes": size_of(artefact), **changes}
    path.write_text(json.dumps(data), encoding="utf-8")


def mutate(artefact: Path, original: Path, generator: np.random.Generator) -> str:
    """Overwrite one to eight bytes of a fresh copy of `original` at `artefact`; says where.

    Half of the places are drawn near the ends of a file, where formats keep what holds the rest together.
    """
    if original.is_dir():
        shutil.rmtree(artefact, ignore_errors=True)
        shutil.copytree(original, artefact)
        files = sorted(path for path in artefact.rglob("*") if path.is_file())
        file = files[generator.integers(len(files))]
    else:
        file = artefact
        shutil.copyfile(original, file)
    content = bytearray(file.read_bytes())
    count = int(generator.integers(1, 9))
    last = len(content) - count
    near = int(generator.integers(min(last, 8000) + 1))
    place = (int(generator.integers(last + 1)), near, last - near)[
        generator.choice(3, p=(0.5, 0.25, 0.25))
    ]
    content[place : place + count] = generator.integers(0, 256, count, dtype=np.uint8).tobytes()
    file.write_bytes(content)
    sign(artefact)
    return f"{count} bytes at {place} of {file.name}"


def make_abort(artefact: Path) -> None:
    """Damage a `.pte` so that its runtime ends the process: it cannot say the name of the backend."""
    content = artefact.read_bytes()
    assert content.count(b"XnnpackBackend") == 1
    artefact.write_bytes(content.replace(b"XnnpackBackend", b"\xffnnpackBackend"))
    sign(artefact)


def manifest_of(path: Path, **changes: Any) -> Manifest:
    """A sound manifest of a file that no exporter wrote."""
    made = Manifest(
        schema=SCHEMA,
        artefact=path.name,
        sha256=hash_path(path),
        size_bytes=size_of(path),
        target="onnx",
        backend="cpu",
        precision="int8",
        model="deit_tiny",
        task="classification",
        config={"image_size": 224},
        weights={"source": "bundled", "sha256": "0" * 64},
        input={"name": "pixels", "shape": [1, 3, 224, 224], "dtype": "float32"},
        output={"name": "logits", "shape": [1, 10], "dtype": "float32"},
        preprocessing=PreprocessSpec().to_json(),
        labels=[],
        scheme={"precision": "int8"},
        calibration=None,
        parity={},
        tools={},
    )
    return replace(made, **changes)
