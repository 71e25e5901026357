#!/usr/bin/env python3
"""Looks at a built app: permissions that libraries brought, 16 KB pages, sizes.

    python tools/mobile/android/apk.py APP.apk --manifest MERGED/AndroidManifest.xml

The merged manifest lies in app/build/intermediates/merged_manifests after a Gradle build. Exit code: 0 all
right, 1 something is not, 2 a file cannot be read.
"""

from __future__ import annotations

import argparse
import struct
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

PAGE_BYTES: Final = 16 * 1024
"""Pages of phones with Android 15 and newer; Google Play asks for it in 64-bit libraries."""

WIDE_ABIS: Final = ("arm64-v8a", "x86_64")
OWN: Final = ".DYNAMIC_RECEIVER_NOT_EXPORTED_PERMISSION"
"""Of the app itself, from androidx.core: no other app gets or gives it."""

WANTED: Final = ("android.permission.CAMERA",)
"""What the app itself asks for."""

_ANDROID: Final = "{http://schemas.android.com/apk/res/android}"
_LOAD: Final = 1  # program header of a segment that is mapped


def permissions(manifest: Path) -> Iterator[str]:
    """A line for each permission that the merged manifest asks for."""
    root = ElementTree.parse(manifest).getroot()  # noqa: S314 - what Gradle wrote
    for kind in ("uses-permission", "uses-permission-sdk-23"):
        for element in root.iter(kind):
            name = element.attrib[f"{_ANDROID}name"]
            if not name.endswith(OWN) and name not in WANTED:
                yield f"{manifest.name} asks for {name}; remove it in the app's manifest (tools:node)"


def segment_alignments(library: bytes) -> list[int]:
    """The alignment of each mapped segment of a 64-bit ELF file.

    Raises:
        ValueError: it is none.
    """
    if library[:6] != b"\x7fELF\x02\x01":
        raise ValueError("it is no little-endian 64-bit ELF file")
    (offset,) = struct.unpack_from("<Q", library, 0x20)
    size, count = struct.unpack_from("<HH", library, 0x36)
    headers = [offset + size * number for number in range(count)]
    return [
        struct.unpack_from("<Q", library, at + 48)[0]
        for at in headers
        if struct.unpack_from("<I", library, at)[0] == _LOAD
    ]


def pages(apk: Path) -> Iterator[str]:
    """A line for each 64-bit library that a phone with pages of 16 KB cannot map."""
    with zipfile.ZipFile(apk) as archive:
        for entry in archive.infolist():
            parts = entry.filename.split("/")
            if parts[0] != "lib" or parts[1] not in WIDE_ABIS:
                continue
            found = segment_alignments(archive.read(entry))
            if not found or min(found) < PAGE_BYTES:
                yield f"{entry.filename}: segments are aligned to {min(found, default=0)} bytes"
            if entry.compress_type == zipfile.ZIP_STORED:
                start = _start(apk, entry)
                if start % PAGE_BYTES:
                    yield f"{entry.filename} begins at byte {start} of the APK, within a page"


def _start(apk: Path, entry: zipfile.ZipInfo) -> int:
    """Where an entry's data begins: behind its local header, whose extra field pads it."""
    with apk.open("rb") as stream:
        stream.seek(entry.header_offset + 26)
        name, extra = struct.unpack("<HH", stream.read(4))
    return entry.header_offset + 30 + int(name) + int(extra)


def sizes(apk: Path) -> list[str]:
    """The APK's size, and what its parts take of it."""
    parts: dict[str, int] = {}
    with zipfile.ZipFile(apk) as archive:
        for entry in archive.infolist():
            words = entry.filename.split("/")
            part = "/".join(words[:2]) if words[0] == "lib" else words[0]
            parts[part] = parts.get(part, 0) + entry.compress_size
    lines = [f"{apk.name}: {apk.stat().st_size / 1e6:.1f} MB"]
    large = sorted(parts.items(), key=lambda item: -item[1])[:8]
    return lines + [f"  {name}: {size / 1e6:.1f} MB" for name, size in large]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("apk", type=Path)
    parser.add_argument("--manifest", type=Path, required=True, help="the merged one")
    options = parser.parse_args(arguments)
    try:
        told = sizes(options.apk)
        wrong = [*permissions(options.manifest), *pages(options.apk)]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, ElementTree.ParseError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(told))
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
