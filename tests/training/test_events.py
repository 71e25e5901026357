"""TensorBoard's events: written where the package is installed, and only there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from edge_deit.training.log import Log
from edge_deit.training.measure import Measured
from edge_deit.training.records import Events


def two_epochs() -> Log:
    log = Log()
    for epoch in (1, 2):
        log.hear(2.0 / epoch, 4, 1.0)
        found = Measured(0.5, torch.tensor([[epoch, 1], [0, 2]], dtype=torch.int32))
        log.close(epoch, 3 * epoch, 0.1, found)
    return log


def test_without_the_package_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    events = Events(tmp_path / "tensorboard")
    events.add(two_epochs())
    events.close()
    assert not (tmp_path / "tensorboard").exists()


def test_each_epoch_is_there_once_after_a_second_start(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: no events were read")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):
        events = Events(tmp_path)
        events.add(two_epochs())
        events.close()
    found = EventAccumulator(str(tmp_path)).Reload()
    assert set(found.Tags()["scalars"]) == {
        *("learning_rate", "loss/train", "loss/validation", "top1/validation"),
        "images_per_second",
    }
    top1 = [(one.step, round(one.value, 4)) for one in found.Scalars("top1/validation")]
    assert top1 == [(3, 0.75), (6, 0.8)]
