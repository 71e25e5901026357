"""The scripts in examples/ run as their texts say."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT
from edge_deit import assets
from edge_deit.exporters import target as find_target

EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.slow


@pytest.fixture
def artefact(exported: Callable[[str], Path]) -> Path:
    return exported("onnx")


def test_export_after_training(tmp_path: Path) -> None:
    if missing := find_target("onnx").missing():
        pytest.skip(f"needs {', '.join(missing)}")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "export_after_training.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "out/deit_tiny_distilled.fp32.onnx",
        "out/deit_tiny_distilled.int8.onnx",
    ]
    gate = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", EXAMPLES / "test_accuracy_gate.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={
            **os.environ,
            "EDGE_DEIT_ARTEFACT": str(tmp_path / "out/deit_tiny_distilled.int8.onnx"),
        },
    )
    assert gate.returncode == 0, gate.stdout
    assert "1 passed" in gate.stdout or gate.stdout.startswith(".")


def test_a_service_answers_and_refuses(artefact: Path) -> None:
    serve = runpy.run_path(str(EXAMPLES / "predict_in_a_service.py"))["serve"]
    server = serve(artefact, 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/"
        with assets.validation_folder() as folder:
            photo = sorted(folder.glob("*.png"))[0].read_bytes()
        with urllib.request.urlopen(address, photo) as answer:  # our own server
            ranked = json.load(answer)
        assert [entry["label"].startswith("class ") for entry in ranked] == [True] * 3
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address, b"no photo")  # our own server
        assert refused.value.code == 400
        assert "cannot be read" in json.load(refused.value)[0]["error"]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
