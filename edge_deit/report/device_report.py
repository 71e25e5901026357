"""Reads what a phone app measured: the device report that its benchmark screen shares.

The file comes from another machine, so nothing in it is taken on trust: every entry is there, of its
type and in its range, or the file is refused with the place of the first fault.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

from edge_deit.common.errors import EdgeDeitError

__all__ = ["App", "Device", "DeviceArtefact", "DeviceReport", "read_device_report"]

_SCHEMA: Final = 1
_KIND: Final = "edge-deit-device-report"
_SYSTEMS: Final = {"edge-deit-android": "Android", "edge-deit-ios": "iOS"}
"""Name of the app -> the system it runs on."""

_FIGURES: Final = (
    "latency_ms_p50",
    "latency_ms_p90",
    "load_ms",
    "preprocess_ms_p50",
    "peak_rss_bytes",
)
"""What may be null, with a reason."""


@dataclass(frozen=True)
class App:
    """The app that measured."""

    name: str
    version: str


@dataclass(frozen=True)
class Device:
    """The phone; `soc` is None where the system does not tell."""

    manufacturer: str
    model: str
    os: str
    os_version: str
    soc: str | None
    cores: int


@dataclass(frozen=True)
class DeviceArtefact:
    """What was measured of one artefact with one runner.

    `sha256` is the artefact's, from its manifest. A figure is None where it could not be had; then
    `notes` has the reason under the figure's name. `threads` is None where the runner decides.
    """

    path: str
    sha256: str
    target: str
    precision: str
    model: str
    runner: str
    threads: int | None
    runs: int
    latency_ms_p50: float | None
    latency_ms_p90: float | None
    load_ms: float | None
    preprocess_ms_p50: float | None
    peak_rss_bytes: float | None
    notes: dict[str, str]


@dataclass(frozen=True)
class DeviceReport:
    """One session on one phone; `created` has its time zone."""

    created: datetime
    app: App
    device: Device
    artefacts: tuple[DeviceArtefact, ...]


def read_device_report(path: Path) -> DeviceReport:
    """The report in a file.

    Raises:
        EdgeDeitError: no such file, not JSON, another schema or kind, entries that are missing, unknown,
            of a wrong type or out of range, a null figure without a reason, or the same artefact and
            runner twice.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except FileNotFoundError:
        raise EdgeDeitError(f"device report {path} does not exist") from None
    except OSError as error:
        raise EdgeDeitError(f"device report {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise EdgeDeitError(
            f"device report {path} is not JSON ({error}); share it from the app again"
        ) from error
    try:
        return _report(_Entry("the report", data))
    except _FaultError as error:
        raise EdgeDeitError(
            f"device report {path}: {error}; share it from the app again"
        ) from error


class _FaultError(Exception):
    """What is wrong, and where in the report."""


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


@dataclass(frozen=True)
class _Entry:
    """A value and its place in the report, for messages."""

    where: str
    value: Any

    def fail(self, expected: str) -> NoReturn:
        shown = json.dumps(self.value)
        shown = shown if len(shown) <= 40 else shown[:37] + "..."
        raise _FaultError(f"{self.where} is {shown}; it must be {expected}")

    def fields(self, *names: str) -> dict[str, _Entry]:
        """The entries of an object that has exactly these names."""
        if not isinstance(self.value, dict):
            self.fail("an object")
        if wrong := sorted(set(names) ^ self.value.keys()):
            raise _FaultError(f"{self.where} lacks or adds {', '.join(wrong)}")
        return {name: _Entry(f"{self.where}'s {name}", self.value[name]) for name in names}

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value.strip():
            self.fail("a text that is not empty")
        return self.value

    def one_of(self, *texts: str) -> str:
        if self.value not in texts:
            self.fail(" or ".join(texts))
        return self.text()

    def count(self, least: int = 1) -> int:
        if type(self.value) is not int or self.value < least:
            self.fail(f"a whole number, {least} up")
        return self.value

    def amount(self) -> float:
        """A finite number above zero."""
        if type(self.value) not in (int, float) or not 0 < self.value < math.inf:
            self.fail("a finite number above 0")
        return float(self.value)


def _report(entry: _Entry) -> DeviceReport:
    found = entry.value.get("schema") if isinstance(entry.value, dict) else None
    if type(found) is not int or found != _SCHEMA:
        raise _FaultError(f"schema is {found!r}, this version reads {_SCHEMA}")
    part = entry.fields("schema", "kind", "created", "app", "device", "artefacts")
    part["kind"].one_of(_KIND)
    app = part["app"].fields("name", "version")
    name = app["name"].one_of(*_SYSTEMS)
    items = part["artefacts"].value
    if not isinstance(items, list) or not items:
        part["artefacts"].fail("a list that is not empty")
    artefacts = tuple(_artefact(_Entry(f"artefact {i}", item)) for i, item in enumerate(items, 1))
    measured = [(one.path, one.runner) for one in artefacts]
    if twice := [pair for pair in measured if measured.count(pair) > 1]:
        raise _FaultError(f"{twice[0][0]} was measured twice with {twice[0][1]!r}")
    return DeviceReport(
        created=_created(part["created"]),
        app=App(name, app["version"].text()),
        device=_device(part["device"], _SYSTEMS[name]),
        artefacts=artefacts,
    )


def _created(entry: _Entry) -> datetime:
    try:
        moment = datetime.fromisoformat(entry.text())
    except ValueError:
        entry.fail("a time such as 2026-01-31T12:00:00Z")
    if moment.utcoffset() != timedelta(0):
        entry.fail("a time in UTC, such as 2026-01-31T12:00:00Z")
    return moment


def _device(entry: _Entry, system: str) -> Device:
    part = entry.fields("manufacturer", "model", "os", "os_version", "soc", "cores")
    return Device(
        manufacturer=part["manufacturer"].text(),
        model=part["model"].text(),
        os=part["os"].one_of(system),
        os_version=part["os_version"].text(),
        soc=None if part["soc"].value is None else part["soc"].text(),
        cores=part["cores"].count(),
    )


def _artefact(entry: _Entry) -> DeviceArtefact:
    part = entry.fields(*DeviceArtefact.__dataclass_fields__)
    path, sha256 = part["path"].text(), part["sha256"].text()
    if "/" in path or "\\" in path:
        part["path"].fail("a file name without folders")
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        part["sha256"].fail("64 hexadecimal digits, lower case")
    if not isinstance(part["notes"].value, dict):
        part["notes"].fail("an object")
    notes = {
        name: _Entry(f"{entry.where}'s note on {name}", text).text()
        for name, text in part["notes"].value.items()
    }
    figures: dict[str, float | None] = {}
    for name in _FIGURES:
        if part[name].value is None and name not in notes:
            raise _FaultError(f"{part[name].where} is null and notes have no reason for it")
        figures[name] = None if part[name].value is None else part[name].amount()
    p50, p90 = figures["latency_ms_p50"], figures["latency_ms_p90"]
    if p50 is not None and p90 is not None and p90 < p50:
        part["latency_ms_p90"].fail(f"no less than latency_ms_p50, {p50}")
    return DeviceArtefact(
        path=path,
        sha256=sha256,
        target=part["target"].text(),
        precision=part["precision"].text(),
        model=part["model"].text(),
        runner=part["runner"].text(),
        threads=None if part["threads"].value is None else part["threads"].count(),
        runs=part["runs"].count(least=0 if p50 is None and p90 is None else 1),
        notes=notes,
        **figures,
    )
