"""Float files are made before the calibration that only integer files need; results keep their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_deit.conversion import run, schedule
from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.produce import Exported
from edge_deit.exporters import Target
from edge_deit.quantization.condition import Conditioned
from edge_deit.quantization.scheme import Scheme


def test_float_files_do_not_wait_for_conditioning(
    monkeypatch: pytest.MonkeyPatch, tiny_weights: Path, photos: Path, tmp_path: Path
) -> None:
    seen: list[str] = []
    export_one, find_conditioned = schedule.export_one, run.find_conditioned

    def export(context: ExportContext, target: Target, scheme: Scheme, *rest: Any) -> Exported:
        seen.append(scheme.precision)
        return export_one(context, target, scheme, *rest)

    def conditioned(*given: Any, **named: Any) -> Conditioned:
        seen.append("conditioning")
        return find_conditioned(*given, **named)

    monkeypatch.setattr(schedule, "export_one", export)
    monkeypatch.setattr(run, "find_conditioned", conditioned)
    found = run.export_model(
        str(tiny_weights),
        targets=["onnx"],
        precisions=["int8", "fp32", "int8-dynamic"],
        calibration=photos,
        output=tmp_path,
    )
    assert seen == ["fp32", "conditioning", "int8", "int8-dynamic"]
    made = [one.manifest.precision for one in found.artefacts]
    assert made == ["int8", "fp32", "int8-dynamic"]


def test_float_files_alone_are_never_conditioned(
    monkeypatch: pytest.MonkeyPatch, tiny_weights: Path, photos: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(run, "find_conditioned", lambda *_, **__: pytest.fail("conditioned"))
    found = run.export_model(
        str(tiny_weights),
        targets=["onnx"],
        precisions=["fp32"],
        calibration=photos,
        output=tmp_path,
    )
    assert len(found.artefacts) == 1
