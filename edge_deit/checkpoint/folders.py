"""A folder of Hugging Face's or timm's: its tensors, in one file or in shards, and its config.json."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from edge_deit.checkpoint.families import check_model_type
from edge_deit.checkpoint.reading import Contents, open_weights, read_model
from edge_deit.checkpoint.sources import check_content
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path
from edge_deit.common.strict_json import read_json

__all__ = ["Folder", "is_described", "open_safetensors", "read_config", "read_folder"]

_WEIGHTS: Final = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_NAMED: Final = 3  # in a message


@dataclass(frozen=True)
class Folder:
    """What a folder holds: `state` under its publisher's names, the content of config.json, its hash.

    `weights` is the file, or the index of the shards; `sha256` is that of the file, or of the shards' names
    and hashes. `notes` are lines for the user.
    """

    weights: Path
    sha256: str
    state: dict[str, Tensor]
    metadata: dict[str, str]
    config: dict[str, Any]
    notes: tuple[str, ...]


def is_described(path: Path) -> bool:
    """Whether a file is a folder's weights, with the folder's config.json beside it."""
    return path.name in _WEIGHTS and (path.parent / "config.json").is_file()


def read_folder(folder: Path, *, ema: bool = False) -> Folder:
    """Read config.json and the tensors; `ema` asks for averaged weights.

    Raises:
        EdgeDeitError: a part that is missing, damaged, or an adapter's.
    """
    path, config = read_config(folder)
    if "architecture" not in config:  # timm's, which tells its family by name
        check_model_type(path, config)  # before its tensors, whose names say less
    there = [folder / name for name in _WEIGHTS if (folder / name).exists()]
    if not there:
        raise EdgeDeitError(
            f"{folder} has neither model.safetensors nor pytorch_model.bin{_files_there(folder)}"
        )
    if there[0].name.endswith(".index.json"):
        contents, digest = _open_shards(there[0])
    else:
        contents, digest = open_weights(there[0]), hash_path(there[0])
    state, notes = read_model(contents, ema=ema)
    return Folder(there[0], digest, state, contents.metadata, config, notes)


def read_config(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The path and the content of a folder's config.json.

    Raises:
        EdgeDeitError: there is none, it holds no JSON object, or the folder has an adapter's weights.
    """
    if (folder / "adapter_config.json").exists():
        raise EdgeDeitError(
            f"{folder} holds an adapter (adapter_config.json), not a model; merge it into its base first "
            "(peft: model.merge_and_unload().save_pretrained(...)) and name the new folder"
        )
    path = folder / "config.json"
    if not path.exists() and not path.is_symlink():
        raise EdgeDeitError(
            f"{folder} has no config.json; a Hugging Face or timm folder or a file is expected"
            f"{_files_there(folder)}"
        )
    check_content(path, "config")
    config = read_json(path)
    if not isinstance(config, dict):
        raise EdgeDeitError(f"{path} holds no JSON object")
    return path, config


def open_safetensors(folder: Path) -> tuple[Contents, str]:
    """The tensors of model.safetensors or its shards, and the hash of them; no other file is looked at.

    Raises:
        EdgeDeitError: neither is there, or one is damaged; it is named.
    """
    for name in _WEIGHTS[:2]:
        path = folder / name
        if path.exists():
            if name.endswith(".index.json"):
                return _open_shards(path)
            return open_weights(path), hash_path(path)
    there = _files_there(folder, words=", only {}, which is not read here")
    raise EdgeDeitError(
        f"{folder} has no model.safetensors{there}; transformers' model.save_pretrained(FOLDER) writes one"
    )


def _files_there(folder: Path, *, words: str = "; it has {}: name that file") -> str:
    """Weights files of other names, for a message."""
    try:
        names = sorted(
            p.name for p in folder.iterdir() if p.suffix in (".safetensors", ".pth", ".pt", ".bin")
        )
    except OSError as error:
        raise EdgeDeitError(f"{folder} cannot be listed: {error.strerror}") from error
    return words.format(", ".join(names[:_NAMED])) if names else ""


def _open_shards(index: Path) -> tuple[Contents, str]:
    """All shards as one, and the hash of their names and hashes."""
    check_content(index, "index")
    data = read_json(index)
    table = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise EdgeDeitError(f"{index} is not readable: it has no weight_map of names")
    tensors: dict[object, object] = {}
    metadata: dict[str, str] = {}
    digest = hashlib.sha256()
    for shard in sorted(set(table.values())):
        path = index.parent / shard
        if path.name != shard:
            raise EdgeDeitError(f"{index} names {shard!r:.60}, which lies outside its folder")
        contents = open_weights(path)
        if not isinstance(contents.loaded, Mapping):
            raise EdgeDeitError(f"weights {path} hold no state dict")
        if twice := sorted(map(str, tensors.keys() & contents.loaded.keys())):
            raise EdgeDeitError(f"{index}: {twice[0]} is in two shards, the second time in {shard}")
        tensors |= contents.loaded
        metadata |= contents.metadata
        digest.update(f"{shard} {hash_path(path)}\n".encode())
    return Contents(index, tensors, metadata), digest.hexdigest()
