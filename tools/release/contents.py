"""Holds a wheel and an sdist against the checkout: python tools/release/contents.py WHEEL SDIST FILES

FILES lists the files that git tracks, a line each.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

MOST_BYTES = 16_000_000
PROJECTS = ("android_demo", "ios_demo", "web_demo")
TEMPLATES = "edge_deit/mobile/templates"
MADE = ("PKG-INFO", "setup.cfg", "edge_deit.egg-info")


def place(name: str) -> str | None:
    """Where a file of the checkout lies in the wheel; None where it does not belong into one."""
    top = name.partition("/")[0]
    if top in PROJECTS:
        return f"{TEMPLATES}/{name}"
    if top == "exporters":
        return f"edge_deit/{name}"
    return name if top == "edge_deit" and name != "edge_deit/exporters" else None


def main(wheel: Path, sdist: Path, listed: Path) -> None:
    """Print what is in both; any difference ends with exit code 1."""
    tracked = listed.read_text(encoding="utf-8").splitlines()
    source = {name for name in tracked if place(name) is not None}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    compare(wheel, inside, {str(place(name)) for name in source})
    with tarfile.open(sdist) as archive:
        members = [one for one in archive.getmembers() if not one.isdir()]
    packed = {one.name.partition("/")[2] for one in members}
    packed = {name for name in packed if not name.startswith(MADE)}
    compare(sdist, packed, source | {"README.md", "LICENSE", "pyproject.toml", "setup.py"})
    for file, count in ((wheel, len(names)), (sdist, len(members))):
        print(f"{file.name}: {count} files, {file.stat().st_size / 1e6:.1f} MB")
        if file.stat().st_size > MOST_BYTES:
            sys.exit(f"{file.name} is larger than {MOST_BYTES / 1e6:.0f} MB")


def compare(file: Path, found: set[str], wanted: set[str]) -> None:
    """Both sets are the same, or the names that differ are printed and that is the end."""
    if found != wanted:
        more, less = sorted(found - wanted)[:10], sorted(wanted - found)[:10]
        sys.exit(f"{file.name} has what does not belong there: {more}; it lacks {less}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
