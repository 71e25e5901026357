"""Commands have threads that sleep while they wait, unless the user chose; latency has the default."""

from __future__ import annotations

import os

import pytest

from edge_deit.common.waiting import default_waiting, wait_asleep

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "EDGE_DEIT_WAITS_ASLEEP")


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what the test sets goes afterwards
        monkeypatch.delenv(name)


def test_threads_sleep_unless_the_user_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "5")
    wait_asleep()
    assert "OMP_WAIT_POLICY" not in os.environ
    monkeypatch.delenv("GOMP_SPINCOUNT")
    wait_asleep()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert not set(NAMES) & set(default_waiting(os.environ))


def test_what_the_user_chose_stays_in_measurements() -> None:
    chosen = {"OMP_WAIT_POLICY": "PASSIVE", "HOME": "/"}
    assert default_waiting(chosen) == chosen
