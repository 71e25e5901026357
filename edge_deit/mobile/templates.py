"""The apps' projects as they come: in an installed package inside it, in a checkout beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edge_deit.common.errors import EdgeDeitError

__all__ = ["FOLDERS", "copy_template", "own_files"]

FOLDERS: Final[Mapping[str, str]] = {
    "Android": "android_demo",
    "iOS": "ios_demo",
    "web": "web_demo",
}
"""Platform -> folder of its project."""

_INSIDE: Final = Path(__file__).parent / "templates"
_BESIDE: Final = Path(__file__).parents[2]
_MADE: Final = frozenset(
    {".build", ".gradle", ".idea", ".kotlin", ".swiftpm", "build", "DerivedData", "node_modules"}
    | {"edge_deit", "xcuserdata", "local.properties", "__pycache__"}
)
"""Names of what builds and bundles leave in a project, where git cannot be asked."""


def copy_template(platform: str, new: Path) -> None:
    """Copy the project of a platform into the folder `new`, which must not exist.

    Raises:
        EdgeDeitError: this installation has no projects.
    """
    folder = FOLDERS[platform]
    project = next((one / folder for one in (_INSIDE, _BESIDE) if (one / folder).is_dir()), None)
    if project is None:
        raise EdgeDeitError(
            f"this installation has no {folder} to make a project from; install edge-deit from its wheel"
        )
    for name in own_files(project):
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(project / name, new / name)


def own_files(project: Path) -> list[str]:
    """Names of a project's own files, as git knows them; elsewhere of all that no build made."""
    tracked = _tracked(project)
    if tracked is not None:
        return [name for name in tracked if (project / name).is_file()]
    found = []
    for folder, inner, names in os.walk(project):
        inner[:] = [name for name in inner if name not in _MADE]
        found += [Path(folder, name).relative_to(project) for name in names if name not in _MADE]
    return sorted(map(str, found))


def _tracked(project: Path) -> list[str] | None:
    """Names of the files that git tracks in a checkout's folder; None without checkout or git."""
    if not (project.parent / ".git").exists() or (git := shutil.which("git")) is None:
        return None
    done = subprocess.run(  # noqa: S603 # a literal command
        [git, "-C", str(project), "ls-files", "-z"], capture_output=True, check=False
    )
    return sorted(os.fsdecode(done.stdout).split("\0")[:-1]) if done.returncode == 0 else None
