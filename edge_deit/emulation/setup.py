"""Fills the cache: downloads packages and wheels, checks them, unpacks them, compiles the counter.

Nothing is installed and no root is needed: apt works on a package database of its own inside the cache,
checks Debian's signatures and hashes, and the packages are only unpacked. pip checks the sha256 that
stands in our source. Each part is made beside its place and then renamed; downloads that are complete are
kept till the end, so that a set-up that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path
from edge_deit.emulation.debian import KEYRING, apt_environment, call, unpack_debian
from edge_deit.emulation.sysroot import RUNTIMES, TRIPLET, Part, cache_folder, parts_for

__all__ = ["native", "set_up", "unsupported"]

_HEADER: Final = "include/qemu/qemu-plugin.h"
_EMULATOR: Final = "qemu-aarch64"
_EXECUTORCH_LIBRARIES: Final = ("kernels_optimized", "backend_xnnpack", "threadpool")
_PLATFORMS: Final = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28")
_NEEDS: Final = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "cc": "gcc with libc6-dev",
}


def native() -> bool:
    """Whether this machine is an Arm machine itself."""
    return platform.machine() in ("aarch64", "arm64")


def unsupported() -> str | None:
    """None where the emulator can be set up, otherwise what is missing, in one line."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return (
            f"Arm cores are emulated on x86-64 Linux only, this is {platform.system()} on "
            f"{platform.machine()}"
        )
    if absent := [package for tool, package in _NEEDS.items() if shutil.which(tool) is None]:
        return f"the set-up needs {', '.join(absent)} (Debian or Ubuntu)"
    if not KEYRING.is_file():
        return f"the set-up needs {KEYRING}: apt-get install debian-archive-keyring"
    if importlib.util.find_spec("pip") is None:
        return f"the set-up needs pip in this environment: {sys.executable} -m ensurepip"
    return None


def set_up(say: Callable[[str], None], targets: Sequence[str] = RUNTIMES) -> None:
    """Make all parts that are not in the cache; `say` gets a line for each step.

    Raises:
        EdgeDeitError: this machine cannot, or a download or a build failed.
    """
    if (reason := unsupported()) is not None:
        raise EdgeDeitError(reason)
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock", say):
        parts = parts_for(targets)
        for part in parts:
            if part.path.is_dir():
                say(f"{part.what}: there already")
                continue
            say(f"{part.what}: downloading")
            _make(part, folder / "downloads")
            say(f"{part.what}: ready")
        _tidy(folder, parts_for(RUNTIMES))


@contextmanager
def _locked(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the cache's lock; a second set-up waits for the first."""
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another set-up")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _make(part: Part, downloads: Path) -> None:
    """Build a part beside its place, then rename it."""
    partial = part.path.with_name(f".{part.path.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        _MAKERS.get(part.name, _unpack_wheels)(part, downloads, partial)
        partial.rename(part.path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _tidy(folder: Path, parts: Sequence[Part]) -> None:
    """Remove downloads, and parts that were made by another version's recipe."""
    names = {part.path.name for part in parts} | {"lock"}
    for entry in folder.iterdir():
        if entry.name not in names and entry.is_dir():
            shutil.rmtree(entry)


# Debian


def _unpack_packages(part: Part, downloads: Path, target: Path) -> None:
    """Debian's Python and all that it depends on."""
    unpack_debian(part, "arm64", downloads, target)


def _unpack_emulator(part: Part, downloads: Path, target: Path) -> None:
    """QEMU with its own C library, so that the host's release does not matter; one emulator of many."""
    unpack_debian(part, "amd64", downloads, target)
    for program in (target / "usr/bin").iterdir():
        if program.name != _EMULATOR:
            program.unlink()


def _build_counter(part: Part, downloads: Path, target: Path) -> None:
    """Compile our plugin against the header from the sources of Debian's QEMU."""
    environment = apt_environment(downloads)
    folder = downloads / part.name
    folder.mkdir(parents=True, exist_ok=True)
    command = ["apt-get", "source", "-q", "--download-only", *part.packages]
    call("QEMU's sources", command, env=environment, cwd=folder)
    (archive,) = folder.glob("*.orig.tar.*")
    with tarfile.open(archive) as sources:
        member = next(entry for entry in sources if entry.name.endswith(_HEADER))
        header = sources.extractfile(member)
        assert header is not None
        (target / PurePosixPath(_HEADER).name).write_bytes(header.read())
    ours = Path(__file__).with_name(part.sources[0])
    command = ["cc", "-O2", "-fPIC", "-shared", f"-I{target}", "-o", "counter.so", str(ours)]
    call("compiling the counter", command, cwd=target)


# Python packages


def _unpack_wheels(part: Part, downloads: Path, target: Path) -> None:
    """Download a runtime's wheels, each with the hash that we name, and unpack them."""
    folder = downloads / part.name / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch) / "requirements.txt"
        lines = [f"{requirement} --hash=sha256:{digest}\n" for requirement, digest in part.wheels]
        wanted.write_text("".join(lines), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "-q", "-r", str(wanted)]
        command += ["--require-hashes", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
        command += ["--python-version", "3.11", "--implementation", "cp"]
        for name in _PLATFORMS:
            command += ["--platform", f"{name}_aarch64"]
        call(part.what, command)
    wanted_hashes = {digest for _, digest in part.wheels}
    for wheel in sorted(folder.glob("*.whl")):
        if hash_path(wheel) not in wanted_hashes:  # not one of those that pip has just checked
            continue
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)  # noqa: S202 # its hash is known


def _build_executorch(part: Part, downloads: Path, target: Path) -> None:
    """ExecuTorch's wheel, and our C functions compiled for Arm against the libraries in it."""
    _unpack_wheels(part, downloads, target)
    tools, runtime = downloads / part.name / "tools", target / "executorch"
    unpack_debian(part, "amd64", downloads, tools, without="libc6_")  # the host's own is used
    include = runtime / "include"
    libraries = ("executorch", *(f"executorch_{name}" for name in _EXECUTORCH_LIBRARIES))
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": f"{tools / 'usr/lib' / TRIPLET}:{tools / 'lib' / TRIPLET}",
    }
    command = [str(tools / "usr/bin/aarch64-linux-gnu-g++-12"), f"--sysroot={tools}"]
    command += ["-std=c++17", "-O2", "-fPIC", "-shared", "-DC10_USING_CUSTOM_GENERATED_MACROS"]
    command += ["-isystem", str(include)]
    command += ["-isystem", str(include / "executorch/runtime/core/portable_type/c10")]
    command += ["-idirafter", str(tools / "usr/aarch64-linux-gnu/include")]
    command += ["-o", "pte.so", str(Path(__file__).with_name(part.sources[0]))]
    command += [f"-L{runtime / 'lib'}", "-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined"]
    command += [f"-l{name}" for name in libraries] + ["-Wl,-rpath,$ORIGIN/executorch/lib"]
    call("compiling for ExecuTorch", command, env=environment, cwd=target)


_MAKERS: Final[Mapping[str, Callable[[Part, Path, Path], None]]] = {
    "qemu": _unpack_emulator,
    "sysroot": _unpack_packages,
    "counter": _build_counter,
    "executorch": _build_executorch,
}
"""Part -> what makes it in a folder; a part without an entry is nothing but wheels."""
