"""What a wheel requires with one extra, a line each: python tools/release/needs.py WHEEL EXTRA"""

from __future__ import annotations

import sys
import zipfile
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement


def needs(wheel: Path, extra: str) -> list[str]:
    """Requirements of the core and of an extra, those of extras that it names included."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    listed = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    found, waiting = [], ["", extra]
    while waiting:
        wanted = waiting.pop(0)
        for one in listed:
            core = one.marker is None or "extra" not in str(one.marker)
            if core != (wanted == "") or not (
                one.marker is None or one.marker.evaluate({"extra": wanted})
            ):
                continue
            if one.name == "edge-deit":
                waiting += one.extras
            else:
                found.append(f"{one.name}{one.specifier}")
    return found


if __name__ == "__main__":
    print("\n".join(needs(Path(sys.argv[1]), sys.argv[2])))
