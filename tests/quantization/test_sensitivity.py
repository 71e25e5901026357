"""The ranking finds the layer that was made bad; the fallback keeps it finer."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from condition_examples import SPEC, grey_photos, outliers
from conftest import TINY, CommandLine
from edge_deit.checkpoint.load import load_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.conversion import run, schedule
from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.fallback import DropLimit, OverLimitError, choose_fallback
from edge_deit.conversion.produce import Exported
from edge_deit.conversion.sensitivity_table import write_sensitivity
from edge_deit.data.calibration import CalibrationSet
from edge_deit.exporters import Target, target
from edge_deit.quantization.condition import Conditioned, condition
from edge_deit.quantization.scheme import LayerRanges, Scheme
from edge_deit.quantization.sensitivity import Drop, drop_of, rank_layers

BAD = "blocks.1.mlp.fc1"


@pytest.fixture(scope="module")
def spoilt() -> tuple[Conditioned, CalibrationSet]:
    """A conditioned model in which one layer's input range is far too narrow."""
    photos = grey_photos(6)
    found = condition(outliers(), photos, SPEC)
    narrow = LayerRanges((-0.05, 0.05), found.ranges[BAD].output)
    return replace(found, ranges={**found.ranges, BAD: narrow}), photos


@pytest.mark.parametrize("outputs", [False, True])
def test_the_worst_layer_comes_first(
    outputs: bool, spoilt: tuple[Conditioned, CalibrationSet]
) -> None:
    found, photos = spoilt
    calls: list[None] = []
    ranking = rank_layers(found, list(photos), outputs=outputs, on_layer=lambda: calls.append(None))
    assert ranking[0].layer == BAD
    assert len(ranking) == len(calls) == 2 + 6 * TINY.depth
    assert [d.noise for d in ranking] == sorted((d.noise for d in ranking), reverse=True)
    assert ranking[0].noise > 3 * ranking[1].noise


def test_report_holds_every_layer(
    spoilt: tuple[Conditioned, CalibrationSet], tmp_path: Path
) -> None:
    found, photos = spoilt
    ranking = rank_layers(found, list(photos)[:2], outputs=False)
    write_sensitivity({"float outputs": ranking}, tmp_path / "report")
    with (tmp_path / "report" / "sensitivity.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["layer"] for row in rows] == [damage.layer for damage in ranking]
    picture = (tmp_path / "report" / "sensitivity.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000


def test_drop_with_and_without_labels() -> None:
    reference, actual = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 1, 1])
    labelled = drop_of(actual, reference, [0, 1, 2, 1])
    assert (labelled.points, labelled.labelled) == (0.0, True)  # one lost, one won
    unlabelled = drop_of(actual, reference, [0, 1, 2, None])
    assert (unlabelled.points, unlabelled.labelled) == (50.0, False)


def export(command_line: CommandLine, *options: object) -> tuple[int, str]:
    result = command_line(
        "export", "--target", "onnx", "--precision", "int8", "--calibration-images", 6, *options
    )
    return result.returncode, result.stdout + result.stderr


def test_command_line_writes_the_report_and_keeps_the_limit(
    command_line: CommandLine, tiny_weights: Path, photos: Path, tmp_path: Path
) -> None:
    code, text = export(
        command_line,
        *("--weights", tiny_weights, "--calibration", photos / "cat", "--output", tmp_path / "out"),
        *("--max-drop", 100, "--sensitivity-report", tmp_path / "report"),
    )
    assert code == 0, text
    assert "0 layers dynamic and 0 float" in text
    assert (tmp_path / "report" / "sensitivity.png").is_file()


def test_a_limit_is_never_judged_by_labels_that_are_not_the_models(
    command_line: CommandLine, tiny_weights: Path, photos: Path, tmp_path: Path
) -> None:
    code, text = export(
        command_line,
        *("--weights", tiny_weights, "--calibration", photos, "--output", tmp_path / "out"),
        *("--max-drop", 100),
    )
    assert code == 2
    assert "none of the model's classes: cat, dog; its classes are class 0, class 1" in text
    assert not list((tmp_path / "out").iterdir())


def test_fallback_starts_from_what_the_target_has_dynamic(
    spoilt: tuple[Conditioned, CalibrationSet], tiny_weights: Path, tmp_path: Path
) -> None:
    found, photos = spoilt
    checkpoint = load_model(str(tiny_weights))
    nothing = np.zeros((6, TINY.num_classes))
    job = ExportContext(
        checkpoint, found.unrounded, lambda: found, photos, photos.pixels, nothing, tmp_path, 1
    )
    items = [
        (one, one.fit(Scheme("int8"), job.form), one.backends[0])
        for one in (target("tflite"), target("executorch"))
    ]
    chosen = choose_fallback(DropLimit(0.0, None), job, items)
    lite, other = (scheme for _, scheme, _ in chosen.items)
    assert len(chosen.notes) == 2
    following = chosen.finer(items[1][0], other)
    assert following is not None
    assert {*other.dynamic, *other.keep_float} < {*following.dynamic, *following.keep_float}
    assert set(items[0][1].dynamic) <= {*lite.dynamic, *lite.keep_float}
    assert not items[1][1].dynamic
    assert BAD in (*other.dynamic, *other.keep_float)


def test_limits_that_mean_nothing_are_refused(command_line: CommandLine, tmp_path: Path) -> None:
    code, text = export(command_line, "--max-drop", -1, "--output", tmp_path)
    assert code == 2
    assert "must be 0 or more" in text
    result = command_line(
        "export", "--target", "onnx", "--precision", "fp32", "--max-drop", 1, "--output", tmp_path
    )
    assert result.returncode == 2
    assert "static int8" in result.stderr


def test_a_file_over_the_limit_is_made_again_with_more_layers_kept_finer(
    monkeypatch: pytest.MonkeyPatch, tiny_weights: Path, photos: Path, tmp_path: Path
) -> None:
    """The first two files lose more than their layers did in torch."""
    seen: list[int] = []
    real = schedule.export_one

    def export_one(context: ExportContext, target: Target, scheme: Scheme, *rest: Any) -> Exported:
        seen.append(len(scheme.dynamic) + len(scheme.keep_float))
        if len(seen) < 3:
            raise OverLimitError(Drop(4.0, 6, labelled=True), 0.5)
        return real(context, target, scheme, *rest)

    monkeypatch.setattr(schedule, "export_one", export_one)
    loose, out = tmp_path / "loose", tmp_path / "out"
    shutil.copytree(photos / "cat", loose)
    done = run.export_model(
        str(tiny_weights), targets=["onnx"], calibration=loose, max_drop=100, output=out
    )
    assert len(done.artefacts) == 1
    made = done.artefacts[0].manifest.scheme
    again = [note for note in done.notes if note.startswith("onnx: made again with ")]
    assert len(again) == 2
    assert f"with {len(made['dynamic'])} layers dynamic and " in again[-1]
    assert seen == sorted(set(seen))
    monkeypatch.setattr(schedule, "export_one", lambda *_: fail())
    with pytest.raises(EdgeDeitError, match="with all layers kept finer"):
        run.export_model(
            str(tiny_weights), targets=["onnx"], calibration=loose, max_drop=100, output=out
        )


def fail() -> Exported:
    raise OverLimitError(Drop(4.0, 6, labelled=True), 0.5)
