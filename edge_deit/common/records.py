"""Our JSON files as frozen dataclasses: each kind read and written in one place, every value checked.

pydantic checks types, ranges and names. What JSON itself leaves open (a name twice, NaN, numbers or nesting
without end) is refused before it.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.fields import STRICT, nearest
from edge_deit.common.files import decode_text, read_bytes, write_text
from edge_deit.common.strict_json import parse_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from pydantic import TypeAdapter, ValidationError

__all__ = ["JsonFile"]

Kind = TypeVar("Kind", bound="DataclassInstance")


@dataclass(frozen=True)
class JsonFile(Generic[Kind]):
    """One kind of file of ours: `holds` is the frozen dataclass that it becomes.

    `name` and `remedy` are words for messages; `schema` is the version that is written and read, which the
    file has under that name. `check` raises ValueError for what single values do not show.
    """

    holds: type[Kind]
    name: str
    remedy: str
    schema: int
    check: Callable[[Kind], object] = lambda value: None
    indent: int = 1

    def read(self, path: Path) -> Kind:
        """The file as data.

        Raises:
            EdgeDeitError: missing, no regular file, too large, not UTF-8, not JSON, another version, or
                the first entry that is missing, unknown, of another type or out of its range.
        """
        data = read_bytes(path, what=self.name, remedy=self.remedy)
        where = f"{self.name} {path}"
        try:
            text = decode_text(data)
            entries = parse_json(text)
        except ValueError as error:
            raise EdgeDeitError(f"{where} is not JSON ({error}); {self.remedy}") from error
        found = entries.get("schema") if isinstance(entries, dict) else None
        if type(found) is not int or found != self.schema:
            raise EdgeDeitError(
                f"{where} has schema {_shown(found)}, this version reads {self.schema}; {self.remedy}"
            )
        return self._checked(text, where)

    def write(self, value: Kind, path: Path) -> None:
        """Write it, whole or not at all; what could not be read again is not written.

        Lone surrogates, which file names that are not UTF-8 have, are written as the text `\\udcNN`.

        Raises:
            EdgeDeitError: a value that the file may not have.
        """
        where = f"{self.name} {path}"
        try:
            text = json.dumps(
                asdict(value), indent=self.indent, ensure_ascii=False, allow_nan=False
            )
        except ValueError as error:
            raise EdgeDeitError(f"{where} cannot be written: {error}") from error
        text = re.sub("[\ud800-\udfff]", lambda found: f"\\\\u{ord(found[0]):04x}", text)
        self._checked(text, where)
        write_text(path, text + "\n")

    def json_schema(self) -> dict[str, Any]:
        """The file's JSON schema (draft 2020-12)."""
        found = _json_schema(self.holds)
        version = {**found["properties"]["schema"], "const": self.schema}
        names = ["schema", *(name for name in found["required"] if name != "schema")]
        return {
            **found,
            "required": names,
            "properties": {**found["properties"], "schema": version},
        }

    def _checked(self, text: str, where: str) -> Kind:
        from pydantic import ValidationError

        try:
            value: Kind = _adapter(self.holds).validate_json(text)
            self.check(value)
        except ValidationError as error:
            self._refuse(where, error)
        except ValueError as error:
            raise EdgeDeitError(f"{where}: {error}; {self.remedy}") from error
        return value

    def _refuse(self, where: str, error: ValidationError) -> NoReturn:
        first = error.errors(include_url=False, include_context=False)[0]
        place, kind = first["loc"], first["type"]
        named = _place(place) or "it"
        if kind in ("missing", "missing_argument"):
            said = f"{named} is missing"
        elif kind in ("unexpected_keyword_argument", "extra_forbidden"):
            said = f"{named} is unknown"
        else:
            place, wanted = nearest(self.json_schema(), place)
            said = f"{_place(place) or 'it'} is {_shown(first['input'])}; it must be {wanted}"
        raise EdgeDeitError(f"{where}: {said}; {self.remedy}") from error


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    if getattr(kind, "__pydantic_config__", None) != STRICT:
        raise TypeError(f"{kind.__name__} lacks __pydantic_config__ = STRICT")
    return TypeAdapter(kind)


@functools.cache
def _json_schema(kind: Any) -> dict[str, Any]:
    found: dict[str, Any] = _adapter(kind).json_schema()
    _tidy(found)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def _tidy(node: Any) -> None:
    """Objects with names of their own allow no others; titles that repeat a name go."""
    if isinstance(node, dict):
        for one in (inner := node.get("properties", {})).values():
            one.pop("title", None)
        if inner:
            node["additionalProperties"] = False
        for one in node.values():
            _tidy(one)
    elif isinstance(node, list):
        for one in node:
            _tidy(one)


def _place(parts: tuple[int | str, ...]) -> str:
    """As a reader of the file would write it: artefacts[0].snr_db."""
    said = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return said.removeprefix(".")[:200]


def _shown(value: object) -> str:
    """A value as in the file, shortened."""
    if isinstance(value, Mapping) and value:
        return "an object"
    if isinstance(value, list | tuple) and value:
        return f"a list of {len(value)}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:37] + "..."
