"""Runs `Classifier` on Arm: python tools/release/arm64.py WHEEL ARTEFACT PHOTO... says how near it comes.

The wheel and what `edge-deit[runtime]` or `edge-deit[runtime-onnx]` needs are installed for aarch64 from
PyPI into a folder in ~/.cache/edge-deit-release, and run in the Debian that
`python -m edge_deit.arm64 --setup` makes. The answers are compared with those of this processor.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from edge_deit.artefacts.artefact import read_artefact
from edge_deit.artefacts.predict import predict_photos
from edge_deit.common.cache import user_cache
from edge_deit.emulation.emulator import emulated_python, require
from edge_deit.emulation.sysroot import CPUS

EXTRAS = {"tflite": "runtime", "onnx": "runtime-onnx"}
CLASSIFY = Path(__file__).with_name("classify.py")
PLATFORMS = (
    "manylinux_2_34",
    "manylinux_2_28",
    "manylinux_2_27",
    "manylinux_2_17",
    "manylinux2014",
)


def installed(wheel: Path, extra: str) -> Path:
    """A folder with the wheel and what an extra brings, for Python 3.11 on aarch64."""
    base = user_cache()
    assert base is not None, "there is no home folder"
    folder = base.parent / "edge-deit-release" / f"aarch64-{extra}"
    stamp = folder.with_suffix(".stamp")
    key = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != key:
        shutil.rmtree(folder, ignore_errors=True)
        platforms = [word for name in PLATFORMS for word in ("--platform", f"{name}_aarch64")]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
        wanted = [*platforms, "--python-version", "3.11", "--only-binary=:all:"]
        subprocess.run([*command, *wanted, f"{wheel}[{extra}]"], check=True)  # noqa: S603
        stamp.write_text(key, encoding="utf-8")
    return folder


def on_arm(folder: Path, artefact: Path, photos: list[Path]) -> list[Any]:
    """What tools/release/classify.py answers there."""
    with tempfile.TemporaryDirectory() as scratch:
        command = emulated_python(CPUS["cortex-a76"], Path(scratch))
        done = subprocess.run(  # noqa: S603
            [*command, CLASSIFY, artefact.resolve(), *(one.resolve() for one in photos)],
            env={"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        sys.exit(done.stderr)
    found = json.loads(done.stdout.splitlines()[-1])["answers"]
    assert isinstance(found, list)
    return found


def main(wheel: Path, artefact: Path, *photos: Path) -> None:
    """Print a line a photo; another first answer ends with exit code 1."""
    target = read_artefact(artefact).manifest.target
    require([target])
    arm = on_arm(installed(wheel, EXTRAS[target]), artefact, list(photos))
    here = predict_photos(artefact, photos)
    for prediction, answer in zip(here, arm, strict=True):
        logits = {one.label: one.logit for one in prediction.top}
        far = max((abs(logit - logits[label]) for label, logit in answer if label in logits))
        print(f"{prediction.image.name}: {answer[0][0]}, logits {far:.2e} apart at most")
        if answer[0][0] != prediction.top[0].label:
            sys.exit(f"{prediction.image.name}: here it is {prediction.top[0].label}")
    print(
        f"{artefact.name}: {len(arm)} photos, the same answers on {os.uname().machine} and aarch64"
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
