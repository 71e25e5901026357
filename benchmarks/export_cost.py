#!/usr/bin/env python3
"""What an export costs and how close its files are, on a real DeiT-tiny.

    EDGE_DEIT_REAL=FOLDER python benchmarks/export_cost.py

Runs the export command in a process of its own, once for int8 and once for fp32, and prints seconds from
first import to last file, the peak resident memory of the process, the size of each int8 file against its
fp32 one, and the largest logit difference of the fp32 files. The folder holds
`deit_tiny_patch16_224/model.safetensors` and `imagenet400/` with a labels.csv.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from edge_deit.common.console import new_app, run
from edge_deit.common.errors import EdgeDeitError
from harness.real import real_folder
from tables.grid import Grid, show

__all__ = ["export_cost", "sizes"]

app = new_app(__doc__)


def _export(real: Path, precision: str, output: Path) -> tuple[float, float]:
    """Seconds and peak bytes of one export of all targets."""
    command = [
        *(
            sys.executable,
            "-m",
            "edge_deit.export",
            "--target",
            "all",
            "--no-cache",
            "--precision",
            precision,
        ),
        *("--weights", str(real / "deit_tiny_patch16_224" / "model.safetensors")),
        *("--calibration", str(real / "imagenet400"), "--output", str(output)),
    ]
    started = time.monotonic()
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise EdgeDeitError(f"the export of {precision} ended with {done.returncode}; see above")
    seconds = time.monotonic() - started
    return seconds, 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


@app.command()
def export_cost() -> None:
    """Export to every target and print what it cost."""
    real = real_folder()
    cost = []
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        for precision in ("int8", "fp32"):
            seconds, peak = _export(real, precision, output)
            cost.append((precision, f"{seconds:.0f}", f"{peak / 1e9:.2f}"))
        manifests = [json.loads(path.read_text()) for path in sorted(output.glob("*.json"))]
    show(Grid("cost", ("precision", "seconds", "peak so far, GB"), tuple(cost)))
    show(sizes(manifests))


def sizes(manifests: list[dict[str, Any]]) -> Grid:
    """Size of each file against its target's fp32 one, and how far its logits were off on export."""
    size_bytes = {(m["target"], m["precision"]): m["size_bytes"] for m in manifests}
    rows = [
        (
            m["target"],
            m["precision"],
            f"{m['size_bytes']}",
            f"{m['size_bytes'] / size_bytes[m['target'], 'fp32']:.3f}",
            f"{m['parity']['max_abs']:.2e}",
            f"{m['parity']['images']}",
        )
        for m in manifests
    ]
    columns = ("target", "precision", "bytes", "of fp32", "max |logit difference|", "photos")
    return Grid("files", columns, tuple(rows))


if __name__ == "__main__":
    run(app, "python benchmarks/export_cost.py")
