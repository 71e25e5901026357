"""Loads and runs an artefact in this process; whatever its runtime raises becomes one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.exporters import FileRunner, Runtime

__all__ = ["LocalRunner", "load_local", "one_line"]


class LocalRunner:
    """A loaded artefact. Its runtime takes care of threads: they may run at once or take turns."""

    def __init__(self, name: str, runtime: Runtime, runner: FileRunner) -> None:
        self._name, self._runtime, self._runner = name, runtime, runner

    def __call__(self, pixels: np.ndarray, *more: np.ndarray) -> np.ndarray:
        """What the file takes, float32 or uint8 -> what it returns, float32.

        Raises:
            EdgeDeitError: the runtime failed, or returned something else than float32.
        """
        with one_line(self._name, self._runtime, "running"):
            found = self._runner(pixels, *more)
        if found.dtype != np.float32:
            raise EdgeDeitError(f"{self._name} returns {found.dtype}, not float32; export it again")
        return found


def load_local(runtime: Runtime, path: Path, threads: int, units: str | None = None) -> LocalRunner:
    """Load a file into its runtime.

    Raises:
        EdgeDeitError: the runtime is absent or refuses the file.
    """
    with one_line(path.name, runtime, "loading"):
        return LocalRunner(path.name, runtime, runtime.load(path, threads, units))


@contextmanager
def one_line(name: str, runtime: Runtime, doing: str) -> Iterator[None]:
    """One line for whatever comes out of a runtime: its classes of exceptions are not known in advance.

    Raises:
        EdgeDeitError: in place of any exception of the block; it names the file and what was being done.
    """
    try:
        yield
    except EdgeDeitError:
        raise
    except ModuleNotFoundError as error:
        raise EdgeDeitError(
            f"{name} needs {error.name}: pip install 'edge-deit[{runtime.alone or runtime.extra}]'"
        ) from error
    except MemoryError as error:
        raise EdgeDeitError(
            f"{name}: memory ran out while {runtime.label} was {doing} it; the file asks for more than "
            "there is: if that is not to be expected of it, export it again"
        ) from error
    except Exception as error:
        raise EdgeDeitError(
            f"{name}: {runtime.label} failed while {doing} it: {first_line(error)}; the file is damaged, "
            "or of another version: export it again"
        ) from error
