"""The float model that artefacts are measured against, found from their manifests."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_deit.artefacts.artefact import Artefact
from edge_deit.artefacts.manifest import Manifest
from edge_deit.checkpoint.load import Checkpoint
from edge_deit.checkpoint.options import LoadOptions
from edge_deit.checkpoint.sources import is_path
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.whereabouts import recall
from edge_deit.data.labels import numbered
from edge_deit.model.config import DeiTConfig
from edge_deit.model.outputs import as_runner

__all__ = ["FloatModel", "find_float_models"]

_NEAR: Final = 3  # from a folder's onnx/model.onnx up to where the folder lies


@dataclass(frozen=True)
class FloatModel:
    """A float checkpoint, the artefacts made from it, and the options that loading it took."""

    checkpoint: Checkpoint
    weights: str
    artefacts: tuple[Artefact, ...]
    options: LoadOptions = field(default_factory=LoadOptions)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """(1, 3, H, W) pixels -> (1, K) logits, by PyTorch."""
        return as_runner(self.checkpoint.model)(pixels)


def find_float_models(artefacts: Sequence[Artefact], weights: str | None) -> list[FloatModel]:
    """One float model for each set of weights, preprocessing and labels; `weights` says where they are now.

    Names that were given at the export count where the weights name no classes.

    Raises:
        EdgeDeitError: weights that are missing, or not those that an artefact was made from; a manifest
            whose preprocessing, labels or shape are not the weights'.
    """
    groups: dict[str, list[Artefact]] = {}
    for artefact in artefacts:
        manifest = artefact.manifest
        key = [manifest.weights, manifest.preprocessing, _config(manifest), manifest.labels]
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(artefact)
    return [_float_model(group, weights) for group in groups.values()]


def _float_model(group: Sequence[Artefact], weights: str | None) -> FloatModel:
    manifest = group[0].manifest
    source = weights or _source(group[0])
    options = LoadOptions.from_json(manifest.weights.get("options", {}))
    try:
        checkpoint = options.load(source, image_size=manifest.image_size)
    except EdgeDeitError as error:
        raise EdgeDeitError(
            f"the float model of {group[0].path.name} cannot be loaded: {error}; "
            "--weights says where it is now"
        ) from error
    if numbered(checkpoint.labels) and len(manifest.labels) == len(checkpoint.labels):
        checkpoint = replace(checkpoint, labels=tuple(manifest.labels))
    for artefact in group:
        _check(artefact, checkpoint, source)
    return FloatModel(checkpoint, source, tuple(group), options)


def _source(artefact: Artefact) -> str:
    """Where the weights are: as the manifest names them, where they were noted, or near the artefact."""
    named, sha256 = artefact.manifest.weights["source"], artefact.manifest.weights["sha256"]
    if not is_path(named):
        return named
    near = [folder / named for folder in artefact.path.absolute().parents[:_NEAR]]
    places = [recall(sha256), Path(named), *near]
    return str(next((place for place in places if place and os.path.exists(place)), named))


def _config(manifest: Manifest) -> dict[str, Any]:
    """The shape that a manifest tells; what older ones do not say has its default."""
    return {one.name: one.default for one in fields(DeiTConfig)} | manifest.config


def _check(artefact: Artefact, checkpoint: Checkpoint, source: str) -> None:
    """Refuse a manifest that does not describe these weights."""
    manifest, name = artefact.manifest, artefact.path.name
    if manifest.weights["sha256"] != checkpoint.sha256:
        raise EdgeDeitError(
            f"{source} is not the float model of {name}: sha256 {checkpoint.sha256[:12]}, the artefact "
            f"was made from {manifest.weights['sha256'][:12]}; give the right --weights, or export again"
        )
    said_config = _config(manifest)
    family = {"family": said_config["family"]}  # a name that --model may have given
    pairs = {
        "preprocessing": (manifest.preprocessing, checkpoint.preprocess.to_json()),
        "labels": (manifest.labels, list(checkpoint.labels)),
        "config": (said_config, asdict(checkpoint.config) | family),
    }
    for what, (said, true) in pairs.items():
        if json.loads(json.dumps(said)) != json.loads(json.dumps(true)):
            raise EdgeDeitError(
                f"the manifest of {name} has other {what} than its weights{_difference(said, true)}; "
                "it was edited, or belongs to another artefact: export again"
            )


def _difference(said: object, true: object) -> str:
    """The first entry that differs, for a message."""
    if isinstance(said, dict) and isinstance(true, dict):
        for key in sorted(said.keys() | true.keys()):
            if json.dumps(said.get(key)) != json.dumps(true.get(key)):
                return f" ({key} {said.get(key)}, not {true.get(key)})"
    return ""
