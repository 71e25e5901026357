"""The files that a benchmark measures: ours (with manifests), the stock ones, and the float model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, Literal

import torch

from edge_deit.artefacts.manifest import manifest_path, read_manifest
from edge_deit.checkpoint.load import load_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path, size_of
from edge_deit.exporters import TARGETS, Runner
from edge_deit.exporters import target as find_target
from edge_deit.model.outputs import as_runner
from toolchains.recipes import RECIPES
from toolchains.runners import load_stock
from toolchains.stamp import read_stamp

__all__ = [
    "TORCH_NAME",
    "Candidate",
    "Origin",
    "counterpart",
    "find_ours",
    "find_stock",
    "load",
    "select",
    "torch_candidate",
]

Origin = Literal["ours", "stock", "torch"]

TORCH_NAME: Final = "torch/eager/fp32"
"""Name of the plain float module, executed by PyTorch."""


@dataclass(frozen=True)
class Candidate:
    """One thing to measure.

    `name` is ORIGIN/TARGET/WHAT, where WHAT is our precision (and the backend, if it is not the target's
    first) or the stock recipe; `path` is the file, for the float model its weights.
    """

    name: str
    origin: Origin
    target: str
    precision: str
    path: Path
    description: str
    sha256: str
    size_bytes: int

    @property
    def stand_in(self) -> str | None:
        """What stands in for the target's runtime on this machine, None where it is the runtime itself."""
        return None if self.origin == "torch" else find_target(self.target).runs_on()


def torch_candidate(weights: Path) -> Candidate:
    """The plain float module, read from its weights file."""
    description = "the plain module, scaled_dot_product_attention and LayerNorm, PyTorch eager"
    digest, size_bytes = hash_path(weights), size_of(weights)
    return Candidate(TORCH_NAME, "torch", "torch", "fp32", weights, description, digest, size_bytes)


def find_ours(folder: Path) -> list[Candidate]:
    """Every artefact of the export command in a folder, by target, then precision.

    Left out is a file whose package alone is run here (a `.pte` for the Core ML delegate), or one that is
    run so slowly that no table waits for it (half precision in Core AI's runtime on x86).

    Raises:
        EdgeDeitError: no artefact, or one that its manifest does not fit.
    """
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith((".", "stock.")) or not manifest_path(path).is_file():
            continue
        manifest = read_manifest(path)
        target = find_target(manifest.target)
        slow = target.runtime.sparing(manifest.precision, manifest.scheme.get("form"))
        if target.runtime.enclosed(manifest.backend) is not None or slow is not None:
            continue
        mark = "" if manifest.backend == target.backends[0] else f"-{manifest.backend}"
        kept = manifest.scheme.get("keep_float") or []
        description = "edge_deit.export" + (f", {', '.join(kept)} kept in float" if kept else "")
        found.append(
            Candidate(
                name=f"ours/{manifest.target}/{manifest.precision}{mark}",
                origin="ours",
                target=manifest.target,
                precision=manifest.precision,
                path=path,
                description=description,
                sha256=manifest.sha256,
                size_bytes=manifest.size_bytes,
            )
        )
    if not found:
        raise EdgeDeitError(
            f"no artefact with a manifest in {folder}; make some with the export command"
        )
    names = [one.name for one in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise EdgeDeitError(
            f"{folder} holds {', '.join(twice)} more than once; give it one model's files"
        )
    targets = list(TARGETS)
    return sorted(found, key=lambda one: (targets.index(one.target), one.precision))


def find_stock(folder: Path) -> list[Candidate]:
    """Every stock file in a folder, in the order of the recipes.

    Raises:
        EdgeDeitError: none, or one that its stamp does not fit.
    """
    found: list[Candidate] = []
    for recipe in RECIPES:
        path = folder / recipe.file_name
        if not path.exists():
            continue
        stamp = read_stamp(path)
        seen = stamp.inputs["calibration"].get("images_seen")
        note = f"; {seen} photos" if seen else ""
        found.append(
            Candidate(
                name=f"stock/{recipe.target}/{recipe.recipe}",
                origin="stock",
                target=recipe.target,
                precision=stamp.precision,
                path=path,
                description=stamp.description + note,
                sha256=stamp.sha256,
                size_bytes=stamp.size_bytes,
            )
        )
    if not found:
        raise EdgeDeitError(f"no stock file in {folder}; make them with benchmarks/stock.py")
    return found


def select(found: Sequence[Candidate], patterns: Sequence[str]) -> list[Candidate]:
    """Those whose name fits one of the shell patterns; all of them when there is no pattern.

    Raises:
        EdgeDeitError: a pattern fits none.
    """
    for pattern in patterns:
        if not any(fnmatch(one.name, pattern) for one in found):
            names = ", ".join(one.name for one in found)
            raise EdgeDeitError(f"--only {pattern!r} fits nothing; there are: {names}")
    return [one for one in found if not patterns or any(fnmatch(one.name, p) for p in patterns)]


def counterpart(one: Candidate, among: Sequence[Candidate]) -> Candidate | None:
    """The stock file that one of ours replaces: same target and precision, the first recipe of them.

    LiteRT's static recipe makes every operator integer; it stands beside our `int8` too, as the toolchain
    has no other static one.
    """
    stock = [other for other in among if other.origin == "stock" and other.target == one.target]
    for precision in (one.precision, *(("int8-full",) if one.precision == "int8" else ())):
        for other in stock:
            if other.precision == precision:
                return other
    return None


def load(origin: str, target: str, path: Path, threads: int) -> Runner:
    """A runner for one of ours, a stock file, or (origin `torch`) the plain float module."""
    if origin == "torch":
        return _eager(path, threads)
    if origin == "stock":
        return load_stock(target, path, threads)
    return find_target(target).load_runner(path, threads)


def _eager(weights: Path, threads: int) -> Runner:
    torch.set_num_threads(threads)
    return as_runner(load_model(str(weights)).model)
