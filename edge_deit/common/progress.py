"""How long work reports how far it is: a protocol that a command, a notebook or a service implements."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol, runtime_checkable

__all__ = ["SILENT", "Progress", "Silent"]


@runtime_checkable
class Progress(Protocol):
    """Hears what the library is doing. All of it may be ignored."""

    def task(
        self, what: str, total: int | None = None, *, unit: str = ""
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Something that takes a while, in `total` steps (None: not known).

        The block gets a function that is told how many steps were done since the last call. Where the steps
        have a `unit`, such as photos, their pace is worth showing.
        """
        ...

    def note(self, line: str) -> None:
        """One line that a user should read now, such as what was left out."""
        ...


class Silent:
    """Reports nothing."""

    @contextmanager
    def task(
        self, what: str, total: int | None = None, *, unit: str = ""
    ) -> Iterator[Callable[[int], None]]:
        """Do nothing with it."""
        yield lambda steps: None

    def note(self, line: str) -> None:
        """Do nothing with it."""


SILENT: Final = Silent()
"""The default of every call that takes a `Progress`."""
