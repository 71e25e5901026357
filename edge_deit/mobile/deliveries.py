"""What may be bundled: artefacts verified before use, each checked against the others and the app."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_deit.artefacts.artefact import Artefact
from edge_deit.common.errors import EdgeDeitError
from edge_deit.mobile.golden import golden_spec

__all__ = [
    "PLACEHOLDERS",
    "PLATFORMS",
    "Delivery",
    "Platform",
    "check_alone",
    "check_together",
    "plan_deliveries",
]

PLACEHOLDERS: Final = (".gitignore", ".gitkeep", "README.md")
"""Files of the apps' own repository that outlive a bundle."""


@dataclass(frozen=True)
class Platform:
    """One app: what marks its project, the folder that is replaced, and what it can run.

    `sign` is a folder or file of every such project. `engines` maps (target, backend) to the name that the
    app shows.
    """

    name: str
    option: str
    sign: str
    place: str
    engines: Mapping[tuple[str, str], str]

    def takes(self) -> str:
        """What can be exported for this app, as a user types it."""
        kinds = (f"--target {target} --backend {backend}" for target, backend in self.engines)
        return f"{self.name}: {', '.join(kinds)}"


PLATFORMS: Final = (
    Platform(
        name="Android",
        option="--android",
        sign="app/src/main",
        place="app/src/main/assets/edge_deit",
        engines={("tflite", "xnnpack"): "LiteRT", ("executorch", "xnnpack"): "ExecuTorch"},
    ),
    Platform(
        name="iOS",
        option="--ios",
        sign="DeiTDemo",
        place="DeiTDemo/Bundled",
        engines={
            ("coreml", "mlprogram"): "Core ML",
            ("coreai", "coreai"): "Core AI",
            ("executorch", "xnnpack"): "ExecuTorch, XNNPACK",
            ("executorch", "coreml"): "ExecuTorch, Core ML",
        },
    ),
    Platform(
        name="web",
        option="--web",
        sign="index.html",
        place="edge_deit",
        engines={("onnx", "cpu"): "onnxruntime-web", ("tflite", "xnnpack"): "LiteRT.js"},
    ),
)


@dataclass(frozen=True)
class Delivery:
    """What goes into one project; a `new` one is to be made from the template."""

    platform: Platform
    project: Path
    artefacts: list[Artefact]
    new: bool = False

    @property
    def place(self) -> Path:
        """The folder that is replaced."""
        return self.project / self.platform.place


def check_alone(artefact: Artefact) -> None:
    """Refuse an artefact that no app can show.

    Raises:
        EdgeDeitError: it was renamed, or has no classes to show.
    """
    path, manifest = artefact.path, artefact.manifest
    if manifest.artefact != path.name:
        raise EdgeDeitError(
            f"{path} was exported as {manifest.artefact!r}; give it that name again, or export it again"
        )
    golden_spec(manifest)  # refuses what has no classes to show


def check_together(artefacts: list[Artefact]) -> None:
    """Refuse what cannot share one app.

    Raises:
        EdgeDeitError: equal names, or other weights, labels or preprocessing.
    """
    first, *others = artefacts
    names = [artefact.path.name.casefold() for artefact in artefacts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise EdgeDeitError(f"two artefacts are called {twice[0]}; name each once")
    for other in others:
        a, b = first.manifest, other.manifest
        for what, same in (
            ("weights", a.weights["sha256"] == b.weights["sha256"]),
            ("labels", a.labels == b.labels),
            ("preprocessing", a.preprocess_spec == b.preprocess_spec),
        ):
            if not same:
                raise EdgeDeitError(
                    f"{first.path.name} and {other.path.name} have different {what}; "
                    "bundle artefacts of one checkpoint"
                )


def plan_deliveries(artefacts: list[Artefact], projects: dict[str, Path | None]) -> list[Delivery]:
    """Each project with the artefacts that its app can run.

    `projects` maps each platform's option to its folder.

    Where nothing is, a project is to be made.

    Raises:
        EdgeDeitError: no project named, one that is not the platform's or holds files of others, new
            ones that lie in each other, or an artefact or a project that would be left over.
    """
    wanted = [(p, folder) for p in PLATFORMS if (folder := projects[p.option]) is not None]
    if not wanted:
        options = " or ".join(f"{p.option} DIR" for p in PLATFORMS)
        raise EdgeDeitError(f"no project named; add {options}")
    for artefact in artefacts:
        if not any(artefact.engine_key in platform.engines for platform, _ in wanted):
            target, backend = artefact.engine_key
            raise EdgeDeitError(
                f"{artefact.path.name} is made for {target} ({backend}), which the app cannot run; "
                f"export for {'; '.join(platform.takes() for platform, _ in wanted)}"
            )
    deliveries: list[Delivery] = []
    for platform, project in wanted:
        new = is_absent(project)
        if not new:
            _check_project(platform, project)
        chosen = [one for one in artefacts if one.engine_key in platform.engines]
        if not chosen:
            raise EdgeDeitError(
                f"nothing for {platform.option}; export for {platform.takes()}, or leave it out"
            )
        _check_apart(platform, project, new, deliveries)
        deliveries.append(Delivery(platform, project, chosen, new))
    return deliveries


def is_absent(folder: Path) -> bool:
    """Whether a project can be made there: nothing is, or an empty folder."""
    if folder.is_dir():
        return not any(folder.iterdir())
    return not os.path.lexists(folder)


def _check_apart(platform: Platform, project: Path, new: bool, others: list[Delivery]) -> None:
    for other in others:
        one, two = project.resolve(), other.project.resolve()
        if (new or other.new) and (one.is_relative_to(two) or two.is_relative_to(one)):
            raise EdgeDeitError(
                f"{platform.option} {project} and {other.platform.option} {other.project} are one in the "
                "other; give each project a folder of its own"
            )


def _check_project(platform: Platform, project: Path) -> None:
    if not (project / platform.sign).exists():
        raise EdgeDeitError(
            f"{project} is no {platform.name} project: it has no {platform.sign}; {platform.option} takes "
            "the project's top folder, or a new one that it makes"
        )
    place = project / platform.place
    if place.exists() and not place.is_dir():
        raise EdgeDeitError(f"{place} is a file; move it away, a folder belongs there")
    found = [entry.name for entry in place.iterdir()] if place.is_dir() else []
    foreign = sorted(set(found) - set(PLACEHOLDERS))
    if foreign and "bundle.json" not in found:
        raise EdgeDeitError(
            f"{place} holds files that no bundle wrote ({', '.join(foreign[:3])}); move them away"
        )
