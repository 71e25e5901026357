"""What a gate decided: one check for each limit and artefact, and the exit code they add up to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Status", "Verdict", "not_passed"]

Status = Literal["passed", "failed", "error"]
"""`error`: the check could not be made, for instance because the figure is null."""


@dataclass(frozen=True)
class Check:
    """One limit on one artefact's figure.

    `limit` is the limit's name as in `thresholds.toml`, `bound` its value, `value` the measured figure
    (None where there is none); `message` is one line that says what was compared and, unless it passed,
    what to try.
    """

    artefact: str
    limit: str
    value: float | None
    bound: float
    status: Status
    message: str


@dataclass(frozen=True)
class Verdict:
    """All checks of a gate, and `problems` that kept it from judging at all, one line each.

    `notes` say what was not compared although limits would have allowed it.
    """

    checks: tuple[Check, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: all limits hold; 1: one fails; 2: it could not judge. Not being able to judge goes first."""
        if self.problems or not self.checks or any(c.status == "error" for c in self.checks):
            return 2
        return 1 if any(check.status == "failed" for check in self.checks) else 0


def not_passed(verdict: Verdict, *statuses: Status) -> list[str]:
    """One line for each problem and each check that has one of the statuses (default: did not pass)."""
    wanted = statuses or ("failed", "error")
    checks = (check for check in verdict.checks if check.status in wanted)
    problems = [f"error: {problem}" for problem in verdict.problems]
    return problems + [f"{c.status}: {c.artefact}: {c.limit}: {c.message}" for c in checks]
