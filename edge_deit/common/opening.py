"""What may be opened at all."""

from __future__ import annotations

import stat
from pathlib import Path

from edge_deit.common.errors import EdgeDeitError

__all__ = ["check_regular"]


def check_regular(path: Path, what: str, remedy: str = "", *, or_folder: bool = False) -> None:
    """Refuse what is no regular file before it is opened: a pipe would wait for ever, a device never ends.

    Raises:
        EdgeDeitError: it says what stands at the path instead; `what` is a word for the file, `remedy` what
            to do. A link counts as what it leads to; with `or_folder` a folder is welcome.
    """
    tail = f"; {remedy}" if remedy else ""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise EdgeDeitError(f"{what} {path} does not exist{tail}") from None
    except OSError as error:
        raise EdgeDeitError(f"{what} {path} cannot be opened: {error.strerror}{tail}") from error
    except ValueError as error:  # a NUL in the name
        raise EdgeDeitError(f"{what} {str(path)!r} cannot be opened: {error}{tail}") from error
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    if not stat.S_ISREG(mode) and not (or_folder and stat.S_ISDIR(mode)):
        kind = kinds.get(stat.S_IFMT(mode), "something else")
        raise EdgeDeitError(f"{what} {path} is {kind}, not a regular file{tail}")
