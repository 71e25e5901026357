"""What phones and browsers measured: entries of device reports with their device, beside the fp32 file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Gt

from edge_deit.common.fields import About
from edge_deit.report.device_records import Conditions, Device
from edge_deit.report.device_report import DeviceArtefact, DeviceReport
from edge_deit.report.figure import Figure, Limit
from edge_deit.report.units import RATIO

__all__ = ["PhoneResult", "phone_results"]


@dataclass(frozen=True, kw_only=True)
class PhoneResult(DeviceArtefact):
    """An artefact's entry of a device report, and the device it comes from."""

    device: Annotated[Device, About("The phone, or a browser's device.")]
    created: Annotated[str | None, About("When it was measured: UTC, ISO 8601.")] = None
    build: Annotated[str | None, About("How the app was built: release or debug.")] = None
    latency_ratio: Annotated[
        Annotated[float, Gt(0)] | None,
        Figure(
            "latency to fp32",
            RATIO,
            "Median of one inference by that of the fp32 file with the same runner on the device.",
            better="lower",
            about="speed",
            limits=(
                Limit(
                    "max_device_latency_ratio",
                    "median of one inference by that of the target's fp32 file with the same runner, the "
                    'lowest of all runners, as a table of devices: `{ "Pixel 9" = 0.6 }`',
                ),
            ),
        ),
    ] = None
    conditions: Annotated[Conditions | None, About("The device's state meanwhile.")] = None

    def remarks(self) -> tuple[str, ...]:
        """What makes the figures worth less, one text each."""
        debug = ("a debug build, whose times mean nothing",) if self.build == "debug" else ()
        return debug + (self.conditions.remarks() if self.conditions else ())


def phone_results(report: DeviceReport) -> tuple[PhoneResult, ...]:
    """The report's entries, each with the device that it comes from."""
    return tuple(
        PhoneResult(
            **vars(entry) | _beside_fp32(entry, report.artefacts),
            device=report.device,
            created=report.created.isoformat(),
            build=report.app.build,
            conditions=report.conditions,
        )
        for entry in report.artefacts
    )


def _beside_fp32(one: DeviceArtefact, all_: tuple[DeviceArtefact, ...]) -> dict[str, Any]:
    """Its latency ratio, or notes that say why there is none."""
    wanted = (one.target, one.model, one.runner, "fp32")
    floats = [
        other
        for other in all_
        if (other.target, other.model, other.runner, other.precision) == wanted
    ]
    known = [other.latency_ms_p50 for other in floats if other.latency_ms_p50 is not None]
    if one.latency_ms_p50 is None or not known:
        reason = (
            f"the device report has no latency of the fp32 file for {one.target} with this runner"
        )
        if one.latency_ms_p50 is None:
            reason = one.notes["latency_ms_p50"]
        return {"notes": {**one.notes, "latency_ratio": reason}}
    return {"latency_ratio": one.latency_ms_p50 / min(known)}
