"""The bundled checkpoint and photos; `README.md` beside this file says where they come from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

__all__ = ["CHECKPOINT", "bundled_checkpoint", "calibration_folder", "validation_folder"]

CHECKPOINT: Final = "deit_tiny_distilled_fashion_mnist.safetensors"


@contextmanager
def _resource(name: str) -> Iterator[Path]:
    with as_file(files(__name__) / name) as path:
        yield path


@contextmanager
def bundled_checkpoint() -> Iterator[Path]:
    """Path of the bundled checkpoint while the block runs."""
    with _resource(CHECKPOINT) as path:
        yield path


@contextmanager
def calibration_folder() -> Iterator[Path]:
    """Folder of 200 photos of the training split, while the block runs."""
    with _resource("calibration") as path:
        yield path


@contextmanager
def validation_folder() -> Iterator[Path]:
    """Folder of 1,000 photos of the test split, balanced, while the block runs."""
    with _resource("validation") as path:
        yield path
