"""Reads what an app measured on a phone or in a browser: the report that its benchmark shares.

The file comes from another machine, so nothing in it is taken on trust: every entry is there, of its
type and in its range, or the file is refused with the place of the first fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from annotated_types import Gt, MinLen

from edge_deit.common.fields import STRICT, About, Count, FileName, Positive, Sha256, Text
from edge_deit.common.records import JsonFile
from edge_deit.report.device_records import (
    PROTOCOL,
    App,
    Conditions,
    Device,
    ModelCheck,
    Protocol,
    Residency,
)
from edge_deit.report.figure import Figure, Limit, declared
from edge_deit.report.units import BYTES, COSINE, MILLISECONDS, SHARE

__all__ = [
    "DEVICE_FILE",
    "DeviceArtefact",
    "DeviceReport",
    "read_device_report",
]

_WEB: Final = "edge-deit-web"
_IOS: Final = "edge-deit-ios"
_SYSTEMS: Final = {"edge-deit-android": "Android", _IOS: "iOS", _WEB: "Web"}
"""Name of the app -> the system it runs on."""


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
    threads: Annotated[Positive | None, About("On the CPU; null where the runtime decides.")]
    runs: Annotated[Count, About("Inferences timed.")]
    latency_ms_p50: Annotated[
        _Measured | None,
        Figure(
            "latency p50",
            MILLISECONDS,
            "Median of one inference.",
            better="lower",
            about="speed",
            limits=(
                Limit(
                    "max_device_latency_ms",
                    "median of one inference with the fastest runner, as a table of devices: "
                    '`{ "Pixel 9" = 30 }`',
                ),
            ),
        ),
    ]
    latency_ms_p90: Annotated[
        _Measured | None, Figure("latency p90", MILLISECONDS, "90th percentile of one inference.")
    ]
    load_ms: Annotated[
        _Measured | None,
        Figure("load", MILLISECONDS, "From the file to a runner that is ready, the first time."),
    ]
    preprocess_ms_p50: Annotated[
        _Measured | None,
        Figure("preprocessing p50", MILLISECONDS, "Median of photo to tensor."),
    ]
    peak_rss_bytes: Annotated[
        _Measured | None, Figure("peak memory", BYTES, "Most memory that the app held.")
    ]
    load_warm_ms: Annotated[
        _Measured | None, Figure("load again", MILLISECONDS, "The same after it was closed.")
    ] = None
    first_run_ms: Annotated[
        _Measured | None, Figure("first run", MILLISECONDS, "The first inference.")
    ] = None
    check: Annotated[
        ModelCheck | None, About("Its answers beside Python's; null where none were compared.")
    ] = None
    residency: Annotated[
        Residency | None,
        About("Core ML's plan; null or absent where the runtime has none or does not tell."),
    ] = None
    delegate: Annotated[
        Text | None,
        About(
            "What the runtime gave the work to, such as XNNPACK or GPU; absent where it does not tell."
        ),
    ] = None
    notes: Annotated[Mapping[str, Text], About("Name of a figure -> why it is null.")]

    @property
    def agreement(
        self,
    ) -> Annotated[
        float | None,
        Figure(
            "same answer as in Python",
            SHARE,
            "Share of the golden photos with the same first answer.",
            better="higher",
            about="device",
            reasons=("check",),
            limits=(
                Limit(
                    "min_device_agreement",
                    "golden photos with Python's first answer, the lowest of all runners, as a table of "
                    'devices: `{ "Pixel 9" = 1.0 }`',
                ),
            ),
        ),
    ]:
        """Share of the golden photos on which the device gives Python's first answer."""
        return None if self.check is None else self.check.same_top / self.check.images

    @property
    def cosine_worst(
        self,
    ) -> Annotated[
        float | None,
        Figure(
            "cosine to Python",
            COSINE,
            "Lowest cosine of the logits to Python's over the golden photos.",
            reasons=("check",),
        ),
    ]:
        """Lowest cosine of the logits to Python's."""
        return None if self.check is None else self.check.cosine


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
    protocol: Annotated[Protocol, About("How it measured.")]
    conditions: Annotated[Conditions, About("The device's state meanwhile.")]
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
    if report.protocol != PROTOCOL:
        wanted = ", ".join(f"{name} {value}" for name, value in vars(PROTOCOL).items())
        raise ValueError(f"protocol is not that of schema {_SCHEMA} ({wanted})")
    seen = set()
    for number, one in enumerate(report.artefacts):
        if (one.path, one.runner) in seen:
            raise ValueError(f"{one.path} was measured twice with {one.runner!r}")
        seen.add((one.path, one.runner))
        _check_figures(one, f"artefacts[{number}]")
        if one.residency is None:
            continue
        if report.app.name != _IOS:
            raise ValueError(f"artefacts[{number}].residency is only known to {_IOS}; leave it out")
        if fault := one.residency.fault():
            raise ValueError(f"artefacts[{number}].residency {fault}")


def _check_figures(one: DeviceArtefact, place: str) -> None:
    for name in _FIGURES:
        if getattr(one, name) is None and name not in one.notes:
            raise ValueError(f"{place}.{name} is null and notes have no reason for it")
    p50, p90 = one.latency_ms_p50, one.latency_ms_p90
    if p50 is not None and p90 is not None and p90 < p50:
        raise ValueError(f"{place}.latency_ms_p90 is {p90:g}, less than latency_ms_p50, {p50:g}")
    if one.runs < 1 and not p50 is p90 is None:
        raise ValueError(f"{place}.runs is 0 although there is a latency")
    if one.runs not in (0, PROTOCOL.runs):
        raise ValueError(f"{place}.runs is {one.runs}; the protocol has {PROTOCOL.runs}")
    if one.check is not None and one.check.same_top > one.check.images:
        raise ValueError(f"{place}.check.same_top is more than its images")


_SCHEMA: Final = 2
_FIGURES: Final = (
    *(one.name for one in fields(DeviceArtefact) if one.name in declared(DeviceArtefact)),
    "check",
)
"""What may be null, with a reason."""

DEVICE_FILE: Final = JsonFile(
    DeviceReport,
    "device report",
    "build the app of this version, measure again and share that report",
    schema=_SCHEMA,
    check=_check,
)


def read_device_report(path: Path) -> DeviceReport:
    """The report in a file.

    Raises:
        EdgeDeitError: no such file, not JSON, another schema or kind, entries that are missing, unknown,
            of a wrong type or out of range, a null figure without a reason, or the same artefact and
            runner twice.
    """
    return DEVICE_FILE.read(path)
