"""Processes that train together, started by torchrun: the steps of one process with the whole batch."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import ROOT
from edge_deit.common.errors import EdgeDeitError
from edge_deit.training.group import ALONE, Group, group_here

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
EPOCHS = 3


def command(photos: Path, weights: Path, output: Path, together: bool, *more: object) -> list[str]:
    """Fine-tuning with 10 of 24 photos a step, by one process or by two."""
    start = TORCHRUN if together else (sys.executable,)
    options = ("--data", photos, "--val", photos, "--weights", weights, "--output", output)
    batch = 5 if together else 10
    given = ("--batch-size", batch, "--learning-rate", 1e-3, "--workers", 0, "--device", "cpu")
    return list(map(str, (*start, "-m", "edge_deit.finetune", *options, *given, *more)))


def run(line: Sequence[str], code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def losses(output: Path) -> list[list[float]]:
    with (output / "metrics.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [[float(row[key]) for key in ("train_loss", "val_loss", "val_top1")] for row in rows]


def assert_same(first: Path, second: Path) -> None:
    torch.testing.assert_close(
        torch.tensor(losses(first)), torch.tensor(losses(second)), atol=1e-4, rtol=0
    )
    one, other = (load_file(folder / "last.safetensors") for folder in (first, second))
    for name, value in one.items():
        torch.testing.assert_close(value.float(), other[name].float(), atol=2e-3, rtol=0)


@pytest.fixture(scope="module")
def alone(
    labelled_photos: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("alone") / "run"
    run(command(labelled_photos, tiny_weights, output, False, "--epochs", EPOCHS))
    return output


def test_two_processes_take_the_steps_of_one(
    alone: Path, labelled_photos: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    done = run(command(labelled_photos, tiny_weights, tmp_path, True, "--epochs", EPOCHS))
    assert len(losses(tmp_path)) == EPOCHS
    assert_same(alone, tmp_path)
    assert "training on cpu, float32, 2 processes" in done.stderr
    assert done.stdout.count("wrote ") == 1
    assert "Warning" not in done.stderr


def test_a_killed_process_ends_the_other_with_a_line_and_one_process_goes_on(
    alone: Path, labelled_photos: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command(labelled_photos, tiny_weights, output, True, "--epochs", 4000),
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not (output / "metrics.csv").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(second_of(process.pid), signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode != 0
    said = (
        "error: another process of this training has gone",
        "interrupted; nothing half-written was left behind",  # torchrun ended it before it could notice
    )
    own = [line for line in stderr.splitlines() if line.startswith(("error: ", "interrupted"))]
    assert len(own) == 1, stderr
    assert own[0].startswith(said)
    assert (output / "state.pt").exists()
    # one process goes on with what two have begun, with the same options but the batch
    done = run(
        command(
            labelled_photos,
            tiny_weights,
            output,
            False,
            "--epochs",
            4000,
            "--patience",
            1,
            "--resume",
        )
    )
    assert "another" not in done.stderr


def test_an_error_of_the_user_is_said_once(
    labelled_photos: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    line = command(labelled_photos, tiny_weights, tmp_path, True, "--resume")
    done = run(line, code=1)  # torchrun's own
    own = [line for line in done.stderr.splitlines() if "error: " in line]
    assert len(own) == 1, done.stderr
    assert own[0].startswith("error: nothing to resume")


def second_of(launcher: int) -> int:
    """The process of rank 1 among those that torchrun has started."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher and b"\0RANK=1\0" in (folder / "environ").read_bytes():
                return int(folder.name)
        except OSError:  # it has ended meanwhile
            continue
    raise AssertionError("torchrun has started no second process")


def test_items_are_dealt_out_and_weigh_alike() -> None:
    groups = [Group(rank, 3) for rank in range(3)]
    assert [list(one.part(range(7))) for one in groups] == [[0, 3, 6], [1, 4], [2, 5]]
    assert [one.weight(7) for one in groups] == pytest.approx([9 / 7, 6 / 7, 6 / 7])
    assert [list(one.part([4, 5])) for one in groups] == [[4], [5], [4]]
    assert [one.weight(2) for one in groups] == pytest.approx([1.5, 1.5, 0])
    assert list(ALONE.part([1, 2])) == [1, 2]


def test_variables_of_torchrun_in_part_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert group_here() is ALONE
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(EdgeDeitError, match=r"has RANK=1, WORLD_SIZE=, .* start with torchrun"):
        group_here()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert group_here() == Group(1, 2, 0)
    for name, value in (
        ("RANK", "2"),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", "²"),
        ("LOCAL_RANK", "3"),
    ):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            with pytest.raises(EdgeDeitError, match=f"{name}={value}"):
                group_here()
