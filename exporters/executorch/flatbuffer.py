"""Tables of a flatbuffer read where they lie, every offset held against the end of the buffer.

A file may be anybody's. Nothing is followed out of it, and nothing is built whose size it only claims.

Source: flatbuffers' docs, "FlatBuffer Internals"; fields have the numbers that their schema's order gives.
"""

from __future__ import annotations

import struct
from typing import Any, Final, Self

__all__ = ["Table", "number_at"]

_MOST_ENTRIES: Final = 10_000  # of a vector of tables, numbers or texts; a program of ours has tens


def number_at(data: memoryview, place: int, kind: str) -> int:
    """The little-endian number at `place`; `kind` is a letter of `struct`.

    Raises:
        ValueError: it lies outside.
    """
    size_bytes = struct.calcsize(f"<{kind}")
    if not 0 <= place <= len(data) - size_bytes:
        raise ValueError(f"it refers to byte {place} of {len(data)}")
    (found,) = struct.unpack_from(f"<{kind}", data, place)
    return int(found)


class Table:
    """A table; all methods take the number of a field, and raise ValueError for what lies outside."""

    def __init__(self, data: memoryview, place: int) -> None:
        self._data, self._place = data, place
        self._fields = place - number_at(data, place, "i")
        self._size_bytes = number_at(data, self._fields, "H")

    @classmethod
    def root(cls, data: memoryview) -> Self:
        """The table that a buffer begins with."""
        return cls(data, number_at(data, 0, "I"))

    def _find(self, field: int) -> int | None:
        """Where a field is stored, None where it is left out."""
        entry = 4 + 2 * field
        if entry + 2 > self._size_bytes:
            return None
        offset = number_at(self._data, self._fields + entry, "H")
        return self._place + offset if offset else None

    def _follow(self, place: int) -> int:
        return place + number_at(self._data, place, "I")

    def number(self, field: int, kind: str) -> int:
        """A number, 0 where it is left out."""
        place = self._find(field)
        return 0 if place is None else number_at(self._data, place, kind)

    def table(self, field: int) -> Self | None:
        """A table inside this one."""
        place = self._find(field)
        return None if place is None else type(self)(self._data, self._follow(place))

    def content(self, field: int) -> memoryview:
        """The bytes of a vector of bytes, or of a text."""
        place, count = self._vector(field)
        if count > len(self._data) - place:
            raise ValueError(f"{count} bytes at byte {place} of {len(self._data)}")
        return self._data[place : place + count]

    def text(self, field: int) -> str:
        """A text; what is not UTF-8 in it comes out as `\\xff`."""
        return bytes(self.content(field)).decode("utf-8", "backslashreplace")

    def numbers(self, field: int, kind: str) -> list[int]:
        """A vector of numbers."""
        return [number_at(self._data, place, kind) for place in self._entries(field, kind)]

    def tables(self, field: int) -> list[Self]:
        """A vector of tables."""
        places = self._entries(field, "I")
        return [type(self)(self._data, self._follow(place)) for place in places]

    def _entries(self, field: int, kind: str) -> Any:
        place, count = self._vector(field)
        if count > _MOST_ENTRIES:
            raise ValueError(f"a list of {count} entries")
        width = struct.calcsize(f"<{kind}")
        return range(place, place + count * width, width)

    def _vector(self, field: int) -> tuple[int, int]:
        """Where a vector's entries begin, and how many there are."""
        place = self._find(field)
        if place is None:
            return 0, 0
        start = self._follow(place)
        return start + 4, number_at(self._data, start, "I")
