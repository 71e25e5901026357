"""Hostile weights: every one refused in a line, in 1 GB of memory, without a wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import ROOT
from hostile_weights import HOSTILE


def test_each_is_refused_in_little_memory(tmp_path: Path) -> None:
    paths = [str(ROOT), str(ROOT / "tests")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "hostile_weights.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=10 * len(HOSTILE),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(HOSTILE)
    assert "LOADED" not in done.stdout
