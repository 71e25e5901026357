"""One weights file -> the tensors of its model, whatever a training left around them."""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from edge_deit.checkpoint.sources import check_weights_file
from edge_deit.checkpoint.stored import StoredTensor, read_tensors
from edge_deit.checkpoint.torch_file import read_torch_file
from edge_deit.checkpoint.wrappers import find_model
from edge_deit.common.errors import EdgeDeitError, first_line

__all__ = ["Contents", "open_weights", "read_model"]

_UNREADABLE: Final = (  # what the readers raise on files that are cut short or of another kind
    SafetensorError, pickle.UnpicklingError, zipfile.BadZipFile, struct.error, RuntimeError, EOFError,
    ValueError, LookupError, TypeError, AttributeError, AssertionError, ArithmeticError, OSError,
)  # fmt: skip
_DTYPES: Final = {
    "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
    "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64, "U8": torch.uint8,
    "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip


@dataclass(frozen=True)
class Contents:
    """What a weights file holds: containers, tensors that are not read yet, safetensors' metadata."""

    path: Path
    loaded: object
    metadata: dict[str, str]


def open_weights(path: Path) -> Contents:
    """Names and shapes in a .safetensors file or one of PyTorch's; no code in it is run.

    Raises:
        EdgeDeitError: not such a file, or a damaged one.
    """
    check_weights_file(path)
    with _refusing(path):
        if path.name.lower().endswith(".safetensors"):
            return Contents(path, *_open_safetensors(path))
        return Contents(path, read_torch_file(path), {})


def read_model(
    contents: Contents, *, ema: bool = False
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of the one model in it, float32, without prefixes, and lines for the user.

    `ema` asks for averaged weights.

    Raises:
        EdgeDeitError: a model that cannot be told, or tensors that cannot be read.
    """
    found, notes = find_model(contents.path, contents.loaded, ema=ema)
    with _refusing(contents.path):
        return read_tensors(contents.path, found), notes


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise EdgeDeitError(
            f"weights {path} cannot be read as plain tensors: {first_line(error)}; the file is cut "
            "short, of another format than its name says, or holds code, which is never run"
        ) from error
    except MemoryError as error:
        raise EdgeDeitError(f"weights {path} need more memory than this machine gives") from error


def _open_safetensors(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Descriptions of the tensors and the metadata; a tied tensor's other names are in the metadata."""
    file: Any = safe_open(path, "pt")
    tensors = {name: _describe(file, name) for name in file.keys()}  # noqa: SIM118
    metadata: dict[str, str] = file.metadata() or {}
    for name in metadata:
        kept, steps = name, 0
        while kept not in tensors and kept in metadata and steps <= len(metadata):
            kept, steps = metadata[kept], steps + 1
        if kept in tensors:
            tensors.setdefault(name, tensors[kept])
    return tensors, metadata


def _describe(file: Any, name: str) -> StoredTensor:
    view = file.get_slice(name)
    shape = tuple(view.get_shape())
    kind = view.get_dtype()
    return StoredTensor(
        shape, _DTYPES.get(kind), math.prod(shape), name, lambda: file.get_tensor(name)
    )
