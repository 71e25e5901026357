"""Damaged copies of sound files: bytes changed, and values of a JSON or TOML text replaced by odd ones."""

from __future__ import annotations

import copy
import json
import random
from typing import Any, Final

__all__ = ["damaged_bytes", "damaged_json"]

_ODD: Final = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, -(10**20), 0.5, -0.0, 1e308, 1e-320, "", "a", "0",
    "\ud800", "\x00", "\x1b[31m", "../../a", "/dev/zero", "a" * 3000, "\u202e",
    [], {}, [None], [[[[]]]], {"a": {}}, [0] * 50,
    "NaN", "1e400", [1, 2, 3], "224", {"": 0}, {"__class__": "int"},
)  # fmt: skip
_RAW: Final = (
    b"NaN", b"Infinity", b"1e400", b"9" * 5000, b"[" * 5000, b"{" * 5000, b'"', b"\\u0000", b"\\ud800",
    b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\x00", b"\n", b"//", b",", b"]", b"}", b"'", b"\t", b";", b"=",
    b"[[rule]]", b"0x", b"1_0", b"null",
)  # fmt: skip


def damaged_bytes(content: bytes, seed: int) -> bytes:
    """Up to four places changed, taken out, repeated or filled with odd bytes, or the end cut off."""
    generator = random.Random(seed)  # noqa: S311 # not a secret
    changed = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        place = generator.randint(0, len(changed))
        length = generator.choice((0, 1, 1, 2, 4, 16, 200))
        new = generator.choice(
            (
                b"",
                generator.randbytes(length),
                bytes(length),
                generator.choice(_RAW),
                changed[:length],
            )
        )
        if generator.random() < 0.05:
            del changed[place:]
        else:
            changed[place : place + length] = new
    return bytes(changed)


def damaged_json(content: bytes, seed: int) -> bytes:
    """A JSON text with one to three values replaced, taken out, added, or moved to another place."""
    generator = random.Random(seed)  # noqa: S311
    data = json.loads(content)
    for _ in range(generator.randint(1, 3)):
        places = list(_places(data))
        holder, key = generator.choice(places)
        kind = generator.random()
        if kind < 0.15:
            del holder[key]
        elif kind < 0.3:
            other, name = generator.choice(places)
            if name in other if isinstance(other, dict) else name < len(other):
                holder[key] = json.loads(json.dumps(other[name]))
        elif kind < 0.4 and isinstance(holder, dict):
            name = generator.choice(("more", "", "__proto__", "\ud800", f"{key} "))
            holder[name] = copy.deepcopy(generator.choice(_ODD))
        else:
            holder[key] = copy.deepcopy(generator.choice(_ODD))
        if not list(_places(data)):
            break
    return json.dumps(data).encode()


def _places(data: Any) -> Any:
    """Every (container, key or index) of a document."""
    entries = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in list(entries):
        yield data, key
        if isinstance(value, dict | list):
            yield from _places(value)
