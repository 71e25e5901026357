"""ExecuTorch's runtime: a `.pte` file loaded and executed, on the thread pool that all of them share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from edge_deit.common.errors import EdgeDeitError

__all__ = ["PteRunner", "load_program"]

_COREML_BACKEND: Final = "CoreMLBackend"  # the delegate's name inside a file


class _ThreadPool:
    """The one thread pool that all loaded methods of the process share."""

    generation = 0

    @classmethod
    def resize(cls, threads: int) -> None:
        """Make it `threads` wide; upstream calls this unsafe for methods that are loaded already."""
        from executorch.extension.pybindings import portable_lib

        if portable_lib._threadpool_get_thread_count() != threads:
            portable_lib._unsafe_reset_threadpool(threads)
            cls.generation += 1


@dataclass
class PteRunner:
    """A file's `forward`, loaded again whenever the thread pool under it was replaced."""

    path: Path
    threads: int
    program: Any = None  # owns the bytes that the method points into
    method: Any = None
    generation: int = -1

    def load(self) -> None:
        """Load `forward` for a pool of `threads`.

        Raises:
            EdgeDeitError: the file is missing, cut short or invalid, or its delegate does not exist here.
        """
        _ThreadPool.resize(self.threads)
        if self.method is None or self.generation != _ThreadPool.generation:
            self.program, self.method = _load_forward(self.path)
            self.generation = _ThreadPool.generation

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        self.load()
        (result,) = self.method.execute(
            [torch.from_numpy(np.ascontiguousarray(pixels, np.float32))]
        )
        return np.asarray(result.numpy(), dtype=np.float32)


def load_program(path: Path) -> Any:
    """The file in ExecuTorch's runtime, no method of it loaded yet.

    Raises:
        EdgeDeitError: the file is missing, or not a whole `.pte` file.
    """
    from executorch.runtime import Runtime

    if not path.is_file():
        raise EdgeDeitError(f"{path} does not exist")
    try:
        return Runtime.get().load_program(path.read_bytes())
    except RuntimeError as error:
        raise _not_a_program(path, error) from error


def _load_forward(path: Path) -> tuple[Any, Any]:
    from executorch.runtime import Runtime

    program = load_program(path)
    if "forward" not in program.method_names:
        raise _not_a_program(path, "it has no method called forward")
    try:
        return program, program.load_method("forward")
    except RuntimeError as error:
        available = Runtime.get().backend_registry.is_available(_COREML_BACKEND)
        if not available and _COREML_BACKEND.encode() in path.read_bytes():
            raise EdgeDeitError(
                f"{path} is for the Core ML delegate, which runs on macOS and iOS only; "
                "export with the backend xnnpack to run it here"
            ) from error
        raise _not_a_program(path, error) from error


def _not_a_program(path: Path, reason: object) -> EdgeDeitError:
    line = str(reason).splitlines()[0] if str(reason) else "unreadable"
    return EdgeDeitError(f"{path} is not an ExecuTorch program: export it again ({line})")
