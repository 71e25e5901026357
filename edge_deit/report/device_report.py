"""Reads what an app measured on a phone or in a browser: the report that its benchmark shares.

The file comes from another machine, so nothing in it is taken on trust: every entry is there, of its
type and in its range, or the file is refused with the place of the first fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from annotated_types import Gt, MinLen

from edge_deit.common.fields import (
    STRICT,
    About,
    Count,
    FileName,
    Positive,
    Sha256,
    Text,
)
from edge_deit.common.records import JsonFile
from edge_deit.report.figure import Figure, declared
from edge_deit.report.units import BYTES, MILLISECONDS

__all__ = [
    "App",
    "Device",
    "DeviceArtefact",
    "DeviceReport",
    "PhoneResult",
    "read_device_report",
]

_WEB: Final = "edge-deit-web"
_SYSTEMS: Final = {"edge-deit-android": "Android", "edge-deit-ios": "iOS", _WEB: "Web"}
"""Name of the app -> the system it runs on."""


@dataclass(frozen=True)
class App:
    """The app that measured."""

    name: Annotated[
        Literal["edge-deit-android", "edge-deit-ios", "edge-deit-web"], About("Its name.")
    ]
    version: Annotated[Text, About("Its version.")]


@dataclass(frozen=True)
class Device:
    """The phone, or what a browser tells of the device that it runs on."""

    manufacturer: Annotated[
        Text | None, About("Who made it; null in a browser, which does not tell.")
    ]
    model: Annotated[Text | None, About("Its model; null where a browser does not tell.")]
    os: Annotated[
        Literal["Android", "iOS", "Web"], About("Its operating system; Web is any browser.")
    ]
    os_version: Annotated[
        Text, About("The system's version; of a browser its own, and its system's.")
    ]
    soc: Annotated[Text | None, About("Its chip; null where the system does not tell.")]
    cores: Annotated[Positive, About("Its cores.")]


_Measured = Annotated[float, Gt(0)]


@dataclass(frozen=True, kw_only=True)
class DeviceArtefact:
    """What was measured of one artefact with one runner.

    A figure is None where it could not be had; then `notes` has the reason under the figure's name.
    """

    path: Annotated[FileName, About("File name of the artefact.")]
    sha256: Annotated[Sha256, About("Of the artefact, from its manifest.")]
    target: Annotated[Text, About("The format's name.")]
    precision: Annotated[Text, About("Precision of weights and activations.")]
    model: Annotated[Text, About("Name of the variant.")]
    runner: Annotated[Text, About("What ran it there.")]
    threads: Annotated[Positive | None, About("Null where the runtime decides.")]
    runs: Annotated[Count, About("Inferences timed.")]
    latency_ms_p50: Annotated[
        _Measured | None, Figure("latency p50", MILLISECONDS, "Median of one inference.")
    ]
    latency_ms_p90: Annotated[
        _Measured | None, Figure("latency p90", MILLISECONDS, "90th percentile of one inference.")
    ]
    load_ms: Annotated[
        _Measured | None, Figure("load", MILLISECONDS, "From the file to a runner that is ready.")
    ]
    preprocess_ms_p50: Annotated[
        _Measured | None,
        Figure("preprocessing p50", MILLISECONDS, "Median of photo to tensor."),
    ]
    peak_rss_bytes: Annotated[
        _Measured | None, Figure("peak memory", BYTES, "Most memory that the app held.")
    ]
    notes: Annotated[Mapping[str, Text], About("Name of a figure -> why it is null.")]


@dataclass(frozen=True, kw_only=True)
class PhoneResult(DeviceArtefact):
    """An artefact's entry of a device report, and the device it comes from."""

    device: Annotated[Device, About("The phone, or a browser's device.")]
    created: Annotated[str | None, About("When it was measured: UTC, ISO 8601.")] = None


@dataclass(frozen=True)
class DeviceReport:
    """One session on one phone or in one browser."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = STRICT

    schema: Annotated[int, About("Version of this layout.")]
    kind: Annotated[Literal["edge-deit-device-report"], About("What the file is.")]
    created: Annotated[
        datetime,
        About(
            "When it was measured: UTC, ISO 8601.", "a time in UTC, such as 2026-01-31T12:00:00Z"
        ),
    ]
    app: Annotated[App, About("The app that measured.")]
    device: Annotated[Device, About("The phone, or a browser's device.")]
    artefacts: Annotated[
        tuple[DeviceArtefact, ...], MinLen(1), About("One entry for each artefact and runner.")
    ]


def _check(report: DeviceReport) -> None:
    """What single entries do not show."""
    if report.created.utcoffset() != timedelta(0):
        raise ValueError("created must be a time in UTC, such as 2026-01-31T12:00:00Z")
    if report.device.os != (system := _SYSTEMS[report.app.name]):
        raise ValueError(
            f"device.os is {report.device.os}; it must be {system} for {report.app.name}"
        )
    unnamed = None in (report.device.manufacturer, report.device.model)
    if unnamed and report.app.name != _WEB:
        raise ValueError(
            f"device.manufacturer or device.model is null; it must be a text for {report.app.name}"
        )
    seen = set()
    for number, one in enumerate(report.artefacts):
        if (one.path, one.runner) in seen:
            raise ValueError(f"{one.path} was measured twice with {one.runner!r}")
        seen.add((one.path, one.runner))
        _check_figures(one, f"artefacts[{number}]")


def _check_figures(one: DeviceArtefact, place: str) -> None:
    for name in _FIGURES:
        if getattr(one, name) is None and name not in one.notes:
            raise ValueError(f"{place}.{name} is null and notes have no reason for it")
    p50, p90 = one.latency_ms_p50, one.latency_ms_p90
    if p50 is not None and p90 is not None and p90 < p50:
        raise ValueError(f"{place}.latency_ms_p90 is {p90:g}, less than latency_ms_p50, {p50:g}")
    if one.runs < 1 and not p50 is p90 is None:
        raise ValueError(f"{place}.runs is 0 although there is a latency")


_FIGURES: Final = tuple(declared(DeviceArtefact))
"""What may be null, with a reason."""

_FILE: Final = JsonFile(
    DeviceReport, "device report", "share it from the app again", schema=1, check=_check
)


def read_device_report(path: Path) -> DeviceReport:
    """The report in a file.

    Raises:
        EdgeDeitError: no such file, not JSON, another schema or kind, entries that are missing, unknown,
            of a wrong type or out of range, a null figure without a reason, or the same artefact and
            runner twice.
    """
    return _FILE.read(path)
