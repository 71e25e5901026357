"""Apple's own Core AI runtime, on Linux and macOS: an `.aimodel` compiled, loaded and run."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import shutil
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.exporters.coreai.packages import CORE, check_version
from edge_deit.exporters.runtime import FileRunner, Runtime, Sparing, contiguous, in_order
from edge_deit.quantization.scheme import Precision

__all__ = [
    "FUNCTION",
    "METADATA",
    "PRECISIONS",
    "RUNTIME",
    "check",
    "is_half",
    "load_runner",
    "runs_on",
    "sparing",
]

PRECISIONS: Final[tuple[Precision, ...]] = (
    "fp32",
    "fp16",
    "int8",
    "palettized-6",
    "palettized-4",
)
FUNCTION: Final = "main"
"""The one function of our files."""
METADATA: Final = "metadata.json"
"""The file of a folder that holds its texts."""

_PROGRAM, _HASH = "main.mlirb", "main.hash"
_HALF_PHOTOS: Final = 2
_TIMES_THE_FILE: Final = 1.5  # what it is compiled to; 1.04 to 1.32 were seen
_BASE_BYTES: Final = 1_000_000  # of small files


def check(path: Path) -> None:
    """Refuse a folder that is no whole `.aimodel`: other files in it, or a program of another hash.

    Raises:
        EdgeDeitError: one line that names the file.
    """
    if not path.is_dir():
        raise EdgeDeitError(f"{path} does not exist" if not path.exists() else f"{path} is a file")
    names = {entry.name for entry in path.iterdir()}
    if missing := {_PROGRAM, _HASH, METADATA} - names:
        raise EdgeDeitError(f"{path} lacks {', '.join(sorted(missing))}; export it again")
    if more := names - {_PROGRAM, _HASH, METADATA}:
        raise EdgeDeitError(
            f"{path} holds {', '.join(sorted(more)):.80}, which no export wrote; export it again"
        )
    if hashlib.sha256((path / _PROGRAM).read_bytes()).digest() != (path / _HASH).read_bytes():
        raise EdgeDeitError(f"{path / _PROGRAM} is damaged: its hash is another; export it again")
    try:
        json.loads((path / METADATA).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise EdgeDeitError(f"{path / METADATA} is not readable; export it again") from error


def load_runner(path: Path, threads: int) -> FileRunner:
    """Compile a file for this machine and load it.

    The runtime for Linux has one thread; `threads` changes nothing.

    Raises:
        EdgeDeitError: the runtime is absent or of another version, the file is missing or damaged, or there
            is no room to compile it in.
    """
    if (reason := runs_on()) is not None:
        raise EdgeDeitError(reason)
    check_version(CORE)
    check(path)
    _check_space(path)
    loop = asyncio.new_event_loop()
    try:
        function = loop.run_until_complete(_function(path))
        description = function.desc
        names, (result,) = list(description.input_names), description.output_names
    except Exception as error:  # the runtime's exceptions come from Swift and C++
        raise EdgeDeitError(
            f"Core AI cannot load {path}: {first_line(error)}; export it again"
        ) from error
    sources = tuple(names[place] for place in in_order(names, path))
    return _CoreAIRunner(function, loop, sources, result)


def _check_space(path: Path) -> None:
    """The runtime compiles to a temporary folder, and ends the process where that is full."""
    need = _BASE_BYTES + _TIMES_THE_FILE * (path / _PROGRAM).stat().st_size
    if (free := shutil.disk_usage(tempfile.gettempdir()).free) < need:
        raise EdgeDeitError(
            f"no room to compile {path.name}: {free / 1e6:.0f} MB free for temporary files, Core AI needs "
            f"about {need / 1e6:.0f} MB; free some space, or set TMPDIR to another folder"
        )


async def _function(path: Path) -> Any:
    """The function of a file; what it was compiled to is gone from the disk when it is loaded."""
    from coreai.authoring import AIModelAsset

    async with AIModelAsset.load(path).executable() as model:
        return model.load_function(FUNCTION)


def runs_on() -> str | None:
    """None when Core AI's runtime is installed, otherwise why the file cannot be run here."""
    if importlib.util.find_spec("coreai") is None:
        return "Core AI's runtime is not installed: pip install 'edge-deit[coreai]'"
    return None


@dataclass(frozen=True)
class _CoreAIRunner:
    """A loaded function with one output; threads take turns."""

    function: Any
    loop: asyncio.AbstractEventLoop
    input_names: tuple[str, ...]
    output_name: str
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, pixels: np.ndarray, /, *more: np.ndarray) -> np.ndarray:
        from coreai.runtime import NDArray

        with self.lock:
            given = zip(self.input_names, (pixels, *more), strict=True)
            call = self.function({name: NDArray(contiguous(array)) for name, array in given})
            found = self.loop.run_until_complete(call)[self.output_name]
            return np.array(found.numpy())


def is_half(precision: str, form: str | None) -> bool:
    """Whether what stays float in such a file is half precision."""
    return precision == "fp16" or (precision != "fp32" and form == "ane")


def sparing(precision: str, form: str | None) -> Sparing | None:
    """Half precision has no instructions on x86: the runtime computes its products one by one."""
    if sys.platform == "darwin" or not is_half(precision, form):
        return None
    return Sparing(
        photos=_HALF_PHOTOS,
        reason="Core AI's runtime emulates half precision on this machine, which takes seconds to a minute "
        "a photo",
    )


RUNTIME: Final = Runtime(
    name="coreai",
    label="Core AI",
    suffix=".aimodel",
    extra="coreai",
    modules=("coreai.runtime", "coreai.authoring"),
    load=lambda path, threads, units: load_runner(path, threads),
    runs_on=runs_on,
    folder=True,
    check=check,
    sparing=sparing,
    timeout_s=900.0,
)
