"""The float model of an artefact, also where its manifest is older than a field of the shape."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from conftest import TINY, random_model
from edge_deit.artefacts.artefact import Artefact
from edge_deit.artefacts.float_model import find_float_models
from edge_deit.artefacts.manifest import SCHEMA, Manifest
from edge_deit.checkpoint.load import load_model
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import default_spec
from edge_deit.model.config import DeiTConfig

LATER = ("layer_scale", "register_tokens", "family")


def artefact_of(folder: Path, config: DeiTConfig, **changes: Any) -> Artefact:
    """An artefact whose manifest describes the weights in `folder`, but for changes of its shape."""
    path = folder / "own.safetensors"
    save_checkpoint(path, random_model(config), default_spec(64), (), half=False)
    checkpoint = load_model(str(path))
    shape = asdict(checkpoint.config) | changes
    manifest = Manifest(
        schema=SCHEMA,
        artefact="a.onnx",
        sha256="0",
        size_bytes=1,
        target="onnx",
        backend="cpu",
        precision="fp32",
        model=checkpoint.name,
        task="classification",
        config={key: value for key, value in shape.items() if value is not None},
        weights={"source": str(path), "sha256": checkpoint.sha256},
        input={},
        output={},
        preprocessing=checkpoint.preprocess.to_json(),
        labels=list(checkpoint.labels),
        scheme={"precision": "fp32"},
        calibration=None,
        parity={},
        tools={},
    )
    return Artefact(folder / "a.onnx", manifest)


def test_older_manifests_fit(tmp_path: Path) -> None:
    new = artefact_of(tmp_path, TINY)
    shape = {key: value for key, value in new.manifest.config.items() if key not in LATER}
    old = replace(new, manifest=replace(new.manifest, config=shape))
    assert not set(LATER) & old.manifest.config.keys()
    (found,) = find_float_models([new, old], None)
    assert found.artefacts == (new, old)
    assert found.checkpoint.config == TINY


def test_family_is_a_name(tmp_path: Path) -> None:
    """`--model dino_small` names what tensors cannot tell, and the manifest keeps it."""
    artefact = artefact_of(tmp_path, TINY, family="dino")
    (found,) = find_float_models([artefact], None)
    assert found.checkpoint.config.family == "deit"


def test_another_shape_is_refused(tmp_path: Path) -> None:
    scaled = replace(TINY, layer_scale=True)
    for changes in ({"layer_scale": None}, {"layer_scale": False}, {"register_tokens": 1}):
        artefact = artefact_of(tmp_path, scaled, **changes)
        with pytest.raises(
            EdgeDeitError, match=r"other config than its weights \((layer|register)_"
        ):
            find_float_models([artefact], None)
