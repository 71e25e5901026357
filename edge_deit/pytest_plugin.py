"""A pytest fixture around the gate: `edge_deit_gate(report_path)` fails the test that calls it.

Installed with the package (entry point `pytest11`). Everything else is imported when the fixture is called,
so that test runs which do not use it pay nothing.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from edge_deit.common.errors import EdgeDeitError

if TYPE_CHECKING:
    from edge_deit.report.verdict import Verdict

__all__ = ["GateCall", "edge_deit_gate"]


class GateCall(Protocol):
    """What the fixture returns."""

    def __call__(
        self,
        report_path: str | PathLike[str],
        thresholds_path: str | PathLike[str] | None = None,
        baseline_path: str | PathLike[str] | None = None,
    ) -> Verdict:
        """The verdict when all limits hold; otherwise the test fails with one line for each that does not.

        Relative paths start at pytest's root folder, where `thresholds.toml` is the default. Not being able
        to judge fails the test too.
        """
        ...


@pytest.fixture(scope="session")
def edge_deit_gate(pytestconfig: pytest.Config) -> GateCall:
    """Judge a report of edge_deit.validate by limits, as `python -m edge_deit.gate` does."""

    def call(
        report_path: str | PathLike[str],
        thresholds_path: str | PathLike[str] | None = None,
        baseline_path: str | PathLike[str] | None = None,
    ) -> Verdict:
        from edge_deit.gating.run import gate_report
        from edge_deit.report.verdict import not_passed

        root = pytestconfig.rootpath
        try:
            verdict = gate_report(
                root / report_path,
                root / (thresholds_path or "thresholds.toml"),
                None if baseline_path is None else root / baseline_path,
            )
        except EdgeDeitError as error:
            pytest.fail(f"edge_deit_gate could not judge: {error}", pytrace=False)
        if verdict.exit_code == 0:
            return verdict
        could = "failed" if verdict.exit_code == 1 else "could not judge"
        lines = "\n".join(not_passed(verdict))
        pytest.fail(f"edge_deit_gate {could}: {Path(report_path)}\n{lines}", pytrace=False)

    return call
