"""A folder that one run at a time writes into."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from edge_deit.common.errors import EdgeDeitError

__all__ = ["claimed"]


@contextmanager
def claimed(folder: Path, what: str) -> Iterator[None]:
    """The folder, made where it is absent, for one `what` at a time: till the block ends, or the process.

    Folders that were made here and hold nothing in the end are removed again.

    Raises:
        EdgeDeitError: another run has it, named by process and host; or it cannot be made or written.
    """
    place = folder / f".{what}.lock"
    lock = FileLock(place)
    try:
        made = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise EdgeDeitError(
            f"{folder} is in use by another {what}, {_holder(place)}; wait for its end, or choose "
            "another --output"
        ) from None
    except OSError as error:
        raise EdgeDeitError(
            f"{folder} cannot be written ({error.strerror}); choose another --output"
        ) from error
    try:
        if not isinstance(lock, SoftFileLock):  # which has written the same by itself
            place.write_text(f"{os.getpid()}\n{platform.node()}\n", encoding="utf-8")
        yield
    finally:
        place.unlink(missing_ok=True)
        lock.release()
        _remove_empty(made)


def _holder(place: Path) -> str:
    """Who wrote the lock file; its content is there a moment after the lock is."""
    try:
        pid, host, *_ = place.read_text(encoding="utf-8", errors="replace").split()
    except (OSError, ValueError):
        return "which has just begun or ended"
    return f"process {pid} on {host}"


def _remove_empty(folders: list[Path]) -> None:
    """Innermost first, up to the first that holds something."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # it is in use, or gone with all that it held
            return
