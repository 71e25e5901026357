"""Ratios of medians, and the processes that hold a model for timing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edge_deit.common.errors import EdgeDeitError
from edge_deit.evaluation.latency import JsonProcess, Rounds, Served, interleave
from edge_deit.metrics.ratios import ratio_of_medians

ECHO = """
import json, sys
print(json.dumps({"load_ms": 1.5}), flush=True)
for line in sys.stdin:
    untimed, timed = map(int, line.split())
    print(json.dumps([float(sys.argv[1])] * timed), flush=True)
"""


def test_ratio_of_medians_by_hand() -> None:
    found = ratio_of_medians(np.array([1.0, 9.0, 2.0]), np.array([4.0, 5.0, 3.0]))
    assert found.value == 0.5
    assert found.low <= 0.5 <= found.high


def test_interval_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    inside = 0
    for _ in range(60):
        a, b = generator.lognormal(0.0, 0.1, (2, 80))
        found = ratio_of_medians(0.5 * a, b)
        inside += found.low <= 0.5 <= found.high
    assert inside >= 51  # 57 are expected of 60


def test_rounds_are_drawn_together() -> None:
    """A disturbance that hits both series of a round leaves their ratio alone."""
    disturbed = np.linspace(1.0, 100.0, 50)
    found = ratio_of_medians(0.25 * disturbed, disturbed)
    assert (found.low, found.high) == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize(
    ("a", "b"), [(np.ones(3), np.ones(4)), (np.ones(0), np.ones(0)), (np.zeros(3), np.ones(3))]
)
def test_series_that_are_no_times_are_refused(a: np.ndarray, b: np.ndarray) -> None:
    with pytest.raises(EdgeDeitError):
        ratio_of_medians(a, b)


def test_processes_take_turns() -> None:
    with Served("a", 1, ("-c", ECHO, 2)) as a, Served("b", 1, ("-c", ECHO, 3)) as b:
        assert a.wait_until_ready() == b.wait_until_ready() == {"load_ms": 1.5}
        rounds: list[None] = []
        served = {"a": a, "b": b}
        times = interleave(served, Rounds(4, pause_ms=0), on_round=lambda: rounds.append(None))
    assert {name: series.tolist() for name, series in times.items()} == {
        "a": [2.0] * 4,
        "b": [3.0] * 4,
    }
    assert len(rounds) == 4


def test_orders_are_shuffled_and_reversed() -> None:
    class Recorder:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, untimed: int, timed: int) -> list[float]:
            visited.append(self.name)
            return [1.0]

    served = {name: Recorder(name) for name in "abcd"}
    visited: list[str] = []
    interleave(served, Rounds(20, pause_ms=0))  # type: ignore[arg-type]
    forward, visited = visited, []
    interleave(served, Rounds(20, pause_ms=0), reverse=True)  # type: ignore[arg-type]
    assert visited == forward[::-1]
    orders = [tuple(forward[start : start + 4]) for start in range(0, 80, 4)]
    assert all(sorted(order) == list("abcd") for order in orders)
    assert len(set(orders)) > 5


def test_a_process_that_dies_says_why() -> None:
    code = "import sys; sys.exit('the model is broken')"
    with (
        JsonProcess("x.tflite", 1, ("-c", code)) as worker,
        pytest.raises(EdgeDeitError, match=r"x\.tflite failed, exit code 1: .*broken"),
    ):
        worker.answer()


def test_closing_ends_the_process() -> None:
    worker = JsonProcess("x", 1, ("-c", "import sys; sys.stdin.read()"))
    worker.close()
    assert worker._process.poll() == 0


def test_float_worker_tells_what_loading_took(tiny_weights: Path, tmp_path: Path) -> None:
    pixels = tmp_path / "pixels.npy"
    np.save(pixels, np.zeros((1, 3, 64, 64), np.float32))
    place = ("-m", "edge_deit.evaluation.worker", "float", tiny_weights, 1, pixels)
    with Served("float", 1, place) as served:
        loading = served.wait_until_ready()
        assert loading["load_ms"] > 0
        if sys.platform == "linux":
            assert loading["peak_rss_bytes"] > 0
        assert all(ms > 0 for ms in served.run(1, 3))
