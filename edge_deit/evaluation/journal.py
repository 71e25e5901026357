"""What each photo showed, kept in a file, so that a validation that was stopped goes on behind it.

The first line says in plain JSON what all others depend on. Each other line is one photo: its place among
the photos, its file and label, the sha256 of its content, and what the models answered. It starts with a
checksum of the rest of the line and with that of the first line. So a line speaks for itself, wherever it
stands: what is damaged, doubled, of another run or of another photo is found and left out, and costs
nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import replacing
from edge_deit.evaluation.tally import Answer, Seen

__all__ = ["Journal", "Judged"]

_DIGITS: Final = 16
_LINE: Final = re.compile(rb'\{"check":"([0-9a-f]{16})",([^\n]*)\n')
_NOWHERE: Final = -1


@dataclass(frozen=True)
class Judged:
    """One photo: `index` is its place among the photos, `file` its path below their folder, as text.

    `label` is the index of its class, None where that is not known; `sha256` is that of its content;
    `reference` is the float model's answer, `seen` that of each artefact.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    index: Annotated[int, Field(ge=0)]
    file: str
    label: int | None
    sha256: str
    reference: Answer
    seen: tuple[Seen, ...]


_JUDGED: Final = TypeAdapter(Judged)


class Journal:
    """The file `path`, or nothing where that is None; `key` is what the answers depend on.

    A context manager: the file is open while the block runs.
    """

    def __init__(self, path: Path | None, key: Mapping[str, Any]) -> None:
        self._path = path
        self._head = json.dumps(key, sort_keys=True).encode() + b"\n"
        self._task = _checksum(self._head)
        self._stream: BinaryIO | None = None
        self.left_out = 0
        """Lines that `restore` could not use."""

    def restore(self, fits: Callable[[Judged], bool]) -> list[int]:
        """Keep the lines of this task that fit, each photo once, and remove all others from the file.

        Returns the photos' places, in order.
        """
        if self._path is None:
            return []
        places = self._places(fits) if self._path.is_file() else array("q")
        with replacing(self._path) as partial, partial.open("wb") as new:
            new.write(self._head)
            if places:
                with self._path.open("rb") as old:
                    for place in places:
                        if place != _NOWHERE:
                            old.seek(place)
                            new.write(old.readline())
        return [index for index, place in enumerate(places) if place != _NOWHERE]

    def _places(self, fits: Callable[[Judged], bool]) -> array[int]:
        """Where in the file the line of each photo starts."""
        assert self._path is not None
        places: array[int] = array("q")
        end = 0
        with self._path.open("rb") as stream:
            for text in stream:
                start, end = end, end + len(text)
                if not start and text == self._head:
                    continue
                one = self._read(text)
                if one is None or _is_there(places, one.index) or not fits(one):
                    self.left_out += 1
                    continue
                places.extend([_NOWHERE] * (one.index + 1 - len(places)))
                places[one.index] = start
        return places

    def kept(self) -> Iterator[Judged]:
        """The lines that `restore` kept, in the photos' order."""
        if self._path is None:
            return
        with self._path.open("rb") as stream:
            stream.readline()
            for text in stream:
                if (one := self._read(text)) is None:
                    raise EdgeDeitError(
                        f"{self._path} was changed while it was in use; run it again"
                    )
                yield one

    def add(self, one: Judged) -> None:
        """Write a line, at once."""
        if self._stream is not None:
            body = _JUDGED.dump_json(one)[1:]
            body = b'"task":"' + self._task + b'",' + body
            self._stream.write(b'{"check":"' + _checksum(body) + b'",' + body + b"\n")
            self._stream.flush()

    def _read(self, text: bytes) -> Judged | None:
        """A line's content, None where it is damaged or of another task."""
        found = _LINE.fullmatch(text)
        start = b'"task":"' + self._task + b'",'
        if found is None or _checksum(found[2]) != found[1] or not found[2].startswith(start):
            return None
        try:
            return _JUDGED.validate_json(b"{" + found[2][len(start) :], strict=True)
        except ValidationError:
            return None

    def __enter__(self) -> Self:
        if self._path is not None:
            self._stream = self._path.open("ab")
        return self

    def __exit__(self, *error: object) -> None:
        if self._stream is not None:
            self._stream.close()


def _is_there(places: array[int], index: int) -> bool:
    return index < len(places) and places[index] != _NOWHERE


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_DIGITS].encode()
