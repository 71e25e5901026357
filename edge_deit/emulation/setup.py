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
import re
import shutil
import subprocess
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
from edge_deit.emulation.sysroot import RUNTIMES, SUITE, TRIPLET, Part, cache_folder, parts_for

__all__ = ["native", "set_up", "unsupported"]

_MIRROR: Final = "http://deb.debian.org/debian"
_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_HEADER: Final = "include/qemu/qemu-plugin.h"
_EMULATOR: Final = "qemu-aarch64"
_EXECUTORCH_LIBRARIES: Final = ("kernels_optimized", "backend_xnnpack", "threadpool")
_PLATFORMS: Final = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28")
_NEEDS: Final = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "cc": "gcc with libc6-dev",
}
_AGAIN: Final = "run --setup again, it goes on where it stopped"


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
    if not _KEYRING.is_file():
        return f"the set-up needs {_KEYRING}: apt-get install debian-archive-keyring"
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


def _apt(downloads: Path) -> dict[str, str]:
    """The environment in which apt-get has a package database of its own, filled on first use."""
    state = downloads / "apt"
    for name in ("lists/partial", "archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    source = f"[signed-by={_KEYRING}] {_MIRROR} {SUITE} main\n"
    (state / "sources.list").write_text(f"deb {source}deb-src {source}", encoding="utf-8")
    (state / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Sandbox::User": "root",  # that is: do not change the user
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state,
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferences": "-",
        "Dir::Etc::preferencesparts": "-",
    }
    lines = [f'{name} "{value}";' for name, value in settings.items()]
    lines.append('APT::Architectures {"arm64"; "amd64";};')
    (state / "apt.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    environment = {**os.environ, "APT_CONFIG": str(state / "apt.conf"), "LC_ALL": "C"}
    if not (state / "updated").is_file():
        _call("Debian's package lists", ["apt-get", "update", "-q"], env=environment)
        (state / "updated").touch()
    return environment


def _unpack_packages(part: Part, downloads: Path, target: Path) -> None:
    """Debian's Python and all that it depends on."""
    _debian(part, "arm64", downloads, target)


def _unpack_emulator(part: Part, downloads: Path, target: Path) -> None:
    """QEMU with its own C library, so that the host's release does not matter; one emulator of many."""
    _debian(part, "amd64", downloads, target)
    for program in (target / "usr/bin").iterdir():
        if program.name != _EMULATOR:
            program.unlink()


def _debian(
    part: Part, architecture: str, downloads: Path, target: Path, without: str = ""
) -> None:
    """Download a part's packages with all that they depend on, and unpack them.

    Packages whose file name begins with `without` are left out.
    """
    environment = _apt(downloads)
    archives = downloads / part.name / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    options = ["-q", "-y", "--no-install-recommends", "--download-only"]
    options += ["-o", f"Dir::Cache::archives={archives}", "-o", f"APT::Architecture={architecture}"]
    _call(part.what, ["apt-get", "install", *options, *part.packages], env=environment)
    for name, digest in _listed(part, architecture, environment).items():
        if not without or not name.startswith(without):
            package = archives / name
            _check_hash(package, digest)
            _call(name, ["dpkg-deb", "-x", str(package), str(target)])


def _listed(part: Part, architecture: str, environment: Mapping[str, str]) -> dict[str, str]:
    """File name -> sha256 of each package that a part needs, as Debian's signed lists have them."""
    with tempfile.TemporaryDirectory() as empty:  # apt names only what is not there yet
        (Path(empty) / "partial").mkdir()
        options = ["-qq", "-y", "--no-install-recommends", "--print-uris"]
        settings = (
            f"Dir::Cache::archives={empty}",
            f"APT::Architecture={architecture}",
            "Acquire::ForceHash=SHA256",  # it would name the first hash that a list has
        )
        options += [word for setting in settings for word in ("-o", setting)]
        command = ["apt-get", "install", *options, *part.packages]
        said = _call(part.what, command, env=environment)
    found = re.findall(r"^'\S+' (\S+\.deb) \d+ SHA256:([0-9a-f]{64})$", said, re.MULTILINE)
    if not found:
        raise EdgeDeitError(f"{part.what}: apt-get names no package; {_AGAIN}")
    return dict(found)


def _check_hash(file: Path, digest: str) -> None:
    """Refuse a file that is not the one with this sha256."""
    if not file.is_file() or file.is_symlink() or hash_path(file) != digest:
        file.unlink(missing_ok=True)
        raise EdgeDeitError(
            f"{file.name} in the cache is not the file that was asked for; {_AGAIN}"
        )


def _build_counter(part: Part, downloads: Path, target: Path) -> None:
    """Compile our plugin against the header from the sources of Debian's QEMU."""
    environment = _apt(downloads)
    folder = downloads / part.name
    folder.mkdir(parents=True, exist_ok=True)
    command = ["apt-get", "source", "-q", "--download-only", *part.packages]
    _call("QEMU's sources", command, env=environment, cwd=folder)
    (archive,) = folder.glob("*.orig.tar.*")
    with tarfile.open(archive) as sources:
        member = next(entry for entry in sources if entry.name.endswith(_HEADER))
        header = sources.extractfile(member)
        assert header is not None
        (target / PurePosixPath(_HEADER).name).write_bytes(header.read())
    ours = Path(__file__).with_name(part.sources[0])
    command = ["cc", "-O2", "-fPIC", "-shared", f"-I{target}", "-o", "counter.so", str(ours)]
    _call("compiling the counter", command, cwd=target)


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
        _call(part.what, command)
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
    _debian(part, "amd64", downloads, tools, without="libc6_")  # the host's own is used
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
    _call("compiling for ExecuTorch", command, env=environment, cwd=target)


_MAKERS: Final[Mapping[str, Callable[[Part, Path, Path], None]]] = {
    "qemu": _unpack_emulator,
    "sysroot": _unpack_packages,
    "counter": _build_counter,
    "executorch": _build_executorch,
}
"""Part -> what makes it in a folder; a part without an entry is nothing but wheels."""


def _call(what: str, command: list[str], **options: object) -> str:
    """Run a program and return what it printed; its last words become the error."""
    done = subprocess.run(  # type: ignore[call-overload] # noqa: S603 # our own arguments, no shell
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, **options
    )
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        last = lines[-1] if lines else f"exit code {done.returncode}"
        raise EdgeDeitError(f"{what}: {command[0]} failed: {last}; {_AGAIN}")
    return str(done.stdout)
