"""Words and rules for the entries of our files: what pydantic holds them to, and how a message says it.

They stand in `Annotated` beside a type. None of them imports pydantic: it is loaded when a file is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from annotated_types import Ge, Le

__all__ = [
    "STRICT",
    "UTC_TIME",
    "About",
    "Count",
    "FileName",
    "Positive",
    "Sha256",
    "Shape",
    "Share",
    "Text",
    "nearest",
]

STRICT: Final[Mapping[str, Any]] = {
    "strict": True,
    "extra": "forbid",
    "allow_inf_nan": False,
}
"""`__pydantic_config__` of a file's dataclass; the dataclasses inside it take it over."""


@dataclass(frozen=True)
class About:
    """What an entry means, for the JSON schema, and what it must be, where its type does not say it.

    A list stops at its first wrong entry.
    """

    text: str
    words: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        schema = handler(source)
        if schema["type"] in ("list", "tuple"):
            schema["fail_fast"] = True
        return schema

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        words = {"$comment": self.words} if self.words else {}
        return {**handler(schema), "description": self.text, **words}


@dataclass(frozen=True)
class Shape:
    """A text that matches a regular expression; `words` say what that is."""

    pattern: str
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return {**handler(source), "pattern": self.pattern}

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        return {**handler(schema), "$comment": self.words}


_NAME: Final = r"[^/\\\x00-\x1f]*"
Sha256 = Annotated[str, Shape("^[0-9a-f]{64}$", "64 hexadecimal digits, lower case")]
Text = Annotated[str, Shape(r"\S", "a text that is not empty")]
FileName = Annotated[
    str, Shape(rf"^{_NAME}[^/\\.\x00-\x1f]{_NAME}$", "a file name without folders")
]
Count = Annotated[int, Ge(0)]
Positive = Annotated[int, Ge(1)]
Share = Annotated[float, Ge(0), Le(1)]

UTC_TIME: Final = Shape(
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|\+00:00)$",
    "a time in UTC, such as 2026-01-31T12:00:00Z",
)

_NOUNS: Final = {
    "string": ("a text", "texts"),
    "boolean": ("true or false", "true or false"),
    "object": ("an object", "objects"),
    "null": ("null", "nulls"),
    "array": ("a list", "lists"),
    "integer": ("a whole number", "whole numbers"),
    "number": ("a number", "numbers"),
}


def nearest(
    schema: Mapping[str, Any], place: Sequence[int | str]
) -> tuple[tuple[int | str, ...], str]:
    """The entry of a JSON schema at a place of the data, or the last one on the way, and what it must be.

    >>> names = {"type": "array", "items": {"type": "string"}}
    >>> nearest({"type": "object", "properties": {"labels": names}}, ["labels"])
    (('labels',), 'a list of texts')
    """
    node: Mapping[str, Any] = schema
    for depth, part in enumerate(place):
        inner = _inner(schema, node, part)
        if inner is None:
            return tuple(place[:depth]), _said(schema, node)
        node = inner
    return tuple(place), _said(schema, node)


def _resolved(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return node


def _inner(
    schema: Mapping[str, Any], node: Mapping[str, Any], part: int | str
) -> Mapping[str, Any] | None:
    node = _resolved(schema, node)
    for one in node.get("anyOf", ()):
        if (inner := _inner(schema, one, part)) is not None:
            return inner
    if isinstance(part, int):
        items = [*node.get("prefixItems", ())]
        found = items[part] if part < len(items) else node.get("items")
    else:
        found = node.get("properties", {}).get(part, node.get("additionalProperties"))
    return found if isinstance(found, Mapping) else None


def _said(schema: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    node = _resolved(schema, node)
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_said(schema, one) for one in node["anyOf"]))
    if words := node.get("$comment"):
        return str(words)
    if "const" in node:
        return str(node["const"])
    if "enum" in node:
        return " or ".join(map(str, node["enum"]))
    kind = node.get("type", "")
    if kind == "array":
        return _list(schema, node)
    return _NOUNS.get(kind, ("another value", ""))[0] + _range(node)


def _list(schema: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    items = [*node.get("prefixItems", ())] or [node.get("items", {})]
    first = _resolved(schema, items[0])
    many = _NOUNS.get(first.get("type", ""), ("", "values"))[1]
    count = f"{node['minItems']} " if "prefixItems" in node else ""
    filled = " that is not empty" if node.get("minItems") and not count else ""
    return f"a list of {count}{many}{_range(first)}{filled}"


def _range(node: Mapping[str, Any]) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    if low is not None:
        return f" of at least {low:g}"
    if high is not None:
        return f" of at most {high:g}"
    over = node.get("exclusiveMinimum")
    return "" if over is None else f" above {over:g}"
