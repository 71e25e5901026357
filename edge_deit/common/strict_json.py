"""JSON of strangers: read as it stands, or refused with the reason."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, Final, NoReturn

from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.common.files import read_bytes

__all__ = ["parse_json", "read_json"]

_MOST_BYTES: Final = 1 << 24
_MOST_VALUES: Final = 4_000_000
_DEEPEST: Final = 64
_MOST_DIGITS: Final = 19  # more do not fit into 64 bits


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; bytes may be UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        ValueError: no JSON, or what two readers may take for different things: a key that is there
            twice, NaN or infinity, a number beyond 64 bits, half of a surrogate pair; more values or
            deeper nesting than any file of ours or of a checkpoint has.
    """
    marks = (",", ":", "[", "{") if isinstance(text, str) else (b",", b":", b"[", b"{")
    if sum(map(text.count, marks)) > _MOST_VALUES:  # type: ignore[arg-type]
        raise ValueError(f"it holds more than {_MOST_VALUES:,} values")
    try:
        data = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_float,
            parse_int=_int,
        )
        _check_depth(data)
        json.dumps(data, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("it holds half of a surrogate pair, which is no text") from error
    return data


def read_json(path: Path, what: str = "file") -> Any:
    """The value that a JSON file holds.

    Raises:
        EdgeDeitError: no regular file, too large, or not such JSON; the message names it.
    """
    data = read_bytes(path, _MOST_BYTES, what)
    try:
        return parse_json(data)
    except ValueError as error:
        raise EdgeDeitError(f"{path} is not readable: {first_line(error)}") from error


def _check_depth(data: Any) -> None:
    level: list[Any] = [[data]]
    for _ in range(_DEEPEST):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError("it is nested too deeply")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"it has the key {twice!r:.60} twice")
    return data


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"it holds {text}, which is no number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text:.20} is too large")
    return value


def _int(text: str) -> int:
    if len(text.lstrip("-")) > _MOST_DIGITS or abs(int(text)) >= 2**63:
        raise ValueError(f"the number {text:.20} is too large")
    return int(text)
