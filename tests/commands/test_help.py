"""Help comes at once: nothing that takes long to import stands in its way."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.newest

COMMANDS = [
    "arm64",
    "bundle",
    "doctor",
    "export",
    "finetune",
    "gate",
    "golden",
    "predict",
    "validate",
]


@pytest.mark.parametrize("command", ["", *(f".{name}" for name in COMMANDS)])
def test_help_imports_nothing_heavy(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"edge_deit{command}", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Usage" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    heavy = {"numpy", "torch", "pydantic", "scipy", "PIL.Image", "matplotlib", "jinja2"}
    assert not imported & heavy


def test_doctor_looks_without_importing() -> None:
    """It is asked whether something works before anything is worth waiting for."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "edge_deit.doctor"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "coremltools", "onnx", "onnxruntime", "litert_torch", "coreai"}
