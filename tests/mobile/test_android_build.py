"""What the Android build is made of, as far as its files show it: Gradle itself does not run here."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import struct
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from conftest import ROOT

PROJECT = ROOT / "android_demo"
WRAPPER = PROJECT / "gradle/wrapper"

LEAST_GRADLE = {"9.0": (9, 1, 0), "9.1": (9, 3, 1), "9.2": (9, 4, 1)}
"""Android plugin -> the least Gradle that it starts with, as its release notes have it."""

DISTRIBUTIONS = {"9.3.1": "b266d5ff6b90eada6dc3b20cb090e3731302e553a27c5d3e4df1f0d76beaff06"}
"""Gradle -> sha256 of its -bin.zip; the one that Docker's image and Termux's package check too."""

WRAPPER_JARS = {"9.3.1": "b3a875ddc1f044746e1b1a55f645584505f4a10438c1afea9f15e92a7c42ec13"}
"""Gradle -> sha256 of the wrapper's jar, as projects quote it from Gradle's own list."""


def versions() -> dict[str, str]:
    """The version catalogue's versions."""
    text = (PROJECT / "gradle/libs.versions.toml").read_text(encoding="utf-8")
    found = tomllib.loads(text)["versions"]
    return {str(name): str(version) for name, version in found.items()}


def wrapper_properties() -> dict[str, str]:
    lines = (WRAPPER / "gradle-wrapper.properties").read_text(encoding="utf-8").splitlines()
    return dict(line.replace("\\:", ":").split("=", 1) for line in lines)


def gradle_version() -> str:
    """Of the distribution that the wrapper fetches."""
    url = wrapper_properties()["distributionUrl"]
    found = re.fullmatch(
        r"https://services\.gradle\.org/distributions/gradle-([\d.]+)-bin\.zip", url
    )
    assert found, url
    return found[1]


def test_the_android_plugin_takes_the_wrappers_gradle() -> None:
    agp = ".".join(versions()["agp"].split(".")[:2])
    assert agp in LEAST_GRADLE, f"look up which Gradle the Android plugin {agp} needs"
    assert tuple(map(int, gradle_version().split("."))) >= LEAST_GRADLE[agp]


def test_only_the_wrapper_says_which_gradle() -> None:
    for path in ("README.md", "gradle/libs.versions.toml", "../docs/mobile.md"):
        text = (PROJECT / path).read_text(encoding="utf-8")
        assert "--gradle-version" not in text, path
        assert "\ngradle = " not in text, path


def test_the_wrapper_fetches_what_gradle_published() -> None:
    found = wrapper_properties()
    assert found["distributionSha256Sum"] == DISTRIBUTIONS[gradle_version()]
    assert found["validateDistributionUrl"] == "true"
    jar = (WRAPPER / "gradle-wrapper.jar").read_bytes()
    assert hashlib.sha256(jar).hexdigest() == WRAPPER_JARS[gradle_version()]


