"""pyproject.toml: extras, licences, and what is installed with the package."""

from __future__ import annotations

import importlib.metadata
import re

import pytest

import edge_deit
from edge_deit.exporters import TARGETS, runtime_of
from edge_deit.exporters import target as find_target
from source_tree import ROOT, extras, project

pytestmark = pytest.mark.newest


ALONE = {"runtime", "runtime-onnx"}
"""Extras that only run files."""


def distribution(requirement: str) -> str:
    """`edge-deit[all]>=1; python_version < "3"` -> `edge-deit`."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def brought_by(requirement: str) -> set[str]:
    """A distribution and those it requires without conditions, as its own metadata says."""
    name = distribution(requirement)
    try:
        needs = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        needs = []
    return {name, *(distribution(need) for need in needs if ";" not in need)}


@pytest.mark.parametrize("name", TARGETS)
def test_an_extra_brings_what_its_target_requires(name: str) -> None:
    target = find_target(name)
    assert target.name == name
    if missing := target.missing():
        pytest.skip(f"{', '.join(missing)} not installed: its dependencies are not known here")
    brought = {found for need in extras()[target.extra] for found in brought_by(need)}
    absent = {distribution(needed) for needed in target.requires.values()} - brought
    assert not absent, f"extra {target.extra} does not bring {sorted(absent)}"


def test_all_is_the_sum_of_the_targets() -> None:
    (everything,) = extras()["all"]
    named = set(re.findall(r"[\w-]+", everything.partition("[")[2]))
    assert named == extras().keys() - {
        "all",
        "dev",
        "torch",
        "ray",
        *ALONE,
    }  # a cluster is nobody's
    assert {find_target(name).extra for name in TARGETS} <= named


def admitted_pythons() -> list[str]:
    """`3.11` and so on, as the classifiers say."""
    classifiers = project()["classifiers"]
    assert isinstance(classifiers, list)
    found = re.findall(r"Python :: (3\.\d+)$", "\n".join(classifiers), re.MULTILINE)
    assert found
    return found


def test_the_pythons_that_are_admitted_are_the_tested_ones() -> None:
    first, *_, last = versions = admitted_pythons()
    minor = int(last.removeprefix("3."))
    assert project()["requires-python"] == f">={first},<3.{minor + 1}"
    assert f"\nversion={last}\n" in (ROOT / "tools/newest.sh").read_text(encoding="utf-8")
    assert f"PYTHON ?= python{first}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    cpu_build = (ROOT / "requirements-torch.lock").read_text(encoding="utf-8").split("torch==")[1]
    assert cpu_build.count("--hash") == len(versions), "one CPU build of PyTorch for each Python"


def test_what_runs_files_alone_brings_no_torch() -> None:
    alone = {runtime_of(name).alone for name in TARGETS} - {None}
    assert alone == ALONE
    dependencies = project()["dependencies"]
    assert isinstance(dependencies, list)
    for need in (*dependencies, *(need for name in ALONE for need in extras()[name])):
        assert not brought_by(need) & {"torch", "executorch", "transformers", "edge-deit"}, need
    for name in TARGETS:
        assert "edge-deit[torch]" in extras()[find_target(name).extra], name


def test_the_version_stands_in_one_place() -> None:
    assert project()["dynamic"] == ["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {edge_deit.__version__}\n" in citation


def test_the_lock_has_what_the_extras_pin() -> None:
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = {need.partition(";")[0] for needs in extras().values() for need in needs if "==" in need}
    absent = {pin for pin in pins if not any(line.startswith(f"{pin} ") for line in locked)}
    assert pins
    assert not absent, "bash tools/lock.sh .venv/bin/python"


def test_package_data_and_licences_exist() -> None:
    files = project()["license-files"]
    assert isinstance(files, list)
    for name in files:
        assert (ROOT / name).stat().st_size > 500, name
