"""pyproject.toml: extras, licences, and what is installed with the package."""

from __future__ import annotations

import importlib.metadata
import re

import pytest

from exporters import TARGETS
from exporters import target as find_target
from source_tree import ROOT, extras, project


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
    assert named == extras().keys() - {"all", "dev"}
    assert {find_target(name).extra for name in TARGETS} <= named


def test_package_data_and_licences_exist() -> None:
    files = project()["license-files"]
    assert isinstance(files, list)
    for name in files:
        assert (ROOT / name).stat().st_size > 500, name
