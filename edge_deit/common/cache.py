"""A folder of the user's cache: whole files by name; the longest unused go where there are too many."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_deit.common.files import replacing

__all__ = ["CacheFolder", "cache_folder", "user_cache"]

_PLACE: Final = "EDGE_DEIT_CACHE"
_LEFT_OVER_S: Final = 24 * 3600  # a half-written file of this age belongs to nobody


def user_cache() -> Path | None:
    """${XDG_CACHE_HOME:-~/.cache}/edge-deit; None where there is no home."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():  # others are to be ignored (XDG Base Directory Specification)
        return named / "edge-deit"
    try:
        return Path.home() / ".cache" / "edge-deit"
    except RuntimeError:
        return None


@dataclass(frozen=True)
class CacheFolder:
    """Files of one kind, `limit_bytes` together. Several processes may use it at once."""

    path: Path
    limit_bytes: int

    def find(self, name: str) -> Path | None:
        """The file of that name, which counts as used now; None where there is none to be seen."""
        found = self.path / name
        try:
            if not found.is_file():
                return None
        except OSError:  # a folder that may not be entered
            return None
        with contextlib.suppress(OSError):  # a read-only cache is of use too
            os.utime(found)
        return found

    def keep(self, name: str, write: Callable[[Path], object], size_bytes: int) -> None:
        """Have `write` fill a file, which then gets that name whole or not at all, and make room for it.

        A file that is larger than the limit is not kept.

        Raises:
            OSError: the folder cannot be made or written.
        """
        if size_bytes > self.limit_bytes:
            return
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room(self.limit_bytes - size_bytes)
        with replacing(self.path / name) as partial:
            write(partial)

    def _make_room(self, limit_bytes: int) -> None:
        """Remove files until no more than `limit_bytes` are left; others may remove some meanwhile."""
        found: list[tuple[float, int, Path]] = []
        for file in self.path.iterdir():
            with contextlib.suppress(OSError):
                status = file.stat()
                if file.suffix != ".part":
                    found.append((status.st_mtime, status.st_size, file))
                elif time.time() - status.st_mtime > _LEFT_OVER_S:
                    file.unlink()
        total = sum(size for _, size, _ in found)
        for _, size, file in sorted(found):
            if total <= limit_bytes:
                return
            file.unlink(missing_ok=True)
            total -= size


def cache_folder(kind: str, limit_bytes: int) -> CacheFolder | None:
    """Its folder in what EDGE_DEIT_CACHE names (none, where that is empty), or else in the user's cache."""
    named = os.environ.get(_PLACE)
    base = user_cache() if named is None else Path(named) if named else None
    return None if base is None else CacheFolder(base / kind, limit_bytes)