def test_the_wrappers_scripts_start_its_jar(tmp_path: Path) -> None:
    """The shell script as it is, with a `java` that says what it was told."""
    script = PROJECT / "gradlew"
    assert os.access(script, os.X_OK)
    java = tmp_path / "java"
    java.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    java.chmod(0o755)
    paths = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": paths}  # no JAVA_HOME, which would come first
    done = subprocess.run(
        [str(script), ":app:lintDebug"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert told[-1] == ":app:lintDebug"
    assert str(WRAPPER / "gradle-wrapper.jar") in told
    batch = (PROJECT / "gradlew.bat").read_bytes()
    assert rb'-jar "%APP_HOME%\gradle\wrapper\gradle-wrapper.jar"' in batch
    assert batch.count(b"\r\n") == batch.count(b"\n"), "cmd.exe misreads lines that end in LF"


@pytest.mark.parametrize("name", ["gradlew", "gradlew.bat"])
def test_the_scripts_are_gradles_own(name: str) -> None:
    text = (PROJECT / name).read_text(encoding="utf-8")
    assert "Apache License, Version 2.0" in text
    assert "Meta Platforms" not in text


# The build file and the manifest


def test_what_is_measured_is_a_release_that_can_be_installed() -> None:
    gradle = (PROJECT / "app/build.gradle.kts").read_text(encoding="utf-8")
    benchmark = gradle.partition('create("benchmark") {')[2].partition("}")[0]
    for line in (
        'initWith(getByName("release"))',
        'signingConfig = signingConfigs.getByName("debug")',
        "isProfileable = true",
    ):
        assert line in benchmark
    release = gradle.partition("release {")[2].partition("}")[0]
    assert "isMinifyEnabled = true" in release
    assert '"proguard-rules.pro"' in release
    for document in (PROJECT / "README.md", ROOT / "docs/mobile.md"):
        text = document.read_text(encoding="utf-8")
        assert ":app:installBenchmark" in text, document
        assert "installDebug" not in text, document


def test_r8_keeps_what_native_code_looks_up() -> None:
    rules = (PROJECT / "app/proguard-rules.pro").read_text(encoding="utf-8")
    sources = "".join(
        path.read_text(encoding="utf-8") for path in (PROJECT / "app/src/main").rglob("*.kt")
    )
    packages = set(
        re.findall(r"^import ((?:com\.google\.ai|org\.pytorch)[a-z.]*)\.[A-Z]", sources, re.M)
    )
    assert packages == {"com.google.ai.edge.litert", "org.pytorch.executorch"}
    for package in packages:
        assert f"-keep class {package}.** {{ *; }}" in rules


def test_texts_without_arguments_hold_no_doubled_percent() -> None:
    """`getString(id)` formats nothing, so `%%` would be shown as it is."""
    for folder in ("values", "values-de"):
        path = PROJECT / f"app/src/main/res/{folder}/strings.xml"
        texts = ElementTree.parse(path).getroot().iter("string")  # noqa: S314 - our own file
        wrong = [one.attrib["name"] for one in texts if "%%" in (one.text or "")]
        assert wrong == []


# tools/mobile/android/apk.py


def apk_tool() -> ModuleType:
    folder = str(ROOT / "tools/mobile/android")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("apk")
    finally:
        sys.path.remove(folder)


apk = apk_tool()
PAGE = 16 * 1024


def library(alignment: int) -> bytes:
    """A 64-bit ELF file that is all header: a note and one mapped segment."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQ", 3, 183, 1, 0, 64, 0)
    head += struct.pack("<IHHHHHH", 0, 64, 56, 2, 64, 0, 0)
    note = struct.pack("<IIQQQQQQ", 4, 4, 0, 0, 0, 0, 0, 4)
    return head + note + struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 0, 0, alignment)


def built(folder: Path, alignment: int = PAGE, start: int = PAGE, abi: str = "arm64-v8a") -> Path:
    """An APK with one stored library, whose data begin at byte `start` of a page."""
    path = folder / "app.apk"
    entry = zipfile.ZipInfo(f"lib/{abi}/libmodel.so")
    entry.extra = bytes((start - 30 - len(entry.filename)) % PAGE)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, library(alignment))
        archive.writestr("classes.dex", bytes(2000), zipfile.ZIP_DEFLATED)
    return path


def merged(folder: Path, *names: str) -> Path:
    path = folder / "AndroidManifest.xml"
    lines = "".join(f'<uses-permission android:name="{name}" />' for name in names)
    scheme = "http://schemas.android.com/apk/res/android"
    path.write_text(f'<manifest xmlns:android="{scheme}">{lines}<application /></manifest>')
    return path


OWN = "org.edgedeit.demo.DYNAMIC_RECEIVER_NOT_EXPORTED_PERMISSION"


@pytest.mark.parametrize(
    ("changes", "names", "said"),
    [
        ({}, (), ""),
        ({}, (OWN, "android.permission.CAMERA"), ""),
        ({"alignment": 4096, "abi": "armeabi-v7a"}, (), ""),
        ({"alignment": 4096}, (), "libmodel.so: segments are aligned to 4096 bytes"),
        ({"start": 4096}, (), "libmodel.so begins at byte 4096 of the APK, within a page"),
        ({}, ("android.permission.INTERNET",), "asks for android.permission.INTERNET"),
    ],
)
def test_an_apk_is_looked_at(
    changes: dict[str, Any],
    names: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = built(tmp_path, **changes)
    code = apk.main([str(path), "--manifest", str(merged(tmp_path, *names))])
    out = capsys.readouterr().out
    assert out.startswith("app.apk: 0.0 MB\n")
    assert code == (1 if said else 0)
    assert out.count("WRONG: ") == code
    assert said in out


def test_what_is_no_apk_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.apk").write_text("no zip")
    for path in (tmp_path / "text.apk", tmp_path / "none.apk"):
        assert apk.main([str(path), "--manifest", str(merged(tmp_path))]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_app_asks_for_the_camera_alone_and_removes_what_libraries_want() -> None:
    root = ElementTree.parse(PROJECT / "app/src/main/AndroidManifest.xml").getroot()  # noqa: S314
    kept, removed = set(), set()
    for one in root.iter("uses-permission"):
        marker = one.attrib.get("{http://schemas.android.com/tools}node")
        assert marker in (None, "remove")
        name = one.attrib["{http://schemas.android.com/apk/res/android}name"]
        (removed if marker else kept).add(name)
    assert kept == set(apk.WANTED)
    assert removed
