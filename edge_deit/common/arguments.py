"""Arguments of the Python API are held against their annotations before any work is done.

A text is taken as a path where a path is expected, and the other way round. What pydantic refuses becomes
one line.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import PurePath
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from annotated_types import Le

from edge_deit.common.errors import EdgeDeitError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["Threads", "checked_arguments", "number_or_auto", "whole_number"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_DIGITS: Final = 9
_SHOWN: Final = 60  # characters of a value, in a message
Threads = Annotated[int, Le(1024)]
"""A number of threads or processes; more of them exhaust the memory of any machine."""


def whole_number(text: str) -> int | None:
    """The number that a text of at most nine ASCII digits writes, None for every other text.

    `str.isdigit` alone takes digits that `int` does not, and more of them than it does.

    >>> whole_number("08"), whole_number("-1"), whole_number("\u00b2"), whole_number("1" * 10)
    (8, None, None, None)
    """
    fits = text.isascii() and text.isdecimal() and len(text) <= _DIGITS
    return int(text) if fits else None


def number_or_auto(option: str, value: str | None) -> int | Literal["auto"] | None:
    """The value of an option that takes a whole number, or `auto`.

    Raises:
        EdgeDeitError: anything else.
    """
    if value is None or value == "auto":
        return None if value is None else "auto"
    if (number := whole_number(value)) is None:
        raise EdgeDeitError(
            f"--{option} is {value[:_SHOWN]!r}; it must be a whole number of at most {_DIGITS} digits, "
            "or auto"
        )
    return number


def checked_arguments(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, which refuses arguments that do not fit its annotations.

    Raises:
        EdgeDeitError: an argument of a wrong type, out of its range, or not a number; it is named.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        bound = signature.bind(*arguments, **named)
        for name, value in bound.arguments.items():
            bound.arguments[name] = _fitting(
                function.__name__, name, value, _adapters(function)[name]
            )
        return function(*bound.args, **bound.kwargs)

    return call


def _fitting(function: str, name: str, value: Any, adapter: TypeAdapter[Any]) -> Any:
    from pydantic import ValidationError

    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "literal_error":
            known = first["ctx"]["expected"].replace(" or ", ", ").replace("'", "")
            raise EdgeDeitError(
                f"unknown {name.removesuffix('s')} {first['input']!r}; choose one of: {known}"
            ) from error
        place = "".join(f"[{part}]" for part in first["loc"] if isinstance(part, int))
        shown = repr(first["input"])
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        said = f"{first['msg'][0].lower()}{first['msg'][1:]}"
        raise EdgeDeitError(f"{function}: {name}{place} is {shown}; {said}") from error


@functools.cache
def _adapters(function: Callable[..., Any]) -> dict[str, TypeAdapter[Any]]:
    from typing import get_type_hints

    from pydantic import ConfigDict, TypeAdapter

    hints = get_type_hints(function, include_extras=True)
    config = ConfigDict(allow_inf_nan=False)
    del hints["return"]
    return {name: TypeAdapter(_plain(hint), config=config) for name, hint in hints.items()}


def _text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, PurePath) else value


def _plain(hint: Any) -> Any:
    """The annotation with our own classes as they are: what is one is taken, nothing else made into one."""
    from pydantic import BeforeValidator, InstanceOf

    if hint is str:
        return Annotated[str, BeforeValidator(_text)]
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(_plain(one) for one in get_args(hint))]  # noqa: UP007 # made at run time
    ours = (
        isinstance(hint, type) and hint is not NoneType and hint.__module__.startswith("edge_deit.")
    )
    return Annotated[hint, InstanceOf()] if ours else hint  # type: ignore[type-arg]
