"""A limit on the accuracy drop, with real weights and photos, for every target that is no beta."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import CommandLine
from edge_deit.exporters import TARGETS, target


@pytest.mark.fuzz  # 24 real photos through every layer's damage: minutes
def test_every_target_keeps_the_limit_on_real_weights(
    command_line: CommandLine, real: Path, tmp_path: Path
) -> None:
    settled = [name for name in TARGETS if not target(name).beta]
    result = command_line(
        "export",
        *(word for name in settled for word in ("--target", name)),
        *("--max-drop", 0.5, "--labels", "imagenet-1k"),
        *("--weights", real / "deit_tiny_patch16_224" / "model.safetensors"),
        *("--calibration", real / "imagenet400", "--calibration-images", 24, "--parity-images", 4),
        *("--output", tmp_path),
    )
    assert result.returncode == 0, result.stderr
    files = sorted(tmp_path.glob("*.json"))
    made = [json.loads(file.read_text()) for file in files]
    assert {one["target"] for one in made} == set(settled)
    assert all(one["precision"] == "int8" for one in made)
    assert "labels of the calibration photos: by class number" in result.stdout + result.stderr
    assert "points of top-1 on 24 calibration photos" in result.stdout
