"""Runs artefacts on emulated cores, several at a time, and brings back logits and counts.

QEMU looks for the Arm system's files in a folder first (its option -L), and not only for libraries: our
/proc/cpuinfo and /sys/devices/system/cpu in that folder are what the runtimes see. So no mount, no
namespace and no root is needed.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edge_deit.common.errors import EdgeDeitError
from edge_deit.emulation.counts import Counts, read_sections
from edge_deit.emulation.inner import MARK
from edge_deit.emulation.sysroot import CPUS, PARTS, TRIPLET, Cpu, missing_parts

__all__ = [
    "REPEATS",
    "CoreJob",
    "Ran",
    "emulated_python",
    "emulator_version",
    "require",
    "run_jobs",
    "warm_up",
]

REPEATS: Final = 3
"""Inferences that are counted at least."""

_GETSID: Final = 156  # number of this system call on aarch64
_INNER: Final = Path(__file__).with_name("inner.py")
_POLL_SECONDS: Final = 0.1
_LAST_LINES: Final = 3


@dataclass(frozen=True)
class CoreJob:
    """An artefact of a target on a core.

    `pixels` is what the file takes: (M, 3, H, W) float32, normalised, or (M, H, W, 3) uint8.
    """

    target: str
    artefact: Path
    cpu: Cpu
    pixels: np.ndarray

    @property
    def inferences(self) -> int:
        """How many there are: the first is not counted, then REPEATS or the rest of the photos."""
        return 1 + max(REPEATS, len(self.pixels) - 1)


@dataclass(frozen=True)
class Ran:
    """What a job brought: `logits` (M, K), and the counts of each counted inference."""

    runtime: str
    logits: np.ndarray
    repeats: tuple[Counts, ...]


def require(targets: Sequence[str]) -> None:
    """Refuse when the set-up has not been made.

    Raises:
        EdgeDeitError: with what is missing and the command that makes it.
    """
    if missing := missing_parts(targets):
        names = ", ".join(part.what for part in missing)
        raise EdgeDeitError(
            f"not set up: {names} missing in {missing[0].path.parent}. The Arm runtimes execute the files "
            "as a phone would, QEMU executes them here and the counter counts; make them once with "
            "python -m edge_deit.arm64 --setup"
        )


def emulator_version() -> str:
    """`7.2.22`, of the QEMU in the cache."""
    done = subprocess.run(  # noqa: S603 # our own arguments, no shell
        [*_emulator(), "--version"], capture_output=True, text=True, check=True
    )
    found = re.search(r"version ([\d.]+)", done.stdout)
    return found[1] if found else "of unknown version"


def emulated_python(cpu: Cpu, scratch: Path) -> list[str | Path]:
    """How a command line begins that runs the set-up's Python on a core; `scratch` is an empty folder."""
    return [*_emulator(), "-cpu", cpu.qemu, "-L", _root(cpu, scratch / "root"), _python()]


def run_jobs(
    jobs: Sequence[CoreJob], workers: int, on_inference: Callable[[], None] = lambda: None
) -> list[Ran]:
    """Run all jobs, at most `workers` at a time; whatever ends this function ends its processes too.

    Raises:
        EdgeDeitError: the runtime refused or crashed, or the counter did not count.
    """
    waiting = deque(enumerate(jobs))
    results: dict[int, Ran] = {}
    with tempfile.TemporaryDirectory(prefix="edge-deit-arm64-") as scratch:
        running: dict[int, _Process] = {}
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    number, job = waiting.popleft()
                    running[number] = _Process(job, Path(scratch) / str(number))
                time.sleep(_POLL_SECONDS)
                for number, process in list(running.items()):
                    ended = process.ended()
                    for _ in range(process.news()):
                        on_inference()
                    if ended:
                        results[number] = running.pop(number).result()
        finally:
            for process in running.values():
                process.kill()
    return [results[number] for number in range(len(jobs))]


