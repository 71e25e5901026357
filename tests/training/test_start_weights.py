"""What training starts from: options for what a checkpoint leaves open, and lines for what was assumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conftest import CommandLine
from edge_deit.checkpoint.load import load_model
from edge_deit.checkpoint.options import LoadOptions
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Silent
from edge_deit.training.recipe import Recipe
from edge_deit.training.run import finetune_model
from weights_examples import plain_state, vit_folder

STEP = Recipe(epochs=0.01, batch_size=4)


class Notes(Silent):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def start(weights: Path, photos: Path, output: Path, options: LoadOptions | None = None) -> Notes:
    notes = Notes()
    finetune_model(
        photos,
        output,
        weights=str(weights),
        options=options,
        recipe=STEP,
        workers=0,
        progress=notes,
    )
    return notes


def test_what_is_assumed_is_said(photos: Path, tmp_path: Path) -> None:
    save_file(plain_state(), tmp_path / "bare.safetensors")
    notes = start(tmp_path / "bare.safetensors", photos, tmp_path / "out")
    assert [
        line for line in notes.lines if line.startswith("assumed: 1 attention heads for width 64")
    ]
    said = LoadOptions(heads=2, preprocessing="deit")
    notes = start(tmp_path / "bare.safetensors", photos, tmp_path / "said", said)
    assert not [line for line in notes.lines if line.startswith("assumed: ")]
    found = load_model(str(tmp_path / "said" / "model.safetensors"))
    assert found.config.num_heads == 2
    assert found.preprocess.resize_size == 36


def test_averages_are_another_start(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "both.pth"
    torch.save({"model": plain_state(), "model_ema": plain_state(seed=1)}, path)
    output = tmp_path / "out"
    notes = start(path, photos, output, LoadOptions(ema=True))
    assert "taken: the weights under 'model_ema' of both.pth; left out: model" in notes.lines
    with pytest.raises(EdgeDeitError, match="start"):
        finetune_model(photos, output, weights=str(path), recipe=STEP, workers=0, resume=True)


def test_heads_that_cannot_be_used_are_a_start(photos: Path, tmp_path: Path) -> None:
    """Several labels a photo, one logit, all zero: training gives other classes a new head."""
    state = plain_state()
    folder = vit_folder(tmp_path / "multi", state, problem_type="multi_label_classification")
    start(folder, photos, tmp_path / "a")
    state["head.weight"].zero_()
    save_file(state, tmp_path / "zero.safetensors")
    start(tmp_path / "zero.safetensors", photos, tmp_path / "b")
    assert load_model(str(tmp_path / "b" / "model.safetensors")).labels == ("cat", "dog")


def test_random_weights_take_no_options(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeDeitError, match="--weights none reads no checkpoint; leave out heads"):
        finetune_model(
            photos, tmp_path / "a", weights="none", model="deit_tiny", options=LoadOptions(heads=2)
        )


def test_the_command_has_the_options(
    photos: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    folder = vit_folder(tmp_path / "a")
    (folder / "preprocessor_config.json").unlink()
    common = ("--data", photos, "--weights", folder, "--epochs", "0.01", "--workers", "0")
    done = command_line("finetune", *common, "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "--preprocessing" in done.stderr
    assert not (tmp_path / "out").exists()
    done = command_line(
        "finetune", *common, "--output", tmp_path / "out", "--preprocessing", "timm"
    )
    assert done.returncode == 0, done.stderr
    assert load_model(str(tmp_path / "out" / "model.safetensors")).preprocess.resize_size == 35
