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
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["export", "main"]


def export(real: Path, precision: str, output: Path) -> tuple[float, float]:
    """Seconds and peak bytes of one export of all targets."""
    command = [
        *(sys.executable, "-m", "edge_deit.export", "--target", "all", "--precision", precision),
        *("--weights", str(real / "deit_tiny_patch16_224" / "model.safetensors")),
        *("--calibration", str(real / "imagenet400"), "--output", str(output)),
    ]
    started = time.monotonic()
    subprocess.run(command, check=True)
    seconds = time.monotonic() - started
    return seconds, 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def main() -> None:
    """Print the tables."""
    real = Path(os.environ["EDGE_DEIT_REAL"])
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder)
        for precision in ("int8", "fp32"):
            seconds, peak = export(real, precision, output)
            print(f"{precision}: {seconds:.0f} s, peak so far {peak / 1e9:.2f} GB\n")
        manifests = [json.loads(path.read_text()) for path in sorted(output.glob("*.json"))]
    sizes = {(m["target"], m["precision"]): m["size_bytes"] for m in manifests}
    for m in manifests:
        key = (m["target"], m["precision"])
        ratio = sizes[key] / sizes[m["target"], "fp32"]
        print(
            f"{key[0]:10} {key[1]:5} {sizes[key]:>9} bytes  {ratio:.3f} of fp32  "
            f"max |logit difference| {m['parity']['max_abs']:.2e}  {m['parity']['images']} photos"
        )


if __name__ == "__main__":
    main()
