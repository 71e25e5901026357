"""The programs that load a folder of `--layout huggingface`, each asked for its answers."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from sources import Answers

from browser import run_page
from edge_deit.exporters.huggingface import FILE_NAMES
from environments import HERE, node_environment, python_environment

__all__ = ["DTYPES", "in_chromium", "in_node", "in_optimum", "pairs_of", "run"]

DTYPES: Final = {"fp32": "fp32", "fp16": "fp16", "int8": "q8"}
"""What transformers.js calls the precisions."""


def run(command: list[object]) -> Any:
    """The JSON that a program prints last."""
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def in_optimum(folder: Path, precision: str, photos: list[Path]) -> tuple[Answers, Answers]:
    """Of one photo at a time, and of three at once."""
    python = python_environment("optimum", over_ours=True)
    name = FILE_NAMES[precision]  # type: ignore[index]
    said = run([python, "-W", "ignore", HERE / "classify_optimum.py", folder, name, *photos])
    return pairs_of(said["answers"]), pairs_of(said["batched"])


def in_node(folder: Path, precision: str, photos: list[Path]) -> Answers:
    """transformers.js in Node."""
    program = [HERE / "node" / "classify.mjs", node_environment(), folder.parent, folder.name]
    return pairs_of(run(["node", *program, DTYPES[precision], *photos])["answers"])


def in_chromium(folder: Path, precision: str, photos: list[Path], profile: Path) -> Answers:
    """transformers.js in WebAssembly, served by a server of its own; the photos lie in one folder.

    `profile` is for the browser's own files.
    """
    folders = {
        "page": HERE,
        "modules": node_environment() / "node_modules",
        "models": folder.parent,
        "photos": photos[0].parent,
    }
    asked = f"name={folder.name}&dtype={DTYPES[precision]}&device=wasm"
    listed = ",".join(photo.name for photo in photos)
    said = run_page(f"page/classify.html?{asked}&photos={listed}", folders, profile)
    return pairs_of(said["answers"])


def pairs_of(said: dict[str, list[list[Any]]]) -> Answers:
    """A program's answers under the photos' stems."""
    return {Path(photo).stem: [(p[0], p[1]) for p in pairs] for photo, pairs in said.items()}
