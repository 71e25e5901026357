"""The line that says what opens a file."""

from __future__ import annotations

import pytest

from edge_deit.exporters import TARGETS, target
from edge_deit.exporters.programs import opened_by


def test_the_programs_that_open_all_files_of_a_kind() -> None:
    files = [
        (".tflite", {"litert": "1.0", "tensorflow-lite": "2.9"}),
        (".tflite", {"litert": "1.0", "tensorflow-lite": "2.17"}),
        (".mlpackage", {"ios": "17", "macos": "14"}),
        (".old", {}),
    ]
    assert opened_by(files) == (
        ".tflite opens in LiteRT 1.0, TensorFlow Lite 2.17 or later; "
        ".mlpackage opens in iOS 17, macOS 14 or later"
    )


@pytest.mark.parametrize("name", TARGETS)
def test_every_program_that_a_manifest_names_is_named(name: str) -> None:
    for least in target(name).least.values():
        line = opened_by([(target(name).suffix, least)])
        assert all(f" {version}" in line for version in least.values())
        assert all(word[0].isupper() or word in ("iOS", "macOS") for word in programs_of(line))


def programs_of(line: str) -> list[str]:
    return [part.split()[0] for part in line.partition(" opens in ")[2].split(", ")]
