"""The end of an epoch: the best one is kept, patience, metrics.csv; and all of it after interruptions."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import CommandLine
from edge_deit.checkpoint.load import load_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.interrupt import uninterrupted
from edge_deit.common.progress import Silent
from edge_deit.data.labels import match_labels
from edge_deit.data.photos import list_photos
from edge_deit.training.keeper import Keeper
from edge_deit.training.log import Log, Row
from edge_deit.training.measure import Measured, measure
from edge_deit.training.recipe import Recipe
from edge_deit.training.run import Finetuned, finetune_model

RECIPE = Recipe(epochs=3, batch_size=6, learning_rate=1e-3, flip=False)  # 3 steps an epoch


class Heard(Silent):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def tune(photos: Path, output: Path, weights: Path, **settings: object) -> Finetuned:
    settings = {"recipe": RECIPE, "val": photos, "device": "cpu", **settings}
    return finetune_model(photos, output, weights=str(weights), workers=0, **settings)  # type: ignore[arg-type]


def rows(output: Path) -> list[dict[str, str]]:
    with (output / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def timeless(output: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows(output)]


def same_weights(one: Path, other: Path) -> bool:
    """The header of a file has no fixed order, so the tensors are compared."""
    found, expected = load_file(one), load_file(other)
    assert found.keys() == expected.keys()
    return all(torch.equal(found[name], value) for name, value in expected.items())


def scripted(monkeypatch: pytest.MonkeyPatch, rights: list[int]) -> list[int]:
    """Validation answers so many of 16 photos rightly, epoch after epoch; returns the calls so far."""
    calls: list[int] = []

    def of(self: Keeper, *_: object) -> Measured:
        right = rights[len(calls)]
        calls.append(right)
        return Measured(1.5, torch.tensor([[right, 16 - right], [0, 0]], dtype=torch.int32))

    monkeypatch.setattr(Keeper, "of", of)
    return calls


def test_the_best_epoch_is_the_result_and_the_last_lies_beside_it(
    photos: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tune(photos, tmp_path / "plain", tiny_weights, val=None)
    scripted(monkeypatch, [10, 12, 12])  # the second is as good as the third, and first
    done = tune(photos, tmp_path / "run", tiny_weights)
    assert (done.epoch, done.epochs, done.images, done.top1) == (2, 3, 16, 0.75)
    assert same_weights(tmp_path / "run" / "last.safetensors", plain.path)
    assert not same_weights(done.path, plain.path)
    assert json.loads((tmp_path / "run" / "accuracy.json").read_text()) == {
        "images": 16, "top1": 0.75, "epoch": 2.0,
    }  # fmt: skip
    assert [row["val_top1"] for row in rows(tmp_path / "run")] == [
        "0.625000",
        "0.750000",
        "0.750000",
    ]
    assert [row["step"] for row in rows(tmp_path / "run")] == ["3", "6", "9"]


def test_figures_are_those_of_the_file_that_is_written(
    photos: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    done = tune(
        photos, tmp_path / "run", tiny_weights, recipe=replace(RECIPE, epochs=1.5), test=photos
    )
    found = load_model(str(done.path))
    labelled = list(match_labels(list_photos(photos), ("cat", "dog")).photos)
    again = measure(found.model, labelled, found.preprocess)
    assert again.top1 == done.top1 == done.test_top1
    (row,) = [
        r
        for r in rows(tmp_path / "run")
        if float(r["epoch"]) == pytest.approx(done.epoch, rel=1e-4)
    ]
    assert float(row["val_loss"]) == pytest.approx(again.loss, abs=1e-5)
    assert [row["epoch"] for row in rows(tmp_path / "run")] == ["1", "1.66667"]


def test_patience(
    photos: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = scripted(monkeypatch, [12, 11, 10, 13, 9, 9])
    recipe, heard = replace(RECIPE, epochs=6), Heard()
    run = tmp_path / "run"
    done = tune(photos, run, tiny_weights, recipe=recipe, patience=2, progress=heard)
    assert (done.epoch, done.epochs, len(calls)) == (1, 3, 3)
    assert "ended early, after epoch 3: 2 without a better one" in heard.lines
    again = tune(photos, run, tiny_weights, recipe=recipe, patience=2, resume=True)
    assert (again, len(calls)) == (done, 3)
    longer = tune(photos, run, tiny_weights, recipe=recipe, patience=3, resume=True)
    assert (longer.epoch, longer.epochs) == (4, 6)
    with pytest.raises(EdgeDeitError, match="--patience needs --val"):
        tune(photos, tmp_path / "no", tiny_weights, val=None, patience=2)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("moment", ["step", "validation", "weights", "metrics"])
def test_an_interruption_loses_and_repeats_nothing(
    moment: str, photos: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    expected = tune(photos, whole, tiny_weights)
    method = {"validation": "measure", "weights": "write", "metrics": "tell"}.get(moment, "measure")
    original, calls = getattr(Keeper, method), []

    def stop(self: Keeper, *given: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 2 and moment != "step":
            raise KeyboardInterrupt
        return original(self, *given, **named)

    class StopsAtAStep(Silent):
        def task(self, what: str, total: int | None = None, *, unit: str = "") -> object:  # type: ignore[override]
            told: list[int] = []

            def advance(steps: int) -> None:
                told.append(steps)
                if what == "training" and len(told) == 5:
                    raise KeyboardInterrupt

            return nullcontext(advance)

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, method, stop)
        progress = StopsAtAStep() if moment == "step" else Silent()
        with pytest.raises(KeyboardInterrupt):
            tune(photos, run, tiny_weights, progress=progress)
    (run / "metrics.csv").unlink(missing_ok=True)  # the state knows all rows
    done = tune(photos, run, tiny_weights, resume=True)
    assert replace(done, path=expected.path, page=expected.page) == expected
    assert timeless(run) == timeless(whole)
    for name in ("model.safetensors", "last.safetensors"):
        assert same_weights(run / name, whole / name), name
    assert (run / "accuracy.json").read_bytes() == (whole / "accuracy.json").read_bytes()


def test_other_validation_photos_are_refused(
    photos: Path, labelled_photos: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    tune(photos, tmp_path / "run", tiny_weights)
    with pytest.raises(EdgeDeitError, match="validation photos"):
        tune(photos, tmp_path / "run", tiny_weights, resume=True, val_images=4)
    (tmp_path / "run" / "model.safetensors").unlink()
    with pytest.raises(EdgeDeitError, match=r"of epoch \d, has gone; last\.safetensors has"):
        tune(photos, tmp_path / "run", tiny_weights, resume=True)


def test_a_broken_validation_photo_is_left_out_and_said_once(
    photos: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos, tmp_path / "val")
    (tmp_path / "val" / "cat" / "2.png").write_bytes(b"no photo")
    heard = Heard()
    done = tune(photos, tmp_path / "run", tiny_weights, val=tmp_path / "val", progress=heard)
    assert done.images == 15
    (line,) = [line for line in heard.lines if "left out of validation" in line]
    assert "1 of 16 photos" in line
    assert "2.png" in line


def test_photos_that_judge_what_they_taught_are_said(
    photos: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    heard = Heard()
    tune(photos, tmp_path / "run", tiny_weights, test=photos, progress=heard)
    assert [line for line in heard.lines if "flatters" in line] == [
        "16 of the 16 photos of --val are trained on too: their accuracy flatters",
        "16 of the 16 photos of --test are trained on too: their accuracy flatters",
        "16 of the 16 photos of --test are in --val too, which chooses the epoch: their accuracy flatters",
    ]


def test_the_test_split_of_a_table_is_taken(
    photos: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos, tmp_path / "d")
    splits = ["train"] * 4 + ["val", "val", "test", "val"]
    lines = [f"{c}/{i}.png,{c},{splits[i]}" for c in ("cat", "dog") for i in range(8)]
    (tmp_path / "d" / "labels.csv").write_text("\n".join(["file,label,split", *lines]))
    data = tmp_path / "d"
    done = tune(data, tmp_path / "run", tiny_weights, val=data, test=data)
    assert (done.images, done.test_images) == (6, 2)
    assert [row["step"] for row in rows(tmp_path / "run")] == ["2", "4", "6"]


# The log


def test_the_log_by_hand() -> None:
    log = Log()
    log.hear(2.0, 4, 1.0)
    log.hear(1.0, 2, 1.0)
    first = Measured(0.5, torch.tensor([[3, 1], [2, 2]], dtype=torch.int32))
    log.close(1, 2, 0.1, first)
    assert log.rows == [Row(1, 2, 0.1, pytest.approx(10 / 6), 0.5, 5 / 8, 3.0)]  # type: ignore[arg-type]
    log.hear(1.0, 4, 0.5)
    other = Log()
    other.restore(log.to_state())
    assert (other.rows, other.loss_sum, other.photos, other.stale) == (log.rows, 4.0, 4, 0)
    other.close(2, 4, 0.1, first)  # as good is not better
    assert (other.stale, other.best_row) == (1, log.rows[0])


@pytest.mark.parametrize(
    "damage",
    [{"rows": [[1, 2]]}, {"rows": [["a"] * 7]}, {"best": [3, torch.zeros(1)]}, {"sums": [1]}],
)
def test_a_damaged_log_is_no_log(damage: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Log().restore(Log().to_state() | damage)


def test_an_interrupt_waits_for_the_end_of_a_step() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 # what comes after the signal is the point
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("inside")
        done.append("after")
    assert done == ["inside"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_the_command_says_what_flatters(
    photos: Path, tiny_weights: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    common = (
        "finetune", "--data", photos, "--val", photos, "--weights", tiny_weights,
        "--output", tmp_path, "--epochs", 2, "--batch-size", 8, "--workers", 1,
    )  # fmt: skip
    done = command_line(*common)
    assert done.returncode == 0, done.stderr
    assert "validation photos, which chose the epoch: a little flattering" in done.stdout
    assert "--test FOLDER" in done.stdout
    assert "training on cpu, float32" in done.stderr
    assert "Warning" not in done.stderr
    assert "epoch 2 of 2: loss" in done.stderr
    done = command_line(*common, "--resume", "--test", photos)
    assert done.returncode == 0, done.stderr
    assert "on 16 test photos" in done.stdout


def test_nothing_is_said_before_all_was_checked_and_an_earlier_state_is(
    photos: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    heard, short = Heard(), replace(RECIPE, epochs=0.1)
    run = tmp_path / "run"
    with pytest.raises(EdgeDeitError, match="nothing to resume"):
        tune(photos, run, tiny_weights, val=None, recipe=short, resume=True, progress=heard)
    assert heard.lines == []
    tune(photos, run, tiny_weights, val=None, recipe=short)
    tune(photos, run, tiny_weights, val=None, recipe=short, progress=heard)
    first = f"{run / 'state.pt'} is of an earlier run, and replaced; --resume goes on from it"
    assert heard.lines[:2] == [first, "training on cpu, float32"]
