"""Checkpoints at the command line: what was taken and assumed is printed, kept, and told again later."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conftest import CommandLine
from weights_examples import plain_state, vit_folder

pytestmark = pytest.mark.slow


def export(*arguments: object) -> tuple[object, ...]:
    return ("export", "--target", "onnx", "--precision", "fp32", *arguments)


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A checkpoint of two models, whose heads it does not state."""
    path = tmp_path / "last.ckpt"
    plain, mean = ({f"model.{k}": v for k, v in plain_state(seed=s).items()} for s in (0, 1))
    torch.save({"state_dict": plain, "state_dict_ema": mean, "epoch": 3}, path)
    return path


def test_options_go_with_the_file(
    training: Path, photos: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    out, report = tmp_path / "out", tmp_path / "report"
    options = ("--ema", "--heads", "4", "--preprocessing", "deit", "--mean", "0.5")
    done = command_line(
        *export("--weights", training, *options, "--calibration", photos, "--output", out)
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "taken: the weights under 'state_dict_ema.model' of last.ckpt; left out: " in said
    assert "assumed: " not in said
    (file,) = out.glob("*.onnx")
    weights = json.loads(file.with_name(f"{file.name}.json").read_text())["weights"]
    kept = {"ema": True, "heads": 4, "preprocessing": "deit", "mean": "0.5"}
    assert weights["options"] == kept
    done = command_line(
        "validate",
        file,
        "--data",
        photos / "cat",
        "--runs",
        "1",
        "--images",
        "2",
        "--output",
        report,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((report / "report.json").read_text())["artefacts"][0]
    assert found["agreement"] == 1
    assert found["snr_db"] > 80


def test_what_is_assumed_is_printed(
    training: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    done = command_line(*export("--weights", training, "--output", tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "assumed: 1 attention heads for width 64" in said
    assert "assumed: preprocessing is timm's rule for DeiT" in said
    assert "state_dict_ema.model (--ema takes it)" in said


def test_refusals(tmp_path: Path, command_line: CommandLine) -> None:
    """One of each kind, through the whole command: one line, exit code 2, nothing written."""
    os.mkfifo(tmp_path / "pipe.pth")
    state = plain_state()
    save_file(state | {"head.weight": torch.zeros(4, 64)}, tmp_path / "zero.safetensors")
    cases = {
        tmp_path / "pipe.pth": "is a pipe",
        tmp_path / "zero.safetensors": "answers every photo with the same logits",
        "https://hf.co/facebook/deit": "write hub:facebook/deit",
        "weights.zip": "unpack it",
        vit_folder(tmp_path / "multi", problem_type="multi_label_classification"): "problem_type",
    }
    for weights, expected in cases.items():
        done = command_line(*export("--weights", weights, "--output", tmp_path / "out"))
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.splitlines()) == 1
        assert expected in done.stderr
        assert not (tmp_path / "out").exists()
