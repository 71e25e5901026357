"""Files: written whole or not at all, read only where they are regular; hashes and sizes."""

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
from typing import BinaryIO, Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.opening import check_regular

__all__ = [
    "MOST_BYTES",
    "decode_text",
    "hash_path",
    "open_regular",
    "read_bytes",
    "replacing",
    "shown_name",
    "size_of",
    "workplace",
    "write_text",
]

MOST_BYTES: Final = 32 << 20
"""A text file of ours is smaller; a larger one is refused before it is read."""


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
        yield partial
        partial.chmod(0o666 & ~_umask())  # here, as some libraries write a file by making it anew
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


def open_regular(path: Path, what: str = "file", remedy: str = "") -> BinaryIO:
    """Open a regular file for reading; pipes, devices, sockets and folders are refused without a wait.

    `what` and `remedy` are words for the message: what kind of file was asked for, and how to come by one.

    Raises:
        EdgeDeitError: no such file, no regular file, or one that may not be read.
    """
    check_regular(path, what, remedy)
    # between the two calls the name may have come to mean a pipe: opening must not wait for it either
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        stream = os.fdopen(os.open(path, flags), "rb")
    except OSError as error:
        tail = f"; {remedy}" if remedy else ""
        raise EdgeDeitError(f"{what} {path} cannot be opened: {error.strerror}{tail}") from error
    if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return stream
    stream.close()
    raise EdgeDeitError(f"{what} {path} is no regular file any more")


def read_bytes(path: Path, limit: int = MOST_BYTES, what: str = "file", remedy: str = "") -> bytes:
    """What a regular file holds, at most `limit` bytes.

    Raises:
        EdgeDeitError: as `open_regular`, or the file is larger.
    """
    with open_regular(path, what, remedy) as stream:
        try:
            data = stream.read(limit + 1)
        except OSError as error:
            raise EdgeDeitError(f"{what} {path} cannot be read: {error.strerror}") from error
    if len(data) > limit:
        tail = f"; {remedy}" if remedy else ""
        raise EdgeDeitError(f"{what} {path} is larger than {limit >> 20} MB{tail}")
    return data


def decode_text(data: bytes) -> str:
    """Text from UTF-8, with or without a byte order mark.

    Raises:
        ValueError: UTF-16, NUL bytes, or other bytes that are not UTF-8, in words.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or 0 in data[:2]:
        raise ValueError("it is UTF-16; save it as UTF-8")
    if 0 in data:
        raise ValueError("it holds NUL bytes, so it was damaged")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8; save it as UTF-8") from error


@contextmanager
def workplace(parent: Path, prefix: str) -> Iterator[Path]:
    """A hidden folder in `parent`, on the same disk, that is gone afterwards, whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        yield folder
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


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


def shown_name(name: str) -> str:
    """A file's name as text that can be written anywhere: bytes that are no UTF-8 become `\\xe9`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
