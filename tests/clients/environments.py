"""Environments of other people's programs, each made once from pinned lists and kept between runs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

__all__ = ["HERE", "node_environment", "python_environment", "run_script"]

HERE = Path(__file__).parent
_MINUTES = 10
_NO_PACKAGES = ("NewConnectionError", "Temporary failure in name resolution", "ConnectTimeoutError")
"""What pip says where no index can be reached; anything else is an error, not a reason to skip."""


def python_environment(name: str, *, over_ours: bool = False) -> Path:
    """The Python of an environment with what `NAME.txt` pins.

    With `over_ours` it also sees this environment's packages, which its own go before: for lists that need
    torch, which is large.
    """
    listed = HERE / f"{name}.txt"
    ours = sysconfig.get_path("purelib")
    key = [listed.read_bytes(), sys.version.encode(), ours.encode() if over_ours else b""]

    def make(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", str(folder)])
        if over_ours:
            (found,) = folder.glob("lib/python*/site-packages")
            (found / "ours.pth").write_text(f"{ours}\n", encoding="utf-8")
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet"]
        _run([*pip, *(["--no-deps"] if over_ours else []), "--requirement", str(listed)])

    return _made(name, key, make) / "bin/python"


def node_environment(name: str = "node", listed: Path = HERE) -> Path:
    """A folder with the `node_modules` that LISTED/NAME/package-lock.json pins."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed; Debian and nodejs.org have it")
    files = [listed / name / one for one in ("package.json", "package-lock.json")]

    def make(folder: Path) -> None:
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
        _run(["npm", "ci", "--ignore-scripts", "--silent"], folder)

    return _made(name, [file.read_bytes() for file in files], make)


def _made(name: str, key: list[bytes], make: Callable[[Path], None]) -> Path:
    """The folder NAME in the cache, made anew where it was made from something else than `key`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edge-deit-clients"
    cache.mkdir(parents=True, exist_ok=True)
    folder, stamp = cache / name, cache / f"{name}.stamp"
    wanted = hashlib.sha256(b"\0".join(key)).hexdigest()
    with FileLock(cache / f"{name}.lock"):
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
            stamp.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            stamp.write_text(wanted, encoding="utf-8")
    return folder


def run_script(name: str, script: str, *arguments: object, env: Mapping[str, str] = {}) -> Any:
    """What `tests/clients/SCRIPT` printed as its last line, which is JSON, in the environment `name`.

    The script can import nothing of ours.
    """
    command = [str(python_environment(name)), str(HERE / script), *map(str, arguments)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60 * _MINUTES,
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **env},
    )
    assert done.returncode == 0, f"{script}: {done.stdout[-1000:]}{done.stderr[-2000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def _run(command: list[str], folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode and any(sign in done.stderr for sign in _NO_PACKAGES):
        pytest.skip(f"no package index can be reached: {' '.join(command)}")
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
