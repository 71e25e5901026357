"""What runs a target's files: the half of a target that needs no converter and no torch to be described."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from edge_deit.common.errors import EdgeDeitError

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "MASK_NAME",
    "TIMEOUT_S",
    "Enclosed",
    "FileRunner",
    "Runner",
    "Runtime",
    "Sparing",
    "absent",
    "contiguous",
    "in_order",
    "nothing_outside",
]

TIMEOUT_S: Final = 120.0
"""How long a runtime may take to load a file, or to run one photo: far more than any that works."""


class Runner(Protocol):
    """An artefact that is loaded and can be called, by one thread at a time or by several."""

    def __call__(self, pixels: np.ndarray, /) -> np.ndarray:
        """(1, 3, H, W) float32, normalised -> (1, K) float32 logits (or (1, N, D) tokens).

        A file that was made for images takes (1, H, W, 3) uint8, and one for probabilities returns them.
        """
        ...


class FileRunner(Runner, Protocol):
    """A runner of a file with one input, or with a photo and a mask."""

    def __call__(self, pixels: np.ndarray, /, *more: np.ndarray) -> np.ndarray:
        """As a `Runner`; `more` is the mask (1, P) float32 of a file that reconstructs photos."""
        ...


MASK_NAME: Final = "mask"
"""What files that reconstruct photos call their second input."""


def in_order(names: Sequence[str], path: Path) -> list[int]:
    """Places of a file's inputs in the order of a runner's arguments: the photo, then a mask.

    Raises:
        EdgeDeitError: they are others.
    """
    masks = [place for place, name in enumerate(names) if name == MASK_NAME]
    others = [place for place, name in enumerate(names) if name != MASK_NAME]
    if len(others) != 1 or len(masks) > 1:
        raise EdgeDeitError(
            f"{path} has not one input, or one and a {MASK_NAME}, and one output; export it again"
        )
    return others + masks


def contiguous(array: np.ndarray) -> np.ndarray:
    """Bytes as they are, anything else as float32, without gaps: some runtimes do not read strides."""
    import numpy as np

    return np.ascontiguousarray(array, np.uint8 if array.dtype == np.uint8 else np.float32)


def nothing_outside(path: Path) -> None:
    """The `check` of formats whose files cannot name another file without being opened whole."""


@dataclass(frozen=True)
class Sparing:
    """A runtime is very slow on this machine: how many photos a check should take, and why, in a line."""

    photos: int
    reason: str


@dataclass(frozen=True)
class Enclosed:
    """A whole file of another target that a file holds, run in its place where its own backend is not here.

    `target` is that of the file inside. `unpack` takes a file and an empty folder, writes there what is
    inside and returns it, or raises EdgeDeitError, which names the file. `said` is one line: why, and
    what stands in.
    """

    target: str
    unpack: Callable[[Path, Path], Path]
    said: str

    @contextlib.contextmanager
    def unpacked(self, path: Path) -> Iterator[Path]:
        """What is inside a file, in a temporary folder while the block lasts; its errors name the file."""
        with tempfile.TemporaryDirectory(prefix="edge-deit-") as folder:
            inner = self.unpack(path, Path(folder))
            try:
                yield inner
            except EdgeDeitError as error:
                said = str(error).replace(str(inner), f"{inner.name} in {path}")
                raise EdgeDeitError(said) from error


@dataclass(frozen=True)
class Runtime:
    """How the files of one target are run.

    `label` is the runtime's name as a user knows it, `suffix` and `folder` what a file of the target
    looks like, `extra` what to install, `alone` the extra that brings what runs files and no torch
    (None: there is none), `older` a package that can take the place of `modules`. `load` takes the file,
    a number of threads and one of `units`
    (None: the default). `runs_on` returns None when the real runtime works on this machine, otherwise
    one line that says why not and what stands in; `enclosed` takes a backend and returns what is run in
    place of its files on this machine, None where they are run themselves. `check` refuses a file that
    would make the runtime read something outside it, as far as that shows without the runtime; it raises
    EdgeDeitError. `units` names the processors that a runner may be told to use, the default first.
    `modules` are what `load` will import; `needless` what the first of them imports where it is
    installed, and no file needs. `sparing` takes a precision and a form (None: the target has but
    one) and says whether such files are run so slowly here that a check takes few photos and no latency is
    measured. `timeout_s` is for one load, or one photo.
    """

    name: str
    label: str
    suffix: str
    extra: str
    modules: tuple[str, ...]
    load: Callable[[Path, int, str | None], FileRunner]
    runs_on: Callable[[], str | None]
    folder: bool = False
    enclosed: Callable[[str], Enclosed | None] = lambda backend: None
    check: Callable[[Path], None] = nothing_outside
    units: tuple[str, ...] = ()
    sparing: Callable[[str, str | None], Sparing | None] = lambda precision, form: None
    timeout_s: float = TIMEOUT_S
    needless: tuple[str, ...] = ()
    alone: str | None = None
    older: str | None = None

    def running(self, enclosed: Enclosed, inner: Runtime) -> Runtime:
        """What runs this target's files by the file inside each, which is one of `inner`."""

        def load(path: Path, threads: int, units: str | None) -> FileRunner:
            with enclosed.unpacked(path) as file:  # runners hold all of a file once it is loaded
                inner.check(file)
                return inner.load(file, threads, None)

        return replace(
            inner,
            name=self.name,
            suffix=self.suffix,
            folder=self.folder,
            check=self.check,
            load=load,
            runs_on=lambda: enclosed.said,
            units=(),
        )

    def remedy(self) -> str | None:
        """What to install so that files can be run here, in one line; None when nothing is missing.

        `LiteRT is not installed: pip install 'edge-deit[runtime]'`.
        """
        found = importlib.util.find_spec
        if all(found(name.partition(".")[0]) is not None for name in self.modules):
            return None
        if self.older is not None and found(self.older) is not None:
            return None
        return f"{self.label} is not installed: pip install 'edge-deit[{self.alone or self.extra}]'"

    def warm_up(self) -> None:
        """Import what `load` needs, as far as it is installed; `load` says what is missing.

        For a process that runs files and does nothing else: what is `needless` passes for not installed.
        """
        with contextlib.suppress(ImportError):
            with absent(self.needless):
                importlib.import_module(self.modules[0])
            for name in self.modules[1:]:
                importlib.import_module(name)


@contextlib.contextmanager
def absent(names: Sequence[str]) -> Iterator[None]:
    """Importing one of these packages fails meanwhile, unless it is loaded already."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None: Python's own word for it
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
