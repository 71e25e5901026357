"""What tests make once in a run, whichever of them and whichever worker needs it first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

__all__ = ["once", "shared_root"]


def shared_root(factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run see."""
    base = factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    root.mkdir(exist_ok=True)
    return root


def once(path: Path, make: Callable[[Path], object]) -> Path:
    """`path`, a file or folder that `make` writes there; others wait meanwhile, and find it made.

    Nobody may change it afterwards: tests that damage files take a copy.
    """
    made = path.with_name(f".{path.name}.made")
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not made.exists():
            if path.is_dir():  # half of it, from a test that failed
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            make(path)
            made.touch()
    return path
