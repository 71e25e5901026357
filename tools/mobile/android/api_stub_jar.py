"""Make a compile-only android.jar from Android's published API text.

    python tools/mobile/android/api_stub_jar.py android.jar current.txt api_additions.txt

The first text is the whole API of one release, the others add members and classes of later releases.
Every class has all its public members and no code, so a compiler checks calls against the official API,
java.* included, without the Android SDK.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from class_file import class_file
from signatures import ApiClass, parse_api

__all__ = ["load_api", "main", "write_jar"]

_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time, so that equal input gives equal bytes


def load_api(texts: Sequence[Path]) -> dict[str, ApiClass]:
    """Full name -> class of the first text, with the members that the other texts add.

    Raises:
        ValueError: a line that is no signature, or an addition that is there already.
    """
    api: dict[str, ApiClass] = {}
    for text in texts:
        for name, new in parse_api(text.read_text(encoding="utf-8")).items():
            known = api.setdefault(name, new)
            if known is new:
                continue
            for member in new.members:
                if member in known.members:
                    raise ValueError(f"{text}: {name}.{member.name} is in the API already")
                known.members.append(member)
    return api


def write_jar(api: dict[str, ApiClass], output: Path) -> None:
    """One class file for each class."""
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as jar:
        for found in sorted(api.values(), key=lambda each: each.binary_name):
            entry = zipfile.ZipInfo(f"{found.binary_name}.class", _EPOCH)
            jar.writestr(entry, class_file(found, api))


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code: 0, or 2 with one line on stderr."""
    if len(arguments) < 2:
        print("usage: api_stub_jar.py OUTPUT.jar API.txt [ADDITIONS.txt ...]", file=sys.stderr)
        return 2
    output = Path(arguments[0])
    try:
        api = load_api([Path(name) for name in arguments[1:]])
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write_jar(api, output)
    print(f"{len(api)} classes of the API")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
