"""What pyproject.toml cannot say: the packages, and the apps' projects, which become data of the package.

`edge_deit.exporters` is the folder `exporters` at the top. In a checkout a link leads to it, so that
nothing has to be installed; a wheel has the folder in its place.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from edge_deit.mobile.templates import FOLDERS, own_files  # noqa: E402 # it stands beside this file

INSIDE = "edge_deit/mobile/templates"


def templates() -> dict[str, str]:
    """Each file of the apps' projects -> its place in the package."""
    return {
        f"{folder}/{name}": f"{INSIDE}/{folder}/{name}"
        for folder in FOLDERS.values()
        for name in own_files(ROOT / folder)
    }


class BuildWithTemplates(build_py):
    """Also puts the projects into the package; an editable install has them beside it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, place in templates().items():
                target = Path(self.build_lib, place)
                target.parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(str(ROOT / source), str(target))


class SourcesWithTemplates(sdist):
    """Also packs the projects."""

    def make_distribution(self) -> None:
        self.filelist.extend(list(templates()))
        super().make_distribution()


exporters = [f"edge_deit.exporters.{name}" for name in find_packages("exporters")]
core = find_packages(include=["edge_deit*"], exclude=["edge_deit.exporters*"])
setup(
    packages=[*core, "edge_deit.exporters", *exporters],
    cmdclass={"build_py": BuildWithTemplates, "sdist": SourcesWithTemplates},
)
