"""What the Python API is given is held against its annotations first, and refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_deit import EdgeDeitError, export_model, gate_report, load_model, validate_artefacts
from edge_deit.artefacts.predict import predict_photos
from edge_deit.common.arguments import Threads, checked_arguments
from edge_deit.emulation.run import measure_arm64
from edge_deit.mobile.bundle import bundle_artefacts
from edge_deit.training.run import finetune_model

Call = Callable[..., Any]
REFUSED: list[tuple[Call, dict[str, Any], str]] = [
    (load_model, {"weights": None}, "weights is None"),
    (export_model, {"max_drop": float("nan")}, "max_drop is nan"),
    (export_model, {"threads": 10**9}, "threads is 1000000000"),
    (export_model, {"options": {}}, "options is {}"),
    (export_model, {"parity_images": 1.5}, "parity_images is 1.5"),
    (export_model, {"progress": 3}, "progress is 3"),
    (validate_artefacts, {"artefacts": "x.onnx"}, "artefacts is 'x.onnx'"),
    (validate_artefacts, {"artefacts": [3]}, r"artefacts\[0\] is 3"),
    (validate_artefacts, {"artefacts": ["x"], "runs": 1.5}, "runs is 1.5"),
    (gate_report, {"report": 3, "thresholds": "t.toml"}, "report is 3"),
    (predict_photos, {"artefact": None, "images": []}, "artefact is None"),
    (finetune_model, {"data": 5, "output": "x"}, "data is 5"),
    (bundle_artefacts, {"artefacts": None}, "artefacts is None"),
    (measure_arm64, {"artefacts": ["x"], "images": "many"}, "images is 'many'"),
]


@pytest.mark.parametrize(("call", "arguments", "said"), REFUSED)
def test_refused_by_name_before_any_work(call: Call, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(EdgeDeitError, match=f"^{call.__name__}: {said}; ") as caught:
        call(**arguments)
    assert "\n" not in str(caught.value)


def test_unknown_names_come_with_those_there_are() -> None:
    with pytest.raises(
        EdgeDeitError, match=r"^unknown task 'x'; choose one of: classification, feat"
    ):
        load_model(task="x")  # type: ignore[arg-type]
    with pytest.raises(
        EdgeDeitError, match=r"^unknown precision 'int9'; choose one of: fp32, fp16, "
    ):
        export_model(precisions=["int9"])  # type: ignore[list-item]


def test_texts_and_paths_stand_for_each_other() -> None:
    @checked_arguments
    def call(name: str, folder: Path, threads: Threads = 2) -> list[Any]:
        return [name, folder, threads]

    assert call(Path("a"), "b") == ["a", Path("b"), 2]  # type: ignore[arg-type]


def test_missing_and_unknown_arguments_stay_type_errors() -> None:
    with pytest.raises(TypeError, match="nope"):
        load_model(nope=1)  # type: ignore[call-arg]
