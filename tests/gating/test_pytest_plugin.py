"""The fixture `edge_deit_gate`, in test runs of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edge_deit.report.report import write_report
from gate_examples import GOOD, report, rule

pytest_plugins = ["pytester"]


@pytest.fixture
def place(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with reports and limits in it; the plugin is loaded by name, installed or not."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p edge_deit.pytest_plugin")
    write_report(report(GOOD), pytester.path / "good.json")
    write_report(report(replace(GOOD, snr_db=3.0)), pytester.path / "bad.json")
    limits = rule("min_snr_db = 20\nmin_agreement = 0.9\n[baseline]\nmax_snr_db_decrease = 1\n")
    (pytester.path / "thresholds.toml").write_text(limits)
    (pytester.path / "loose.toml").write_text(limits.replace("min_snr_db = 20", "min_snr_db = 1"))
    (pytester.path / "few.toml").write_text(rule("min_images = 301"))
    (pytester.path / "none.toml").write_text(rule("target = 'beta'\nmin_images = 1"))
    return pytester.path


def test_passes_and_returns_the_verdict(pytester: pytest.Pytester, place: Path) -> None:
    pytester.makepyfile(
        """
        from pathlib import Path

        def test_default_thresholds(edge_deit_gate):
            assert len(edge_deit_gate("good.json").checks) == 2

        def test_paths_and_baseline(edge_deit_gate):
            verdict = edge_deit_gate(Path("good.json").absolute(), "loose.toml", Path("good.json"))
            assert [check.status for check in verdict.checks] == 3 * ["passed"]
            assert verdict.exit_code == 0
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


FAILS = {
    "'bad.json'": "failed: my_model.int8.bin: min_snr_db: 3 dB, limit at least 20 dB, 17 dB too little",
    "'bad.json', 'loose.toml', 'good.json'": "failed: my_model.int8.bin: baseline.max_snr_db_decrease",
    "'good.json', 'few.toml'": "error: my_model.int8.bin: min_images: 300 photos",
    "'good.json', 'none.toml'": "error: no rule matches my_model.int8.bin",
    "'missing.json'": "edge_deit_gate could not judge: report *missing.json does not exist",
    "'good.json', 'missing.toml'": "edge_deit_gate could not judge: thresholds file *missing.toml does not",
    "'good.json', None, 'gone.json'": "edge_deit_gate could not judge: report *gone.json does not",
}


def test_fails_with_the_gates_lines_and_no_traceback(
    pytester: pytest.Pytester, place: Path
) -> None:
    """A limit that does not hold, and each way of not being able to judge."""
    tests = [
        f"def test_{number}(edge_deit_gate):\n    edge_deit_gate({arguments})\n"
        for number, arguments in enumerate(FAILS)
    ]
    pytester.makepyfile("\n".join(tests))
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=len(FAILS))
    result.stdout.fnmatch_lines([f"{line}*" for line in FAILS.values()])
    result.stdout.fnmatch_lines(["edge_deit_gate failed: bad.json"])
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_loading_the_plugin_does_not_load_the_gate() -> None:
    code = "import sys, edge_deit.pytest_plugin; print('edge_deit.gate' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
