"""Names and messages from anywhere as text that can be shown: what a reader cannot see appears escaped."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = ["is_one_line", "shortened", "visible"]

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of control, format, surrogate, private and unassigned characters, and line ends."""

_LONG_WORD: Final = re.compile(r"(\S{200})(\S{200,})(\S{100})")

_COMMANDS: Final = ("::", "##[")
"""What begins an instruction in the log of a build server."""


def visible(text: str) -> str:
    r"""The text on one line, with an escape for each character that shows nothing or moves others.

    Control characters, line ends, marks that change the direction of writing and lone surrogates become
    `\x1b`, `\u202e` and so on; a build server's instructions lose their first character to an escape.

    >>> visible("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    >>> visible("::error::x")
    '\\x3a:error::x'
    """
    shown = "".join(_escaped(c) if unicodedata.category(c) in _HIDDEN else c for c in text)
    start = len(shown) - len(shown.lstrip())
    if shown.startswith(_COMMANDS, start):
        shown = f"{shown[:start]}\\x{ord(shown[start]):02x}{shown[start + 1 :]}"
    return shown


def shortened(text: str) -> str:
    """The text without the inner parts of words that nobody reads to the end: those of over 500 characters.

    >>> len(shortened("a" * 1000))
    329
    """
    return _LONG_WORD.sub(
        lambda word: f"{word[1]}... ({len(word[2])} characters more) ...{word[3]}", text
    )


def is_one_line(text: str) -> bool:
    r"""Whether a file with one such text a line gives it back, whatever its reader takes for a line's end.

    >>> is_one_line("hot dog"), is_one_line("hot\u2028dog")
    (True, False)
    """
    return text.splitlines() == [text]


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
