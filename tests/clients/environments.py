"""Environments of the programs that users open our files with, made once for each machine.

`tests/clients/NAME.txt` pins what is installed, and `environment(NAME)` is a folder with it in the cache. A
program runs in one as a script of its own: it can import nothing of ours.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

__all__ = ["environment", "run_script"]

HERE = Path(__file__).parent
_MINUTES = 10
_NO_PACKAGES = ("NewConnectionError", "Temporary failure in name resolution", "ConnectTimeoutError")
"""What pip says where no index can be reached; anything else is an error, not a reason to skip."""


def environment(name: str) -> Path:
    """The virtual environment of `NAME.txt`, made or made anew when that file changed.

    Skips the test where no package index can be reached.
    """
    wanted = HERE / f"{name}.txt"
    digest = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-deit-clients"
    cache.mkdir(parents=True, exist_ok=True)
    folder, stamp = cache / name, cache / f"{name}.stamp"
    with FileLock(cache / f"{name}.lock"):
        if not stamp.is_file() or stamp.read_text() != digest:
            stamp.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            _install(folder, wanted)
            stamp.write_text(digest)
    return folder


def _install(folder: Path, wanted: Path) -> None:
    """Install what a requirements file pins."""
    command = [_python(folder), "-m", "pip", "install", "--quiet", "--requirement", str(wanted)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60 * _MINUTES
    )
    if done.returncode and any(sign in done.stderr for sign in _NO_PACKAGES):
        pytest.skip(f"no package index can be reached; pip install -r {wanted.name} needs one")
    assert done.returncode == 0, done.stderr[-2000:]


def _python(folder: Path) -> str:
    return str(folder / "bin" / "python")


def run_script(name: str, script: str, *arguments: object, env: Mapping[str, str] = {}) -> Any:
    """What `tests/clients/SCRIPT` printed as its last line, which is JSON, in the environment `name`."""
    command = [_python(environment(name)), str(HERE / script), *map(str, arguments)]
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
