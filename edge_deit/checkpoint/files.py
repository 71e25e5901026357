"""Weights files as they lie on disk or hub -> tensors under our own names, and what the files say."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from edge_deit import assets
from edge_deit.checkpoint.hub import download
from edge_deit.checkpoint.huggingface import config_from_json, labels_from_json
from edge_deit.checkpoint.processors import spec_for_file, spec_from_folder
from edge_deit.checkpoint.tensor_names import (
    config_from_tensors,
    from_hugging_face,
    is_hugging_face,
)
from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.common.files import hash_path
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.config import DeiTConfig

__all__ = ["CONFIG_KEY", "LABELS_KEY", "PREPROCESS_KEY", "RawCheckpoint", "read_weights"]

CONFIG_KEY: Final = "edge_deit_config"
PREPROCESS_KEY: Final = "edge_deit_preprocess"
LABELS_KEY: Final = "edge_deit_labels"
"""Metadata of our own safetensors files: each holds JSON."""

_UNREADABLE: Final = (  # what the readers raise on files that are cut short or of another kind
    SafetensorError, pickle.UnpicklingError, struct.error, RuntimeError, EOFError, ValueError,
    LookupError, TypeError, AttributeError, AssertionError, OverflowError, OSError,
)  # fmt: skip


@dataclass(frozen=True)
class RawCheckpoint:
    """Tensors under our own names, and what the files said about them."""

    path: Path
    sha256: str
    state: dict[str, Tensor]
    config: DeiTConfig
    preprocess: PreprocessSpec
    labels: tuple[str, ...]
    new_heads: bool = False


def read_weights(
    weights: str, expected: DeiTConfig | None, cache_dir: Path | None
) -> RawCheckpoint:
    """Read `bundled`, a file, a folder, or `hub:ORG/NAME[@REVISION]`; nothing is checked against a model.

    `expected` is the variant asked for: it tells the number of heads where tensors do not.

    Raises:
        EdgeDeitError: weights that are missing, cannot be read or fetched, or are no DeiT's.
    """
    if weights == "bundled":
        with assets.bundled_checkpoint() as path:
            if not path.is_file():
                raise EdgeDeitError(
                    "this installation has no bundled weights; name some, --weights"
                )
            return _read_file(path, expected)
    hub = weights.startswith("hub:")
    path = download(weights[4:], cache_dir) if hub else Path(weights)
    return _read_folder(path) if path.is_dir() else _read_file(path, expected)


def _tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """State dict and safetensors metadata of one file; pickles only with `weights_only`."""
    if not path.is_file():
        raise EdgeDeitError(
            f"weights {path} do not exist; give a file, a folder, hub:ORG/NAME or bundled"
        )
    if path.suffix not in (".safetensors", ".pth", ".pt", ".bin"):
        raise EdgeDeitError(f"weights {path}: .safetensors, .pth, .pt or .bin is expected")
    metadata: dict[str, str] = {}
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                loaded: object = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                metadata = file.metadata() or {}
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise EdgeDeitError(
            f"weights {path} cannot be read as plain tensors: {first_line(error)}; the file is cut "
            "short, of another format than its name says, or holds code, which is never run"
        ) from error
    return _state_dict(loaded, path), metadata


def _state_dict(loaded: object, path: Path) -> dict[str, Tensor]:
    """Float tensors by name, also where they are wrapped as the original's releases are."""
    for key in ("model", "state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise EdgeDeitError(f"weights {path} hold no state dict")
    state = {}
    for key, value in loaded.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta:
            raise EdgeDeitError(
                f"weights {path} hold something else than a plain tensor under {key}"
            )
        if not value.is_floating_point():
            raise EdgeDeitError(f"weights {path}: {key} is {value.dtype}; float is expected")
        state[str(key).removeprefix("module.")] = value.detach().to(
            torch.float32, copy=True, memory_format=torch.contiguous_format
        )
    return state


def _read_file(path: Path, expected: DeiTConfig | None) -> RawCheckpoint:
    state, metadata = _tensors(path)
    digest = hash_path(path)
    if is_hugging_face(set(state)):
        raise EdgeDeitError(
            f"{path} has Hugging Face's names; give its folder, so that config.json is read too"
        )
    if CONFIG_KEY in metadata:
        try:
            config = DeiTConfig(**json.loads(metadata[CONFIG_KEY]))
            spec = PreprocessSpec.from_json(json.loads(metadata[PREPROCESS_KEY]))
            labels = tuple(str(label) for label in json.loads(metadata[LABELS_KEY]))
        except (KeyError, TypeError, ValueError, EdgeDeitError) as error:
            raise EdgeDeitError(f"{path} describes itself wrongly: {error}") from error
        return RawCheckpoint(path, digest, state, config, spec, labels)
    config = config_from_tensors(path, state, expected)
    spec, _ = spec_for_file(path, config.image_size, distilled=config.distilled)
    return RawCheckpoint(path, digest, state, config, spec, ())


def _read_folder(folder: Path) -> RawCheckpoint:
    if not (folder / "config.json").is_file():
        raise EdgeDeitError(
            f"{folder} has no config.json; a Hugging Face folder or a file is expected"
        )
    path, digest, state = _folder_state(folder)
    config = config_from_json(folder / "config.json", set(state))
    labels = labels_from_json(folder / "config.json", config.num_classes)
    data = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    spec, _ = spec_from_folder(folder, data, config.image_size)
    return RawCheckpoint(path, digest, from_hugging_face(state), config, spec, labels)


def _folder_state(folder: Path) -> tuple[Path, str, dict[str, Tensor]]:
    index = folder / "model.safetensors.index.json"
    for name in ("model.safetensors", index.name, "pytorch_model.bin"):
        path = folder / name
        if path.is_file() and path != index:
            return path, hash_path(path), _tensors(path)[0]
        if path.is_file():
            break
    else:
        raise EdgeDeitError(f"{folder} has neither model.safetensors nor pytorch_model.bin")
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise EdgeDeitError(f"{index} is not readable: {error}") from error
    state: dict[str, Tensor] = {}
    digest = hashlib.sha256()
    for shard in shards:
        if Path(str(shard)).name != shard:
            raise EdgeDeitError(f"{index} names {shard!r}, which lies outside its folder")
        state |= _tensors(folder / shard)[0]
        digest.update(f"{shard} {hash_path(folder / shard)}\n".encode())
    return index, digest.hexdigest(), state
