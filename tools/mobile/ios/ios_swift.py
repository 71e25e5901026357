"""Runs Swift for the iOS project: the one on PATH, or the one that setup.sh installed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["CACHE", "ROOT", "Swift", "SwiftFailedError", "find_swift", "why_missing"]

ROOT: Final = Path(__file__).resolve().parents[3]
CACHE: Final = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-deit" / "swift"
)
_CHROOT: Final = CACHE / "root"
_BUILD: Final = CACHE / "build" / hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]
"""Compiled modules remember where their sources lay, so each checkout has its own."""
_SETUP: Final = "tools/mobile/ios/setup.sh"

# $0 is the chroot, $1 the folder to work in, $2 how many folders follow to be mounted writable, then the
# command. All mounts live in the namespace that unshare made and vanish with it.
_ENTER: Final = r"""
set -e
root=$0 work=$1 count=$2; shift 2
mount -t proc proc "$root/proc"
mount --bind "$1" "$root$1"; mount -o remount,bind,ro "$root$1"; shift
while [ "$count" -gt 0 ]; do mount --bind "$1" "$root$1"; shift; count=$((count - 1)); done
exec chroot "$root" sh -c 'cd "$0" && exec "$@"' "$work" "$@"
"""


class SwiftFailedError(Exception):
    """A Swift command failed; the message is what it printed."""


def why_missing() -> str | None:
    """None when Swift can be run here, otherwise one line with the remedy."""
    if shutil.which("swift"):
        return None
    if not (CACHE / "ready").exists():
        return f"Swift is not installed: sudo {_SETUP} (1 to 3 minutes and 2.6 GB, once)"
    if os.geteuid() != 0:
        return "Swift lies in a chroot, which needs root: run this as root"
    return None


@dataclass(frozen=True)
class Swift:
    """How to start Swift's programs; `chroot` is None where they are on PATH."""

    chroot: Path | None

    @property
    def build(self) -> Path:
        """The build cache, outside of the repository."""
        return _BUILD

    def run(
        self, command: Sequence[str | Path], *, cwd: Path = ROOT, writable: Sequence[Path] = ()
    ) -> str:
        """Run a command and return what it printed.

        It sees the repository read-only, the build cache, and the `writable` folders.

        Raises:
            SwiftFailedError: it exited with another code than 0.
        """
        done = self.start(command, cwd=cwd, writable=writable)
        if done.returncode != 0:
            raise SwiftFailedError((done.stdout + done.stderr).strip())
        return done.stdout

    def start(
        self, command: Sequence[str | Path], *, cwd: Path = ROOT, writable: Sequence[Path] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Like `run`, but any exit code is the caller's to judge."""
        self.build.mkdir(parents=True, exist_ok=True)
        plain = [str(part) for part in command]
        environment = {**os.environ, "HOME": str(self.build), "LANG": "C.UTF-8"}
        if self.chroot is not None:
            folders = [ROOT, self.build, *writable]
            for folder in folders:
                (self.chroot / folder.relative_to("/")).mkdir(parents=True, exist_ok=True)
            count = str(len(folders) - 1)
            plain = [
                *("unshare", "--mount", "--propagation", "private", "sh", "-c", _ENTER),
                *(str(self.chroot), str(cwd), count, *map(str, folders), *plain),
            ]
        return subprocess.run(  # noqa: S603 - the caller's own command, no shell
            plain,
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )


def find_swift() -> Swift:
    """The Swift of this machine.

    Raises:
        SwiftFailedError: there is none; the message says how to get it.
    """
    if reason := why_missing():
        raise SwiftFailedError(reason)
    return Swift(None if shutil.which("swift") else _CHROOT)
