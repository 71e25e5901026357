"""A report's figures from other machines: rows of what phones measured and emulated cores counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from edge_deit.report.device_report import Device, PhoneResult
from edge_deit.report.emulated import EmulatedCore
from edge_deit.report.figure import Figure, declared
from edge_deit.report.figures import Cell, reason
from edge_deit.report.report import Report

__all__ = ["emulated_rows", "phone_labels", "phone_rows"]

_ON_PHONES: Final[Mapping[str, Figure]] = declared(PhoneResult)
_COUNTED: Final[Mapping[str, Figure]] = declared(EmulatedCore)


def phone_labels() -> list[str]:
    """Headings of the table of what phones measured."""
    return [figure.label for figure in _ON_PHONES.values()]


def phone_rows(report: Report, names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of what phones measured."""
    return [
        {
            "name": name,
            "phone": _phone(found.device),
            "runner": found.runner,
            "runs": found.runs,
            "threads": found.threads,
            "figures": [_measured(found, key, figure) for key, figure in _ON_PHONES.items()],
        }
        for name, result in zip(names, report.artefacts, strict=True)
        for found in result.device
    ]


def _phone(device: Device) -> str:
    parts = (
        " ".join(filter(None, (device.manufacturer, device.model))),
        f"{device.os} {device.os_version}",
        device.soc or "",
        f"{device.cores} cores",
    )
    return ", ".join(part.strip() for part in parts if part.strip())


def _measured(found: PhoneResult, key: str, figure: Figure) -> Cell:
    value = getattr(found, key)
    reasons = (reason(found.notes, key),) if value is None else ()
    return Cell(figure.label, figure.text(value), reasons=reasons)


def emulated_rows(report: Report, names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of what emulated Arm cores counted."""
    return [
        {
            "name": name,
            "cpu": cpu,
            "figures": [
                Cell(figure.label, figure.text(getattr(found, key)))
                for key, figure in _COUNTED.items()
            ],
            "kinds": _kinds(found),
            "runtime": result.arm64.runtime,
            "note": result.arm64.note,
        }
        for name, result in zip(names, report.artefacts, strict=True)
        if result.arm64 is not None
        for cpu, found in result.arm64.cpus.items()
    ]


def _kinds(found: EmulatedCore) -> dict[str, str]:
    total = found.instructions or 1
    return {kind: f"{100 * count / total:.0f} %" for kind, count in found.classes.items()}
