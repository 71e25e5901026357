"""Files that are there whole or not at all."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

__all__ = ["write_text"]


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 beside the file, then rename; the former file stays until the new one is complete."""
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in _files(path))


def hash_path(path: Path) -> str:
    """sha256 of a file; of a folder, that of its sorted relative names and contents."""
    digest = hashlib.sha256()
    for file in _files(path):
        if path.is_dir():
            name = file.relative_to(path).as_posix().encode()
            digest.update(f"{len(name)}:{file.stat().st_size}:".encode() + name)
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
