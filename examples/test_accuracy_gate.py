"""A gate inside pytest: the test fails when an exported file lost too much.

    EDGE_DEIT_ARTEFACT=out/my.int8.onnx pytest examples/test_accuracy_gate.py

Where a report.json lies there already, the package's own fixture `edge_deit_gate(report_path)` is enough.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_deit import gate_report, validate_artefacts

THRESHOLDS = """
[[rule]]
min_images = 50
min_snr_db = 15
max_top1_drop_certain = 5.0
"""


@pytest.fixture
def artefact() -> Path:
    """The file to judge."""
    if not (name := os.environ.get("EDGE_DEIT_ARTEFACT")):
        pytest.skip("EDGE_DEIT_ARTEFACT names no exported file")
    return Path(name)


def test_the_file_is_as_good_as_its_model(artefact: Path, tmp_path: Path) -> None:
    """Measure on 60 photos without latency, then hold every limit."""
    report = validate_artefacts([artefact], images=60, runs=None)
    (tmp_path / "thresholds.toml").write_text(THRESHOLDS)
    verdict = gate_report(report, tmp_path / "thresholds.toml")
    assert verdict.exit_code == 0, [check.message for check in verdict.checks]
