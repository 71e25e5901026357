"""The tool that makes the bundled checkpoint anew: its commands are ones that `finetune` takes."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from edge_deit.finetune import finetune

TAKEN = {name.replace("_", "-") for name in inspect.signature(finetune).parameters}


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("make_checkpoint")


def test_stages_follow_each_other(tool: Any, tmp_path: Path) -> None:
    found = tool.commands(tmp_path, "cpu")
    stages = [one for one in found if "edge_deit.finetune" in one]
    assert len(stages) == len(tool.STAGES)
    assert [one[1:3] for one in found if one not in stages] == [
        [str(ROOT / "tools" / "fashion_mnist.py"), "folders"],
        [str(ROOT / "tools" / "fashion_mnist.py"), "teacher"],
        [str(ROOT / "tools" / "build_assets.py"), "--data"],
    ]
    for number, command in enumerate(stages, 1):
        given = [word[2:] for word in command[3:] if word.startswith("--")]
        assert {*given} <= TAKEN
        assert len({*given}) == len(given), "each option once"
        after = command[command.index("--weights") + 1]
        assert after == (
            "none" if number == 1 else str(tmp_path / f"stage{number - 1}" / "model.safetensors")
        )
        assert "--val" not in command, "no test photo chooses an epoch"
        assert ("--test" in command) == (number == len(stages))


def test_what_is_there_is_not_made_again(tool: Any, tmp_path: Path) -> None:
    (tmp_path / "fashion" / "test").mkdir(parents=True)
    (tmp_path / "fashion" / "teacher.pt2").touch()
    (tmp_path / "stage1").mkdir()
    (tmp_path / "stage1" / "state.pt").touch()
    first, second, *_ = tool.commands(tmp_path, "auto")
    assert "--resume" in first
    assert "--resume" not in second
    assert str(tmp_path / "stage1") in first
