"""Plain JSON data to frozen dataclasses, strictly: every field there, none besides, each of its type."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["decode"]

Kind = TypeVar("Kind")


def decode(kind: type[Kind], data: Any, place: str) -> Kind:
    """`data` as a `kind`: a dataclass of numbers, texts, tuples, mappings, other dataclasses, or None.

    A whole number is welcome where a float is asked for, and becomes one; true and false are no numbers.

    Raises:
        ValueError: with the place of the first thing that is missing, unknown, of another type or
            not finite.
    """
    found: Kind = _decode(kind, data, place)
    return found


def _decode(kind: Any, data: Any, place: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _decode_union(kind, data, place)
    if origin is tuple:
        return _decode_tuple(get_args(kind), data, place)
    if is_dataclass(kind):
        return _decode_dataclass(kind, data, place)
    if kind is Any:
        return data
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(data, dict):
            raise ValueError(f"{place} is {data!r:.40}, not an object")
        (_, inner) = get_args(kind)
        return {key: _decode(inner, value, f"{place}.{key}") for key, value in data.items()}
    if kind is float and type(data) is int:
        data = float(data)
    if type(data) is not kind:
        raise ValueError(f"{place} is {data!r:.40}, not {kind.__name__}")
    if kind is float and not math.isfinite(data):
        raise ValueError(f"{place} is {data}")
    return data


def _decode_union(kind: Any, data: Any, place: str) -> Any:
    """`X | None`, the only union there is."""
    (inner,) = [one for one in get_args(kind) if one is not types.NoneType]
    return None if data is None else _decode(inner, data, place)


def _decode_tuple(kinds: tuple[Any, ...], data: Any, place: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise ValueError(f"{place} is {data!r:.40}, not a list")
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(data)
    if len(kinds) != len(data):
        raise ValueError(f"{place} has {len(data)} entries, not {len(kinds)}")
    pairs = zip(kinds, data, strict=True)
    return tuple(_decode(one, value, f"{place}[{i}]") for i, (one, value) in enumerate(pairs))


def _decode_dataclass(kind: Any, data: Any, place: str) -> Any:
    if not isinstance(data, dict):
        raise ValueError(f"{place} is {data!r:.40}, not an object")
    names = [field.name for field in fields(kind)]
    if wrong := sorted(set(names) ^ data.keys()):
        said = "lacks" if wrong[0] in names else "has the unknown"
        raise ValueError(f"{place} {said} {wrong[0]}")
    hints = get_type_hints(kind)
    return kind(**{name: _decode(hints[name], data[name], f"{place}.{name}") for name in names})
