"""Reads the old text form of property lists, in which Xcode writes project.pbxproj."""

from __future__ import annotations

import re
from typing import Final, TypeAlias

__all__ = ["Plist", "parse"]

Plist: TypeAlias = "str | list[Plist] | dict[str, Plist]"

_TOKEN: Final = re.compile(
    r"""\s+ | //[^\n]* | /\*.*?\*/                  # skipped
    | (?P<string>"(?:[^"\\]|\\.)*") | (?P<word>[\w./$@-]+) | (?P<mark>[{}()=;,])""",
    re.VERBOSE | re.DOTALL,
)


class _Reader:
    """Tokens of a text, one after the other."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.current = ""
        self.advance()

    def advance(self) -> None:
        """Go to the next token; an empty one is the end."""
        while self.place < len(self.text):
            match = _TOKEN.match(self.text, self.place)
            if match is None:
                raise self.error(f"unexpected {self.text[self.place]!r}")
            self.place = match.end()
            if match.lastgroup:
                self.current = match[0]
                return
        self.current = ""

    def error(self, what: str) -> ValueError:
        """A ValueError that names the line."""
        line = self.text.count("\n", 0, self.place) + 1
        return ValueError(f"line {line}: {what}")

    def take(self, mark: str) -> None:
        """Skip a mark that must be here."""
        if self.current != mark:
            raise self.error(f"{mark!r} expected, {self.current!r} found")
        self.advance()

    def text_value(self) -> str:
        """A word or a quoted string."""
        found = self.current
        if not found or found in "{}()=;,":
            raise self.error(f"a value expected, {found!r} found")
        self.advance()
        return re.sub(r"\\(.)", r"\1", found[1:-1]) if found.startswith('"') else found

    def value(self) -> Plist:
        """Whatever begins here."""
        if self.current == "{":
            return self.dictionary()
        return self.array() if self.current == "(" else self.text_value()

    def dictionary(self) -> dict[str, Plist]:
        """`{ key = value; ... }`; a key may come once."""
        found: dict[str, Plist] = {}
        self.take("{")
        while self.current != "}":
            key = self.text_value()
            if key in found:
                raise self.error(f"{key} comes twice")
            self.take("=")
            found[key] = self.value()
            self.take(";")
        self.take("}")
        return found

    def array(self) -> list[Plist]:
        """`( value, ... )`."""
        found: list[Plist] = []
        self.take("(")
        while self.current != ")":
            found.append(self.value())
            self.take(",")
        self.take(")")
        return found


def parse(text: str) -> dict[str, Plist]:
    """The dictionary that a text property list holds.

    >>> parse('{ name = "a b"; list = ( 1, x.y, ); }')
    {'name': 'a b', 'list': ['1', 'x.y']}

    Raises:
        ValueError: not such a file; the message names the line.
    """
    reader = _Reader(text)
    found = reader.dictionary()
    if reader.current:
        raise reader.error(f"{reader.current!r} after the end")
    return found
