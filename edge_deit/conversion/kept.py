"""Weights in few bits, kept in the user's cache under a name that follows from all they are made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edge_deit.common.cache import CacheFolder
from edge_deit.common.errors import EdgeDeitError
from edge_deit.conversion.conditioning import conditioning_cache
from edge_deit.conversion.context import ExportContext
from edge_deit.quantization.stored import recipe, tensors_hash

__all__ = ["kept"]

_HEADER: Final = "edge_deit.kept"
_LAYOUT: Final = 2
"""Version of the files' layout, to be raised with it."""


def kept(
    context: ExportContext,
    kind: str,
    what: str,
    make: Callable[[], tuple[dict[str, Tensor], str]],
) -> tuple[dict[str, Tensor], str]:
    """Tensors and a text from the cache, or made and kept there.

    `kind` names them to the user and in the file's name; `what` tells those of one kind apart. A broken
    entry is made anew, and a cache that cannot be written is done without; both are noted.
    """
    cache = conditioning_cache() if context.cached else None
    name = f"{kind.split()[0]}-{_key(context, what)}.safetensors"
    if cache is not None and (path := cache.find(name)) is not None:
        try:
            found = _read(path, kind)
        except EdgeDeitError as error:
            context.progress.note(f"{kind} are made anew: {error}")
        else:
            context.progress.note(f"{kind}: taken from {path} (--no-cache makes them anew)")
            return found
    tensors, text = make()
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    if cache is not None:
        try:
            _keep(cache, name, tensors, text)
        except OSError as error:
            context.progress.note(f"{kind} were not kept for the next export: {error}")
    return tensors, text


def _keep(cache: CacheFolder, name: str, tensors: dict[str, Tensor], text: str) -> None:
    metadata = {_HEADER: text, "hash": _hash(text, tensors)}

    def write(path: Path) -> None:
        try:
            save_file(tensors, path, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error

    cache.keep(name, write, sum(value.nbytes for value in tensors.values()))


def _read(path: Path, kind: str) -> tuple[dict[str, Tensor], str]:
    """What `_keep` wrote.

    Raises:
        EdgeDeitError: it cannot be read, or is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # no dict
        text = metadata[_HEADER]
        if metadata["hash"] != _hash(text, tensors):
            raise ValueError("its hash is another")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise EdgeDeitError(f"{path} holds no {kind}: {error}") from error
    return tensors, text


def _hash(text: str, tensors: Mapping[str, Tensor]) -> str:
    return hashlib.sha256(f"{text} {tensors_hash(tensors)}".encode()).hexdigest()


def _key(context: ExportContext, what: str) -> str:
    parts = {
        "layout": _LAYOUT,
        "what": what,
        "recipe": recipe(),
        "seed": context.seed,
        "config": asdict(context.form.config),
        "weights": tensors_hash(context.form.state_dict()),
        "preprocessing": context.checkpoint.preprocess.to_json(),
        "pixels": tensors_hash({"pixels": context.calibration.pixels}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
