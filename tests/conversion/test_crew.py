"""Files made side by side: the same bytes, named deaths, nothing left behind."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from edge_deit.common import host
from edge_deit.common.errors import EdgeDeitError
from edge_deit.conversion import crew
from edge_deit.conversion.converter import _failure
from edge_deit.conversion.run import export_model
from edge_deit.exporters import target

TWO = ["onnx", "tflite"]

pytestmark = pytest.mark.skipif(
    any(target(name).missing() for name in TWO), reason="onnx or tflite is not installed"
)


def export(weights: Path, photos: Path, output: Path, jobs: int, **more: Any) -> dict[str, bytes]:
    """What an export of both precisions to both targets wrote, by file."""
    export_model(
        str(weights),
        targets=TWO,
        precisions=["fp32", "int8"],
        calibration=photos,
        output=output,
        parity_images=2,
        jobs=jobs,
        **more,
    )
    assert not [one for one in output.iterdir() if one.name.startswith(".")]
    return {one.name: one.read_bytes() for one in output.iterdir() if one.suffix != ".json"}


def test_the_same_bytes_whoever_makes_them(
    tiny_weights: Path, photos: Path, tmp_path: Path
) -> None:
    alone = export(tiny_weights, photos, tmp_path / "one", 1)
    together = export(tiny_weights, photos, tmp_path / "two", 2)
    assert len(alone) == 4
    assert alone == together


def test_a_refusal_comes_back_as_one(tiny_weights: Path, photos: Path, tmp_path: Path) -> None:
    """The check finds the file wrong in the other process."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(tiny_weights, "pt") as file:
        about = file.metadata()
    tensors = load_file(tiny_weights)
    tensors["head.bias"] = torch.full_like(tensors["head.bias"], torch.finfo(torch.float32).max)
    save_file(tensors, tmp_path / "large.safetensors", about)
    with pytest.raises(EdgeDeitError, match=r"finite|infinite|NaN"):
        export(tmp_path / "large.safetensors", photos, tmp_path / "out", 2)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which only Linux has")
def test_a_process_that_dies_is_named(
    tiny_weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = crew.start_child

    def start_and_kill(module: str) -> Any:
        process, connection = start(module)
        started.append(process)
        threading.Timer(2, process.send_signal, [signal.SIGKILL]).start()
        return process, connection

    monkeypatch.setattr(crew, "start_child", start_and_kill)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(EdgeDeitError, match=r"was killed \(SIGKILL\), .*--jobs 1"):
        export(tiny_weights, photos, tmp_path, 2)
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
    assert set(os.listdir("/proc/self/fd")) == before
    assert not list(tmp_path.glob(".export-*"))


def test_ctrl_c_ends_all_of_them(tiny_weights: Path, photos: Path, tmp_path: Path) -> None:
    words = ["--target", "all", "--precision", "fp32", "--precision", "int8", "--jobs", "2"]
    command = [sys.executable, "-m", "edge_deit.export", *words, "--weights", str(tiny_weights)]
    command += ["--calibration", str(photos), "--output", str(tmp_path / "out")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: bool(list((tmp_path / "out").glob(".export-*"))))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted; nothing half-written was left behind"
    assert not list((tmp_path / "out").glob(".*"))


def wait_for(happened: Callable[[], bool]) -> None:
    for _ in range(600):
        if happened():
            return
        time.sleep(0.1)
    pytest.fail("it did not happen within a minute")


class OddError(Exception):
    """It can be written, but not read: it takes two arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


@pytest.mark.parametrize("error", [OddError("a", "b"), ValueError("ab"), EdgeDeitError("ab")])
def test_errors_travel(error: Exception) -> None:
    found, sent = pickle.loads(_failure(error))  # noqa: S301 # written here
    assert found is None
    assert "ab" in str(sent)
    assert type(sent) is (RuntimeError if isinstance(error, OddError) else type(error))


@pytest.mark.parametrize(
    ("free", "weights", "cores", "files", "found"),
    [
        (8 << 30, 22 << 20, 2, 8, 2),
        (8 << 30, 22 << 20, 16, 8, 4),
        (2 << 30, 22 << 20, 16, 8, 1),
        (8 << 30, 345 << 20, 16, 8, 1),
        (64 << 30, 345 << 20, 16, 3, 3),
        (None, 345 << 20, 2, 8, 2),
        (0, 22 << 20, 2, 8, 1),
    ],
)
def test_as_many_as_there_is_room_for(
    free: int | None,
    weights: int,
    cores: int,
    files: int,
    found: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("EDGE_DEIT_JOBS", raising=False)
    monkeypatch.setattr(crew, "available_memory_bytes", lambda: free)
    monkeypatch.setattr(crew, "usable_cores", lambda: cores)
    assert crew.processes_for(files, weights) == found


@pytest.mark.parametrize("setting", ["0", "-1", "two", "1.5", "²", "1" * 5000])
def test_a_setting_that_is_no_number(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_DEIT_JOBS", setting)
    with pytest.raises(EdgeDeitError, match=r"EDGE_DEIT_JOBS is .*; set it to a number from 1 on"):
        crew.processes_for(3, 1)


def test_memory_of_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    monkeypatch.setattr(host, "_MEMINFO", meminfo)
    monkeypatch.setattr(host, "_CGROUP", tmp_path)
    assert host.available_memory_bytes() is None
    meminfo.write_text("MemTotal:  2000 kB\nMemAvailable:   1000 kB\n")
    assert host.available_memory_bytes() == 1000 << 10
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("600000\n")
    assert host.available_memory_bytes() == 1000 << 10
    (tmp_path / "memory.max").write_text("700000\n")
    assert host.available_memory_bytes() == 100_000
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 200000\n")
    assert host.available_memory_bytes() == 300_000


def test_a_process_goes_on_with_the_packages_that_it_has() -> None:
    """What it has packages for, then what nobody has, then the rest; a lower rank before all that."""
    two = crew.Crew(2)
    mine, other = two._converters
    mine.loaded.add("onnx")
    other.loaded.add("executorch")
    for name, rank in [
        ("executorch", 1),
        ("tflite", 1),
        ("onnx", 1),
        ("executorch", 0),
        ("onnx", 1),
    ]:
        two._waiting.append(crew._Task(lambda convert: None, name, rank, Future()))
    taken = [two._choose(mine) for _ in range(5)]
    assert [(one.target, one.rank) for one in taken] == [
        ("executorch", 0),  # nothing else of that rank waits
        ("executorch", 1),  # its packages are loaded now
        ("onnx", 1),
        ("onnx", 1),
        ("tflite", 1),
    ]
    assert mine.loaded == {"executorch", "onnx", "tflite"}
