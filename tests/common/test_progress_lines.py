"""Long work says how far it is also where its output is a file; short work says nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edge_deit.common.progress_lines import ProgressLines


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_in_ten_seconds_and_one_at_the_end() -> None:
    lines: list[str] = []
    clock = Clock()
    with ProgressLines(lines.append, clock).task("conditioning", 60) as advance:
        for _ in range(60):
            clock.now += 0.5
            advance(1)
    assert lines == [
        "conditioning: 20 of 60, about 20 s left",
        "conditioning: 40 of 60, about 10 s left",
        "conditioning: done in 30 s",
    ]


def test_steps_that_were_done_before_do_not_hasten_the_rest() -> None:
    """A run that goes on behind a journal counts what is there in no time."""
    lines: list[str] = []
    clock = Clock()
    with ProgressLines(lines.append, clock).task("photos", 50_000) as advance:
        clock.now += 10
        advance(25_000)
        for _ in range(100):
            clock.now += 1
            advance(10)
    assert lines[0] == "photos: 25000 of 50000"
    assert lines[-2] == "photos: 26000 of 50000, about 40 min left"


def test_tasks_inside_each_other_share_the_ten_seconds() -> None:
    lines: list[str] = []
    clock = Clock()
    shown = ProgressLines(lines.append, clock)
    with shown.task("artefacts", 8) as outer:
        for _ in range(8):
            with shown.task("check", None) as inner:
                clock.now += 4
                inner(1)
            outer(1)
    assert lines == [  # the checks are short ones, of which there is nothing to say
        "artefacts: 3 of 8, about 20 s left",
        "artefacts: 6 of 8, about 8 s left",
        "artefacts: done in 32 s",
    ]


def test_short_and_failed_tasks_are_not_told() -> None:
    lines: list[str] = []
    clock = Clock()
    shown = ProgressLines(lines.append, clock)
    with shown.task("quick", 2) as advance:
        clock.now += 9
        advance(2)

    def fail() -> None:
        with shown.task("failed", 2):
            clock.now += 60
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert not lines


def test_bars_become_lines_in_a_file() -> None:
    script = (
        "from edge_deit.common import progress_lines as p\n"
        "p._EVERY_S = 0\n"
        "from edge_deit.common.console import Bars\n"
        "with Bars() as bars, bars.task('work', 3) as advance:\n"
        "    advance(1)\n"
        "    advance(1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == ""
    first, second, last = done.stderr.splitlines()
    assert first == "work: 1 of 3"  # one step tells no pace
    assert second.startswith("work: 2 of 3, about ")
    assert last.startswith("work: done in ")


def test_steps_with_a_unit_have_a_pace() -> None:
    lines: list[str] = []
    clock = Clock()
    with ProgressLines(lines.append, clock).task("training", 2000, unit="photos") as advance:
        for _ in range(50):
            clock.now += 1
            advance(40)
    assert lines[0] == "training: 400 of 2000 photos, 40 photos/s, about 40 s left"
