"""The state of an interrupted training: what is kept, and whether it belongs to the run that goes on."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.common.files import replacing
from edge_deit.data.listing import Photo
from edge_deit.training.device import on_cpu
from edge_deit.training.log import Log
from edge_deit.training.recipe import Recipe

__all__ = ["RunKey", "photo_list_hash", "restore_state", "save_state"]

_SCHEMA: Final = 5
_UNREADABLE: Final = (
    *(RuntimeError, ValueError, KeyError, OSError, EOFError, TypeError, AttributeError),
    *(pickle.UnpicklingError, struct.error, IndexError, AssertionError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError),
)
_WORDS: Final = {
    "batch_size": "batch size (all processes together)",
    "labels": "classes",
    "photos": "training photos",
    "start": "start weights",
    "teacher": "teacher",
    "validation": "validation photos",
}
"""Entry of a key -> what a user calls it; others are called as the option is."""


@dataclass(frozen=True)
class RunKey:
    """What a run depends on beside its recipe; a state of another key is not gone on from.

    `photos` is the hash of the list of photos and their classes, `start` the sha256 of the weights that
    training began with ("none" for random ones), `teacher` the hash of its teacher, `validation`
    the hash of the photos that the best epoch is chosen on ("none" without either).
    """

    labels: tuple[str, ...]
    photos: str
    image_size: int
    start: str
    teacher: str
    preprocessing: Mapping[str, Any]
    validation: str = "none"
    quantize: str = "none"


def photo_list_hash(photos: Sequence[Photo], root: Path) -> str:
    """sha256 of the photos' names below `root`, their sizes and their classes, in order."""
    digest = hashlib.sha256()
    for photo in photos:
        name = photo.path.relative_to(root) if photo.path.is_relative_to(root) else photo.path
        size = photo.path.stat().st_size
        digest.update(f"{name.as_posix()!a}\0{size}\0{photo.label}\n".encode())
    return digest.hexdigest()


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    key: RunKey,
    step: int,
    scaler: torch.amp.GradScaler | None = None,
    log: Log | None = None,
    average: nn.Module | None = None,
) -> None:
    """Write the state, whole or not at all; its tensors are the processor's, whatever trains."""
    state = {
        "schema": _SCHEMA,
        "recipe": asdict(recipe),
        "key": _plain(asdict(key)),
        "step": step,
        "model": on_cpu(dict(model.state_dict())),
        "optimizer": on_cpu(optimizer.state_dict()),
        "scaler": scaler.state_dict() if scaler else {},
        "log": (log or Log()).to_state(),
        "average": {} if average is None else on_cpu(dict(average.state_dict())),
    }
    buffer = io.BytesIO()  # torch's own writer hides why a file cannot be written
    torch.save(state, buffer)
    with replacing(path) as partial:
        partial.write_bytes(buffer.getbuffer())


def restore_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    key: RunKey,
    scaler: torch.amp.GradScaler | None = None,
    log: Log | None = None,
    average: nn.Module | None = None,
) -> int:
    """Put a state into model, optimizer, log and average; returns the steps that were done.

    The scaler goes on with its factor where the state has one: that of a run in float16.

    Raises:
        EdgeDeitError: no state, a damaged or foreign one, or one of a run with other options.
    """
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise EdgeDeitError(f"nothing to resume: {path} {what}; leave --resume out")
    try:
        _check_whole(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or state.get("schema") != _SCHEMA:
            raise ValueError("it was written by another version or program")
        _compare(path, state["recipe"], asdict(recipe), "options")
        _compare(path, state["key"], _plain(asdict(key)), "data")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if average is not None:
            average.load_state_dict(state["average"])
        if scaler is not None and scaler.is_enabled() and state["scaler"]:
            scaler.load_state_dict(state["scaler"])
        (Log() if log is None else log).restore(state["log"])
        step = state["step"]
        if type(step) is not int or step < 0:
            raise ValueError(f"its step is {step!r}")
    except _UNREADABLE as error:
        raise EdgeDeitError(
            f"{path} is no whole training state: {first_line(error)}; leave --resume out to begin again"
        ) from error
    return step


def _check_whole(path: Path) -> None:
    """Hold the file against the checksums in it, which PyTorch writes and does not read.

    Raises:
        ValueError: a part of it was changed.
    """
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} in it was changed")


def _plain(data: Any) -> Any:
    """Tuples as lists, so that what was read compares with what was written."""
    if isinstance(data, Mapping):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    return data


def _compare(path: Path, saved: Any, wanted: Mapping[str, Any], what: str) -> None:
    if not isinstance(saved, dict):
        raise ValueError(f"it has no {what}")
    for name, value in wanted.items():
        if name not in saved:
            raise ValueError(f"it does not say {name}")
        if (was := saved[name]) != value:
            raise EdgeDeitError(
                f"{path} is of a run with {_WORDS.get(name, name.replace('_', ' '))} {_shown(was)}, "
                f"this one has {_shown(value)}; repeat what that run was given, or leave --resume out"
            )


def _shown(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, list):
        names = [str(one) for one in value]
        return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
