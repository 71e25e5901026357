"""ExecuTorch's runtime: a `.pte` file loaded and executed, on the thread pool that all of them share.

The binding `executorch.extension.pybindings._C` is used as it is: the package's own `executorch.runtime`
imports the whole exporter first, which takes six seconds more.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.exporters.executorch.enclosed import COREML_BACKEND, unpack
from edge_deit.exporters.runtime import Enclosed, FileRunner, Runtime, contiguous

__all__ = [
    "BACKENDS",
    "RUNTIME",
    "Program",
    "PteRunner",
    "load_program",
    "load_runner",
    "open_program",
    "runs_on",
]

BACKENDS: Final = ("xnnpack", "coreml")
"""What may execute a program, the default first."""
_COREML: Final = Enclosed(
    "coreml",
    unpack,
    "the Core ML delegate runs only on macOS and iOS; the package in the .pte is checked with reference "
    "numerics (torch), which is neither Core ML nor ExecuTorch's runtime",
)
_LOCK: Final = (
    threading.RLock()
)  # loading and executing share one thread pool, which may be replaced


@dataclass(frozen=True)
class Program:
    """A program in the runtime; it points into `content`, so it keeps it."""

    binding: Any
    content: bytes

    @property
    def method_names(self) -> tuple[str, ...]:
        """Names of its methods, in the file's order."""
        return tuple(map(str, map(self.binding.get_method_name, range(self.binding.num_methods()))))

    def load_method(self, name: str) -> Any:
        """A method that takes a list of tensors and returns one; errors are the runtime's own."""
        return self.binding.load_method(name)


class _ThreadPool:
    """The one thread pool that all loaded methods of the process share."""

    generation = 0

    @classmethod
    def resize(cls, threads: int) -> None:
        """Make it `threads` wide; upstream calls this unsafe for methods that are loaded already."""
        binding = _binding()
        if binding._threadpool_get_thread_count() != threads:
            binding._unsafe_reset_threadpool(threads)
            cls.generation += 1


@dataclass
class PteRunner:
    """A file's `forward`, loaded again whenever the thread pool under it was replaced.

    Threads take turns, also those that run other files.
    """

    path: Path
    threads: int
    program: Program | None = None
    method: Any = None
    generation: int = -1

    def load(self) -> None:
        """Load `forward` for a pool of `threads`.

        Raises:
            EdgeDeitError: the file is missing, cut short or invalid, or its delegate does not exist here.
        """
        with _LOCK:
            _ThreadPool.resize(self.threads)
            if self.method is None or self.generation != _ThreadPool.generation:
                self.program, self.method = _load_forward(self.path)
                self.generation = _ThreadPool.generation

    def __call__(self, pixels: np.ndarray, *more: np.ndarray) -> np.ndarray:
        import torch

        sources = [torch.from_numpy(contiguous(one)) for one in (pixels, *more)]  # without strides
        with _LOCK:
            self.load()
            (result,) = self.method(sources)
            return np.array(result.numpy())  # the method may write into the same memory again


def load_program(path: Path) -> Program:
    """The file in ExecuTorch's runtime, no method of it loaded yet.

    Raises:
        EdgeDeitError: the file is missing, or not a whole `.pte` file.
    """
    if not path.is_file():
        raise EdgeDeitError(f"{path} does not exist")
    try:
        return open_program(path.read_bytes())
    except RuntimeError as error:
        raise _not_a_program(path, first_line(error)) from error


def open_program(content: bytes) -> Program:
    """A file's content in the runtime; errors are its own (RuntimeError)."""
    binding = _binding()
    checks = binding.Verification.InternalConsistency
    return Program(binding._load_program_from_buffer(content, program_verification=checks), content)


def load_runner(path: Path, threads: int) -> FileRunner:
    """Load a file into ExecuTorch's runtime.

    Raises:
        EdgeDeitError: the runtime is absent, the file is missing, cut short or invalid, or its delegate
            does not exist on this machine.
    """
    if (reason := runs_on()) is not None:
        raise EdgeDeitError(reason)
    runner = PteRunner(path, threads)
    runner.load()
    return runner


def runs_on() -> str | None:
    """None when ExecuTorch's runtime is installed, otherwise why the file cannot be run here."""
    if (
        importlib.util.find_spec("executorch") is None
        or importlib.util.find_spec("executorch.extension.pybindings._C") is None
    ):
        return "ExecuTorch's runtime is not installed: pip install 'edge-deit[executorch]'"
    return None


def enclosed(backend: str) -> Enclosed | None:
    """Programs for Apple's delegate run on Apple's systems only; elsewhere their package is."""
    return _COREML if backend == "coreml" and sys.platform != "darwin" else None


def _binding() -> Any:
    """The compiled module; torch must be loaded before it."""
    import torch  # noqa: F401 # its libraries are the binding's
    from executorch.extension.pybindings import _C

    return _C


def _load_forward(path: Path) -> tuple[Program, Any]:
    program = load_program(path)
    if "forward" not in program.method_names:
        raise _not_a_program(path, "it has no method called forward")
    try:
        return program, program.load_method("forward")
    except RuntimeError as error:
        if not _binding()._is_available(COREML_BACKEND) and (
            COREML_BACKEND.encode() in program.content
        ):
            raise EdgeDeitError(
                f"{path} is for the Core ML delegate, which runs on macOS and iOS only; "
                "export with the backend xnnpack to run it here"
            ) from error
        raise _not_a_program(path, first_line(error)) from error


def _not_a_program(path: Path, reason: str) -> EdgeDeitError:
    return EdgeDeitError(f"{path} is not an ExecuTorch program: export it again ({reason})")


RUNTIME: Final = Runtime(
    name="executorch",
    label="ExecuTorch",
    suffix=".pte",
    extra="executorch",
    modules=("torch", "executorch.extension.pybindings._C"),
    load=lambda path, threads, units: load_runner(path, threads),
    runs_on=runs_on,
    enclosed=enclosed,
)
