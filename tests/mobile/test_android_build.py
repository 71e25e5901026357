"""What the Android build is made of, as far as its files show it: Gradle itself does not run here."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tomllib
from pathlib import Path

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
