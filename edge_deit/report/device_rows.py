"""A report's figures from other machines: rows of what phones measured and emulated cores counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from edge_deit.report.device_records import Device, Residency
from edge_deit.report.emulated import EmulatedCore
from edge_deit.report.figure import DASH, Figure, declared
from edge_deit.report.figures import Cell, display_names, reason
from edge_deit.report.phone_result import PhoneResult
from edge_deit.report.report import Report
from edge_deit.report.units import SHARE

__all__ = [
    "device_name",
    "emulated_rows",
    "phone_cells",
    "phone_labels",
    "phone_lines",
    "phone_rows",
    "phone_sentence",
    "plan_cell",
    "ran_by",
]

_ON_PHONES: Final[Mapping[str, Figure]] = declared(PhoneResult)
_COUNTED: Final[Mapping[str, Figure]] = declared(EmulatedCore)

_PLAN: Final = "Core ML's plan"
_RESIDENCY: Final = "residency"
_PROCESSORS: Final = {"neural_engine": "Neural Engine", "gpu": "GPU", "cpu": "CPU"}
"""Entry of a plan -> its name for readers."""


def phone_labels() -> list[str]:
    """Headings of the table of what phones measured."""
    return [figure.label for figure in _ON_PHONES.values()]


def phone_rows(report: Report, names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of what phones measured."""
    return [
        {
            "name": name,
            "phone": device_name(found.device),
            "remarks": found.remarks(),
            "runner": ran_by(found),
            "runs": found.runs,
            "threads": found.threads,
            "figures": phone_cells(found),
            "plan": _plan_sentence(found),
        }
        for name, result in zip(names, report.artefacts, strict=True)
        for found in result.device
    ]


def device_name(device: Device) -> str:
    """Maker, model, system, chip and cores, as far as the device tells them."""
    parts = (
        " ".join(filter(None, (device.manufacturer, device.model))),
        f"{device.os} {device.os_version}",
        device.soc or "",
        f"{device.cores} cores",
    )
    return ", ".join(part.strip() for part in parts if part.strip())


def ran_by(found: PhoneResult) -> str:
    """The runner, and what it gave the work to where its name does not say."""
    delegate = found.delegate
    if delegate is None or delegate.casefold() in found.runner.casefold():
        return found.runner
    return f"{found.runner} ({delegate})"


def phone_cells(found: PhoneResult) -> list[Cell]:
    """The figures of one entry, in the order of `phone_labels`."""
    return [_measured(found, key, figure) for key, figure in _ON_PHONES.items()]


def _measured(found: PhoneResult, key: str, figure: Figure) -> Cell:
    value = getattr(found, key)
    names = (key, *figure.reasons)
    told = next((name for name in names if name in found.notes), key)
    reasons = (reason(found.notes, told),) if value is None else ()
    return Cell(figure.label, figure.text(value), reasons=reasons)


def plan_cell(found: PhoneResult) -> Cell | None:
    """Where the runtime planned to run operators, or why that is not known; None where it has no plan."""
    if found.residency is not None:
        return Cell(_PLAN, _planned(found.residency))
    if _RESIDENCY in found.notes:
        return Cell(_PLAN, DASH, reasons=(found.notes[_RESIDENCY],))
    return None


def _planned(plan: Residency) -> str:
    shares = {} if plan.cost is None else vars(plan.cost)
    parts: list[str] = []
    for key, name in _PROCESSORS.items():
        if count := getattr(plan, key):
            of = f" of {plan.total} operators" if not parts else ""
            cost = f" ({SHARE.text(shares[key])} of the cost)" if shares else ""
            parts.append(f"{name} {count}{of}{cost}")
    return ", ".join(parts)


def _plan_sentence(found: PhoneResult) -> str | None:
    cell = plan_cell(found)
    return None if cell is None else f"{cell.label}: {', '.join(cell.reasons) or cell.text}"


def phone_lines(report: Report) -> list[str]:
    """A sentence on each measurement of a phone or browser."""
    names = display_names(report)
    return [
        f"{name} on {phone_sentence(found)}"
        for name, result in zip(names, report.artefacts, strict=True)
        for found in result.device
    ]


def phone_sentence(found: PhoneResult) -> str:
    """The device, what ran, its median and 90th percentile, whether it agreed, the plan, and remarks."""
    p50, p90 = (
        _ON_PHONES[f"latency_ms_{one}"].text(getattr(found, f"latency_ms_{one}")) for one in _ENDS
    )
    times = f"p50 {p50}, p90 {p90}" if found.runs else reason(found.notes, "latency_ms_p50")
    parts = (
        f"{device_name(found.device)}: {ran_by(found)}, {times}",
        _agreed(found),
        _plan_sentence(found),
        *found.remarks(),
    )
    return "; ".join(filter(None, parts))


def _agreed(found: PhoneResult) -> str:
    check = found.check
    if check is None:
        return f"its answers were not compared with Python's ({reason(found.notes, 'check')})"
    who = "the browser" if found.device.os == "Web" else "the phone"
    said = f"{check.same_top} of {check.images} answers, lowest cosine {check.cosine:.5f}"
    with_ = "" if check.reference == found.path else f" with those of {check.reference}"
    return f"{who} {'agreed' if check.same_top == check.images else 'differs'}: {said}{with_}"


_ENDS: Final = ("p50", "p90")


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
