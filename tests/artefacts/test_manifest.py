"""Manifests: round trip, hashes, and refusal of what does not belong together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from artefact_examples import manifest_of

from edge_deit.artefacts.manifest import (
    SCHEMA,
    approximation_words,
    manifest_path,
    read_manifest,
    write_manifest,
)
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path
from edge_deit.data.preprocess import PreprocessSpec


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    path = tmp_path / "model.int8.onnx"
    path.write_bytes(b"weights")
    write_manifest(manifest_of(path, labels=["Übergröße"]), manifest_path(path))
    return path


def test_round_trip(artefact: Path) -> None:
    manifest = read_manifest(artefact)
    assert manifest.labels == ["Übergröße"]
    assert manifest.preprocess_spec == PreprocessSpec()
    assert manifest.size_bytes == 7


def test_changed_artefact(artefact: Path) -> None:
    artefact.write_bytes(b"weight")
    with pytest.raises(EdgeDeitError, match="sha256 differs"):
        read_manifest(artefact)


def test_missing_artefact_and_manifest(artefact: Path) -> None:
    with pytest.raises(EdgeDeitError, match="does not exist"):
        read_manifest(artefact.with_name("other.onnx"))
    manifest_path(artefact).unlink()
    with pytest.raises(EdgeDeitError, match="does not exist; export"):
        read_manifest(artefact)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "schema null"),
        ('{"schema": 999}', "schema 999, this version reads"),
        (f'{{"schema": {SCHEMA}}}', "artefact is missing"),
    ],
)
def test_manifest_of_another_kind(artefact: Path, text: str, message: str) -> None:
    manifest_path(artefact).write_text(text, encoding="utf-8")
    with pytest.raises(EdgeDeitError, match=message):
        read_manifest(artefact)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"agreement": 17.5},
            r"approximation\.agreement is 17\.5; it must be a number from 0 to 1",
        ),
        (
            {"agreement": -1.0},
            r"approximation\.agreement is -1\.0; it must be a number from 0 to 1",
        ),
        (
            {"merged": [1] * 1000},
            "names 1000 tokens in 1000 blocks; it must have a number for each",
        ),
        ({"merged": []}, "names 0 tokens in 0 blocks"),
        ({"more": 1}, r"approximation\.more is unknown"),
    ],
)
def test_an_approximation_that_cannot_be(
    artefact: Path, change: dict[str, object], message: str
) -> None:
    entries = json.loads(manifest_path(artefact).read_text(encoding="utf-8"))
    depth = entries["config"]["depth"] = 2
    good = {
        "method": "token-merging",
        "merged": [1] * depth,
        "images": 9,
        "agreement": 1.0,
        "snr_db": None,
    }
    entries["approximation"] = good
    manifest_path(artefact).write_text(json.dumps(entries), encoding="utf-8")
    assert approximation_words(read_manifest(artefact)) == f"{depth} tokens become part of others"
    entries["approximation"] = good | change
    manifest_path(artefact).write_text(json.dumps(entries), encoding="utf-8")
    with pytest.raises(EdgeDeitError, match=message):
        read_manifest(artefact)


def test_nan_is_never_written(artefact: Path) -> None:
    before = manifest_path(artefact).read_text(encoding="utf-8")
    broken = replace(read_manifest(artefact), parity={"cosine": float("nan")})
    with pytest.raises(EdgeDeitError, match="not JSON compliant"):
        write_manifest(broken, manifest_path(artefact))
    assert manifest_path(artefact).read_text(encoding="utf-8") == before
    assert json.loads(before)["schema"] == SCHEMA


def test_folder_hash_sees_names_and_contents(tmp_path: Path) -> None:
    for folder, name, text in (("a", "x", "1"), ("b", "x", "2"), ("c", "y", "1"), ("d", "x", "1")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text, encoding="utf-8")
    hashes = [hash_path(tmp_path / folder) for folder in "abcd"]
    assert hashes[0] == hashes[3]
    assert len(set(hashes)) == 3
