"""What stands for torch._utils' functions in a pickle: tensors are described, not read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

import torch
from torch import Tensor

from edge_deit.checkpoint.stored import StoredTensor

__all__ = ["REBUILD", "STORAGES", "Function", "Records", "Storage"]


class Records(Protocol):
    """Where the storages' bytes lie."""

    def read(self, key: str, size_bytes: int) -> bytearray:
        """All bytes of one storage; ValueError where there are none, or another number."""


@dataclass(frozen=True)
class Storage:
    """A storage that a tensor names; `start` and `count` in values of `dtype`."""

    records: Records
    key: str
    dtype: torch.dtype
    count: int
    start: int = 0

    def __setstate__(self, state: object) -> NoReturn:
        raise ValueError("a pickle that changes a storage's description is not read")


class Function:
    """One of our own functions, closed to whatever a pickle tries to set in it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., object]) -> None:
        self._call = call

    def __call__(self, *arguments: object) -> object:
        return self._call(*arguments)

    def __setstate__(self, state: object) -> NoReturn:
        raise ValueError("a pickle that changes a function is not read")


def _tensor(
    storage: object, offset: object, size: object, stride: object, *_: object
) -> StoredTensor:
    if not isinstance(storage, Storage):
        return _odd_tensor()
    return _view(storage, storage.dtype, (offset,), size, stride)


def _tensor_v3(*arguments: object) -> StoredTensor:
    storage, offset, size, stride, _, _, dtype, *_ = arguments
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        return _odd_tensor()
    return _view(storage, dtype, (offset,), size, stride)


def _view(
    storage: Storage, dtype: torch.dtype, offset: object, size: object, stride: object
) -> StoredTensor:
    shape, steps, (begin,) = _whole(size), _whole(stride), _whole(offset)
    if len(shape) != len(steps):
        raise ValueError(f"a tensor of shape {shape} has strides {steps}")
    total_bytes = storage.count * storage.dtype.itemsize
    stored, first = total_bytes // dtype.itemsize, storage.start + begin
    last = first + sum((side - 1) * step for side, step in zip(shape, steps, strict=True))
    if 0 not in shape and last >= stored:
        raise ValueError(f"a tensor of shape {shape} reads beyond storage {storage.key!r:.40}")

    def read() -> Tensor:
        content = storage.records.read(storage.key, total_bytes)
        values = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return values.as_strided(shape, steps, first)

    return StoredTensor(shape, dtype, stored, (id(storage.records), storage.key), read)


def _whole(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple | list):
        raise ValueError(f"{values!r:.40} is no shape")
    if not all(type(value) is int and 0 <= value < 1 << 62 for value in values):
        raise ValueError(f"{values!r:.60} are no whole numbers from 0 up")
    return tuple(values)


def _odd_tensor(*_: object) -> StoredTensor:
    """Sparse, quantized, nested, or without values."""
    return StoredTensor((), None, 0, None, lambda: torch.empty(0))


def _parameter(data: object, *_: object) -> object:
    return data


def _subclass(build: object, _: object, arguments: object, *__: object) -> object:
    """A tensor of a subclass, or with attributes, as the plain one that it holds."""
    if not isinstance(build, Function) or not isinstance(arguments, tuple):
        return _odd_tensor()
    return build(*arguments)


REBUILD: Final = {
    "_rebuild_tensor": Function(_tensor),
    "_rebuild_tensor_v2": Function(_tensor),
    "_rebuild_tensor_v3": Function(_tensor_v3),
    "_rebuild_parameter": Function(_parameter),
    "_rebuild_parameter_with_state": Function(_parameter),
    "_rebuild_device_tensor_from_cpu_tensor": Function(_parameter),
    "_rebuild_from_type_v2": Function(_subclass),
} | {
    f"_rebuild_{kind}": Function(_odd_tensor)
    for kind in (
        "sparse_tensor", "qtensor", "nested_tensor", "meta_tensor_no_storage", "wrapper_subclass",
        "device_tensor_from_numpy",
    )
}  # fmt: skip
STORAGES: Final = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
}
"""Type of the values by the storage's name; others (ByteStorage, UntypedStorage) hold bytes."""
