"""Files that are there whole or not at all; hashes and sizes of files and folders."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from edge_deit.common.errors import EdgeDeitError

__all__ = ["check_regular", "hash_path", "replacing", "size_of", "workplace", "write_text"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside `path` that takes its place when the block ends well, and is gone otherwise.

    The former file stays until the new one is complete and on the disk. Nobody can have put a link where
    the new file is made: its name is random and it must not exist.
    """
    descriptor, name = tempfile.mkstemp(
        prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent
    )
    partial = Path(name)
    try:
        os.close(descriptor)
        partial.chmod(0o666 & ~_umask())
        yield partial
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _umask() -> int:
    """The process's mask for new files, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write UTF-8, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def workplace(parent: Path, prefix: str) -> Iterator[Path]:
    """A hidden folder in `parent`, on the same disk, that is gone afterwards, whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        yield folder
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_regular(path: Path, what: str, *, or_folder: bool = False) -> None:
    """Refuse what is no plain file, before it is opened: a pipe never answers, a device never ends.

    `what` names it in the message. A link counts as what it leads to. With `or_folder` a folder is welcome.

    Raises:
        EdgeDeitError: it is missing, out of reach, or something else than a file.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise EdgeDeitError(f"{what} {path} does not exist") from None
    except OSError as error:
        raise EdgeDeitError(f"{what} {path} cannot be read: {error.strerror}") from error
    if not (stat.S_ISREG(mode) or (or_folder and stat.S_ISDIR(mode))):
        kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "something else")
        raise EdgeDeitError(f"{what} {path} is {kind}, not a file")


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
