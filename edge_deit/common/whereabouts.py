"""Files for others name no folder of this machine: where their sources lie is kept in the user's cache."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge_deit.common.cache import cache_folder
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import read_bytes

__all__ = ["recall", "remember", "shareable", "shareable_names"]

_LIMIT_BYTES: Final = 1 << 20
_KEY: Final = re.compile(r"[0-9a-f]{64}")


def shareable(path: str | Path) -> str:
    """What a shared file may say of a path: all that lies below the working folder, else its last name.

    >>> shareable("/home/ann/models/deit.safetensors")
    'deit.safetensors'
    >>> shareable("models/deit.safetensors")
    'models/deit.safetensors'
    """
    return shareable_names([path])[0]


def shareable_names(paths: Sequence[str | Path]) -> list[str]:
    """`shareable` of each; those that lie elsewhere keep as many folders as it takes to tell them apart."""
    own = [_own_parts(Path(path)) for path in paths]
    different = len({os.path.abspath(path) for path in paths})
    names: list[str] = []
    for depth in range(1, max((len(parts) for _, parts in own), default=0) + 1):
        names = ["/".join(parts[-depth:] if away else parts) for away, parts in own]
        if len(set(names)) == different:
            break
    return names


def _own_parts(path: Path) -> tuple[bool, tuple[str, ...]]:
    """Whether a path leads out of the working folder, and its parts below that folder, or the root."""
    whole = Path(os.path.abspath(path))
    try:
        below = whole.relative_to(Path.cwd()).parts
    except ValueError:
        return True, whole.parts[1:]
    return (False, below) if below else (True, whole.parts[-1:])


def remember(sha256: str, path: str | Path) -> None:
    """Keep where the file or folder of that hash lies, for this user, if the cache can be written."""
    cache = cache_folder("places", _LIMIT_BYTES)
    if cache is None or not _KEY.fullmatch(sha256):
        return
    text = str(Path(path).absolute()).encode("utf-8", "surrogateescape")
    with contextlib.suppress(OSError):  # the user then names the place
        cache.keep(sha256, lambda place: place.write_bytes(text), len(text))


def recall(sha256: str) -> Path | None:
    """Where the file or folder of that hash lay, if it was noted; what is there may have changed."""
    cache = cache_folder("places", _LIMIT_BYTES)
    found = cache.find(sha256) if cache is not None and _KEY.fullmatch(sha256) else None
    if found is None:
        return None
    with contextlib.suppress(OSError, ValueError, EdgeDeitError):  # a broken note is no note
        path = Path(read_bytes(found).decode("utf-8", "surrogateescape"))
        return path if path.is_absolute() and path.exists() else None
    return None
