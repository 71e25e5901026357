"""A folder of a project whose set of files is replaced as a whole, while files of others in it stay.

The new folder is built beside the old one and the two are exchanged in one system call, so whatever ends
the process, the folder holds the old set or the new one. What such an end leaves lying around is cleared by
the next run.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from edge_deit.common.errors import EdgeDeitError

__all__ = ["OWN_NAMES", "exchange", "owned_files", "project_made", "set_replaced"]

OWN_NAMES: Final = frozenset({"bundle.json", "labels.txt", "golden_spec.json", "golden_cases.json"})
"""Files that every set has beside its artefacts."""

_AT_FDCWD: Final = -100
_EXCHANGE: Final = 2  # RENAME_EXCHANGE of renameat2(2), RENAME_SWAP of renamex_np(2)
_ABSENT: Final = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def owned_files(place: Path) -> frozenset[str]:
    """Names in a folder that the set in it owns, as its `bundle.json` lists them.

    Raises:
        EdgeDeitError: a table that cannot be read, or that names something outside the folder.
    """
    table = place / "bundle.json"
    if not table.is_file():
        return frozenset()
    try:
        entries = json.loads(table.read_text(encoding="utf-8"))["artefacts"]
        names = {str(entry[key]) for entry in entries for key in ("file", "manifest")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise EdgeDeitError(
            f"{table} cannot be read, so it is not known which files are the former set's; remove the "
            f"former set by hand ({error})"
        ) from error
    if wrong := [name for name in names if Path(name).name != name or name in ("", ".", "..")]:
        raise EdgeDeitError(f"{table} names {wrong[0]!r}, which is no file of its folder")
    return frozenset(names | OWN_NAMES)


@contextmanager
def set_replaced(place: Path, former: Collection[str]) -> Iterator[Path]:
    """A new folder that takes the place of `place` when the block ends well.

    Entries of `place` that are not in `former` are taken over.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    _clear(place)
    work = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    lock = FileLock(work / "lock")
    lock.acquire()
    try:
        new = work / "new"
        new.mkdir()
        yield new
        _take_over(place, new, former)
        if place.exists():
            exchange(new, place)
        else:
            new.rename(place)
    finally:
        lock.release()
        if place.exists() or not (work / "new.former").exists():
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def project_made(project: Path) -> Iterator[Path]:
    """A folder that becomes `project`, which is absent or empty, when the block ends well."""
    there = next(one for one in project.absolute().parents if one.is_dir())
    work = Path(tempfile.mkdtemp(prefix=".edge-deit-", dir=there))
    try:
        new = work / "new"
        yield new
        project.parent.mkdir(parents=True, exist_ok=True)
        new.rename(project)  # an empty folder may be there, and nothing else
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _take_over(place: Path, new: Path, former: Collection[str]) -> None:
    """Copy what others put into the folder."""
    for entry in place.iterdir() if place.is_dir() else ():
        if entry.name in former:
            continue
        if (new / entry.name).exists():
            raise EdgeDeitError(
                f"{entry} was not written by a bundle, but the new set has that name"
            )
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, new / entry.name, symlinks=True)
        else:
            shutil.copy2(entry, new / entry.name, follow_symlinks=False)


def _clear(place: Path) -> None:
    """Remove what a run that was killed left beside `place`; put back a folder that it had moved away."""
    for work in place.parent.glob(f".{place.name}-*"):
        if work.is_symlink() or not work.is_dir():
            continue
        try:
            with FileLock(work / "lock", timeout=0):
                if not place.exists() and (work / "new.former").is_dir():
                    (work / "new.former").rename(place)
        except Timeout:  # another run is at work there
            continue
        shutil.rmtree(work, ignore_errors=True)


def exchange(new: Path, place: Path) -> None:
    """Exchange two folders, in one step where the system can (Linux, macOS)."""
    if (reason := _exchange_at_once(new, place)) == 0:
        return
    if reason not in _ABSENT:
        raise OSError(reason, os.strerror(reason), str(place))
    former = new.with_name(
        f"{new.name}.former"
    )  # two steps; `set_replaced` mends what falls between
    place.rename(former)
    try:
        new.rename(place)
    finally:
        if not place.exists():
            former.rename(place)


def _exchange_at_once(new: Path, place: Path) -> int:
    """0, or the number of the error."""
    libc = ctypes.CDLL(None, use_errno=True)
    one, other = os.fsencode(new), os.fsencode(place)
    if sys.platform == "darwin":
        code = libc.renamex_np(one, other, _EXCHANGE)
    elif hasattr(libc, "renameat2"):
        code = libc.renameat2(_AT_FDCWD, one, _AT_FDCWD, other, _EXCHANGE)
    else:
        return errno.ENOSYS
    return 0 if code == 0 else ctypes.get_errno()
