"""Tensors as a file describes them, before their values are read."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import torch
from torch import Tensor

from edge_deit.common.errors import EdgeDeitError

__all__ = ["StoredTensor", "check_total", "read_tensors"]

_FLOATS: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SHARED: Final = 2  # tied tensors: a file may claim so many times the values that it holds
_FLOAT32_BYTES: Final = 4


@dataclass(frozen=True)
class StoredTensor:
    """Shape and type of one tensor in a file, and how to read it.

    `dtype` is None for a tensor that is not plain (sparse, quantized, without
    values). `stored` is the number of values in the file's `storage`, which tied tensors share.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype | None
    stored: int
    storage: object
    read: Callable[[], Tensor]

    @property
    def count(self) -> int:
        """Number of values that the shape asks for."""
        return math.prod(self.shape)

    def __setstate__(self, state: object) -> NoReturn:
        raise ValueError("a pickle that changes a tensor's description is not read")


def read_tensors(path: Path, tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """The values as contiguous float32, after what the file claims was held against what it stores.

    Raises:
        EdgeDeitError: a tensor that is not plain floating point, or larger than what is stored for it.
    """
    for name, one in tensors.items():
        if one.dtype is None:
            raise EdgeDeitError(
                f"weights {path} hold something else than a plain tensor under {name}"
            )
        if one.dtype not in _FLOATS:
            raise EdgeDeitError(
                f"weights {path}: {name} is {one.dtype}; float of 16, 32 or 64 bits is expected"
            )
        if one.count > one.stored:
            raise EdgeDeitError(
                f"weights {path}: {name} of shape {one.shape} asks for {one.count} values, the file "
                f"stores {one.stored} for it; save it with tensor.contiguous().clone()"
            )
    check_total(path, tensors.values())
    return {
        name: one.read().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, one in tensors.items()
    }


def check_total(path: Path, tensors: Iterable[StoredTensor]) -> None:
    """Many tensors over one storage, and more than the machine has memory for, are refused unread.

    Raises:
        EdgeDeitError: one or the other.
    """
    stored = sum({one.storage: one.stored for one in tensors}.values())
    claimed = sum(one.count for one in tensors)
    if claimed > _SHARED * stored:
        raise EdgeDeitError(
            f"weights {path}: its tensors ask for {claimed} values, the file stores {stored}; save them "
            "with tensor.contiguous().clone()"
        )
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if claimed * _FLOAT32_BYTES > memory_bytes:
        raise EdgeDeitError(
            f"weights {path} need {claimed * _FLOAT32_BYTES / 1e9:.0f} GB of memory, this machine has "
            f"{memory_bytes / 1e9:.0f} GB"
        )
