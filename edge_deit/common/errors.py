"""The one exception that a user is meant to read."""

from __future__ import annotations

from typing import ClassVar

from edge_deit.common.text import visible

__all__ = ["EdgeDeitError", "first_line"]


class EdgeDeitError(Exception):
    """Bad input or a refused request: one line that says what failed and what to do about it.

    The library raises it; the command line prints it on stderr and exits with status 2. What its text
    quotes of a file is escaped where a terminal would not show it.
    """

    leaves_running: ClassVar[bool] = False
    """Whether somebody's threads are left in this process which crash it when Python ends in order."""

    def __str__(self) -> str:
        return visible(super().__str__())


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 160 characters; its type's name where it has none.

    What a terminal would not print, such as a damaged file's bytes, becomes a question mark.
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    return "".join(character if character.isprintable() else "?" for character in line)