def warm_up(target: str) -> None:
    """Import a target's runtime on a core: this proves the set-up, and Python keeps what it compiled.

    Raises:
        EdgeDeitError: it does not start.
    """
    part = PARTS[target]
    with tempfile.TemporaryDirectory(prefix="edge-deit-arm64-") as scratch:
        root = _root(next(iter(CPUS.values())), Path(scratch))
        done = subprocess.run(  # noqa: S603 # our own arguments, no shell
            [*_emulator(), "-L", root, _python(), "-c", f"import {', '.join(part.imports)}"],
            env=_environment(target),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise EdgeDeitError(f"{part.what} does not start: {_last_words(done.stderr)}")


class _Process:
    """A job that runs, with its files in a folder of its own."""

    def __init__(self, job: CoreJob, folder: Path) -> None:
        self._job, self._folder, self._told = job, folder, 0
        root = _root(job.cpu, folder / "root")
        np.save(folder / "pixels.npy", np.ascontiguousarray(job.pixels))
        plugin = f"{PARTS['counter'].path / 'counter.so'},out={folder / 'counts'}"
        with (folder / "out").open("wb") as out, (folder / "errors").open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603 # our own arguments, no shell
                [
                    *(*_emulator(), "-cpu", job.cpu.qemu, "-L", root),
                    *("-plugin", f"{plugin},syscall={_GETSID},mark={MARK}", _python(), _INNER),
                    *(job.target, job.artefact.resolve(), folder / "pixels.npy"),
                    *(str(job.inferences - 1), folder / "logits.npy"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                env=_environment(job.target),
            )

    def ended(self) -> bool:
        """Whether the process has."""
        return self._process.poll() is not None

    def news(self) -> int:
        """How many inferences have ended since the last call."""
        done = max(0, (self._folder / "out").read_bytes().count(b"\n") - 1)
        new, self._told = done - self._told, done
        return new

    def result(self) -> Ran:
        """What a process that has ended brought.

        Raises:
            EdgeDeitError: it failed.
        """
        job = self._job
        where = f"{job.artefact.name} on {job.cpu.name}"
        if (code := self._process.returncode) != 0:
            errors = (self._folder / "errors").read_text(encoding="utf-8", errors="replace")
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise EdgeDeitError(f"{where} failed, {how}: {_last_words(errors)}")
        sections = read_sections(self._folder / "counts")
        counted = sections[1::2]  # what lies before, between and behind them is not the model's
        if len(sections) != 2 * (job.inferences - 1) + 1:
            raise EdgeDeitError(
                f"{where}: the counter saw {len(counted)} inferences, not {job.inferences - 1}"
            )
        runtime = (self._folder / "out").read_text(encoding="utf-8").splitlines()[0]
        return Ran(runtime, np.load(self._folder / "logits.npy"), tuple(counted))

    def kill(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.wait()


# What QEMU is told


def _emulator() -> list[str | Path]:
    """The emulator, started by the loader of the Debian release that it belongs to."""
    base = PARTS["qemu"].path
    folders = [base / "lib" / TRIPLET, base / "usr/lib" / TRIPLET]
    loader = folders[0] / "ld-linux-x86-64.so.2"
    return [loader, "--library-path", ":".join(map(str, folders)), base / "usr/bin/qemu-aarch64"]


def _python() -> Path:
    return PARTS["sysroot"].path / "usr/bin/python3.11"


def _root(cpu: Cpu, folder: Path) -> Path:
    """A folder that looks like the root of an Arm system with this one core."""
    described = folder / "sys/devices/system/cpu"
    described.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (described / name).write_text("0\n", encoding="ascii")
    (folder / "proc").mkdir()
    (folder / "proc/cpuinfo").write_text(cpu.cpuinfo, encoding="ascii")
    for entry in PARTS["sysroot"].path.iterdir():
        (folder / entry.name).symlink_to(entry)
    return folder


def _environment(target: str) -> dict[str, str]:
    """Nothing of the host's own: the same everywhere, and one thread."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {"PYTHONPATH": str(PARTS[target].path), "PYTHONHASHSEED": "0", **threads}


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:]) or "it said nothing"
