"""Core ML on macOS, elsewhere the reference interpreter: an `.mlpackage` loaded and run."""

from __future__ import annotations

import json
import platform
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.exporters.mlpackage import check_weights, class_names, read_specification
from edge_deit.exporters.runtime import FileRunner, Runtime, in_order

__all__ = ["RUNTIME", "check", "load_on", "load_runner", "runs_on"]

_UNITS: Final = {  # as the command line has them -> members of coremltools.ComputeUnit
    "all": "ALL",
    "cpu-only": "CPU_ONLY",
    "cpu-and-gpu": "CPU_AND_GPU",
    "cpu-and-ne": "CPU_AND_NE",
}


def check(package: Path) -> None:
    """Refuse a package whose table names paths outside its folder.

    Raises:
        EdgeDeitError: it does, or it has no readable table.
    """
    table = package / "Manifest.json"
    try:
        entries = json.loads(table.read_text(encoding="utf-8"))["itemInfoEntries"].values()
        named = [str(entry["path"]) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EdgeDeitError(f"{package} has no readable Manifest.json; export it again") from error
    data = (package / "Data").resolve()
    for name in named:
        if "\0" in name or not (data / name).resolve().is_relative_to(data):
            raise EdgeDeitError(f"{table} names {name!r:.80}, outside its folder; export it again")


def load_runner(path: Path, threads: int) -> FileRunner:
    """Load a package into Core ML on macOS, elsewhere into the reference interpreter.

    Core ML chooses its own threads, and among all processors.

    Raises:
        EdgeDeitError: the package is missing, incomplete or damaged, or holds an unknown operator.
    """
    return load_on(path, threads, None)


def load_on(path: Path, threads: int, units: str | None) -> FileRunner:
    """`load_runner` on some of the processors only: `all`, `cpu-only`, `cpu-and-gpu`, or `cpu-and-ne`.

    The reference interpreter, elsewhere than on macOS, knows no processors.

    Raises:
        EdgeDeitError: as `load_runner`, or there are no such processors.
    """
    chosen = next(iter(_UNITS)) if units is None else units
    if chosen not in _UNITS:
        raise EdgeDeitError(f"no compute units {chosen!r}; choose one of: {', '.join(_UNITS)}")
    if runs_on() is not None:
        from edge_deit.exporters.coreml import reference

        return reference.load(path, threads)
    import coremltools as ct

    specification = read_specification(path)
    check_weights(specification, path)
    try:
        model = ct.models.MLModel(str(path), compute_units=ct.ComputeUnit[_UNITS[chosen]])
    except Exception as error:  # Core ML's own exceptions reach Python as RuntimeError and others
        raise EdgeDeitError(
            f"Core ML cannot load {path}: {first_line(error)}; export it again"
        ) from error
    return _runner(model, specification, path)


def runs_on() -> str | None:
    """None on macOS, otherwise what stands in for Core ML."""
    if platform.system() == "Darwin":
        return None
    return (
        "Core ML runs only on macOS; the file is checked with reference numerics (torch), "
        "which is not Core ML"
    )


@dataclass(frozen=True)
class _CoreMLRunner:
    """A model loaded by Core ML itself; threads take turns."""

    model: Any
    input_names: tuple[str, ...]
    output_name: str
    labels: tuple[str, ...] = ()
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, pixels: np.ndarray, *more: np.ndarray) -> np.ndarray:
        feed = dict(zip(self.input_names, map(_source, (pixels, *more)), strict=True))
        with self.lock:
            result = self.model.predict(feed)[self.output_name]
        if self.labels:
            result = [[result[label] for label in self.labels]]
        return np.array(result, dtype=np.float32)


def _source(pixels: np.ndarray) -> Any:
    """An image for bytes (1, H, W, 3), an array for anything else."""
    if pixels.dtype != np.uint8:
        return np.ascontiguousarray(pixels, np.float32)
    from PIL import Image

    return Image.fromarray(pixels[0])


def _runner(model: Any, specification: Any, path: Path) -> FileRunner:
    """A classifier returns a dictionary in no order that is promised; the metadata has the order."""
    description = specification.description
    label = description.predictedFeatureName
    (output,) = (one.name for one in description.output if one.name != label)
    texts = description.metadata.userDefined
    labels = class_names(texts["labels"]) if label else ()
    names = [one.name for one in description.input]
    ordered = tuple(names[place] for place in in_order(names, path))
    return _CoreMLRunner(model, ordered, output, labels)


RUNTIME: Final = Runtime(
    name="coreml",
    label="Core ML" if runs_on() is None else "the reference for Core ML",
    suffix=".mlpackage",
    extra="coreml",
    modules=("coremltools", "torch", "edge_deit.exporters.coreml.reference"),
    needless=(
        "executorch",
        "libsvm",
        "sklearn",
        "tensorflow",
        "torch",
        "torchao",
        "transformers",
        "xgboost",
    ),
    load=load_on,
    runs_on=runs_on,
    folder=True,
    check=check,
    units=tuple(_UNITS),
)
