"""What a process and the one that runs an artefact for it say to each other: JSON, and arrays as bytes.

Nothing is ever unpickled: what has loaded a stranger's file may say anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np

__all__ = ["Message", "receive", "send"]

Message = tuple[dict[str, Any], list[np.ndarray]]
"""A header and arrays."""

_MAX_HEADER_BYTES: Final = 1 << 20
_MAX_ARRAY_BYTES: Final = 1 << 30
_MAX_ARRAYS: Final = 1000
_ARRAYS: Final = "arrays"
_TYPES: Final = ("float32", "uint8")


def send(
    connection: Connection, header: Mapping[str, Any], arrays: Sequence[np.ndarray] = ()
) -> None:
    """One message: the header, which may not have a key `arrays`, and the arrays.

    They are uint8, or sent as float32.
    """
    kept = [one if one.dtype == np.uint8 else np.asarray(one, np.float32) for one in arrays]
    kinds = [[str(array.dtype), list(array.shape)] for array in kept]
    connection.send_bytes(json.dumps({**header, _ARRAYS: kinds}).encode())
    for array in kept:
        connection.send_bytes(np.ascontiguousarray(array).tobytes())


def receive(connection: Connection) -> Message:
    """The next message; waits for it.

    Raises:
        EOFError: the other side is gone.
        OSError: it was torn down in the middle of a message, or the message is too large.
        ValueError: it is no message.
    """
    header = json.loads(connection.recv_bytes(_MAX_HEADER_BYTES))
    if not isinstance(header, dict):
        raise ValueError("the header is no object")
    kinds = header.pop(_ARRAYS, [])
    if not isinstance(kinds, list) or len(kinds) > _MAX_ARRAYS:
        raise ValueError("the header does not say what follows")
    return header, [_array(connection, kind) for kind in kinds]


def _array(connection: Connection, kind: Any) -> np.ndarray:
    dtype, shape = kind if isinstance(kind, list) and len(kind) == 2 else (None, None)
    if dtype not in _TYPES:
        raise ValueError("an array has no type")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("an array has no shape")
    found = np.frombuffer(connection.recv_bytes(_MAX_ARRAY_BYTES), dtype)
    if len(found) != math.prod(shape):
        raise ValueError("an array has another size than its shape")
    return found.reshape(shape).copy()
