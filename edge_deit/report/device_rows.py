"""A report's figures from other machines: rows of what phones measured and emulated cores counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from edge_deit.report.figures import DASH, Cell, number, reason
from edge_deit.report.report import Report

__all__ = ["emulated_rows", "phone_rows"]

_ON_PHONES: Final = {
    "latency_ms_p50": ("latency p50", "ms"),
    "latency_ms_p90": ("latency p90", "ms"),
    "load_ms": ("load", "ms"),
    "preprocess_ms_p50": ("preprocessing p50", "ms"),
    "peak_rss_bytes": ("peak memory", "MB"),
}
"""Figure of a device report -> its name for readers, and its unit."""


def phone_rows(report: Report, names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of what phones measured."""
    rows = []
    for name, result in zip(names, report.artefacts, strict=True):
        for found in result.device:
            notes = found.get("notes") or {}
            figures = [
                _measured(found.get(field), label, field, unit, notes)
                for field, (label, unit) in _ON_PHONES.items()
            ]
            row = {key: found.get(key) for key in ("runner", "runs", "threads")}
            row |= {"name": name, "phone": _phone(found.get("device") or {}), "figures": figures}
            rows.append(row)
    return rows


def _phone(device: Mapping[str, Any]) -> str:
    said = {name: "" if value is None else str(value) for name, value in device.items()}
    maker, model, system = (said.get(name, "") for name in ("manufacturer", "model", "os"))
    parts = (f"{maker} {model}", f"{system} {said.get('os_version', '')}", said.get("soc", ""))
    cores = f"{said['cores']} cores" if said.get("cores") else ""
    return ", ".join(part.strip() for part in (*parts, cores) if part.strip())


def _measured(
    value: float | None, label: str, field: str, unit: str, notes: Mapping[str, str]
) -> Cell:
    if value is None:
        return Cell(label, DASH, reasons=(reason(notes, field),))
    return Cell(label, f"{number(value / 1e6 if unit == 'MB' else value)} {unit}")


_COUNTED: Final[Mapping[str, tuple[str, Callable[[Any], str]]]] = {
    "instructions": ("instructions an inference", lambda count: f"{number(count / 1e6)} M"),
    "ratio_to_fp32": ("share of fp32", number),
    "repeat_spread": ("spread of repeats", lambda share: f"{100 * share:.2f} %"),
    "same_argmax_as_x86": ("same answer as x86", lambda share: f"{100 * share:.1f} %"),
    "max_abs_to_x86": ("largest logit difference to x86", "{:.2g}".format),
    "snr_db_to_float": ("SNR to the float model", "{:.1f} dB".format),
    "images": ("photos", str),
}
"""Entry of a core in `arm64` -> its name for readers, and how its value is written."""


def emulated_rows(report: Report, names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of what emulated Arm cores counted."""
    rows = []
    for name, result in zip(names, report.artefacts, strict=True):
        counted = result.arm64 or {}
        for cpu, found in counted.get("cpus", {}).items():
            shown = []
            for key, (label, written) in _COUNTED.items():
                value = found.get(key)
                shown.append(Cell(label, DASH if value is None else written(value)))
            total = max(1, found.get("instructions") or 1)
            kinds = {
                kind: f"{100 * n / total:.0f} %" for kind, n in (found.get("classes") or {}).items()
            }
            rows.append({"name": name, "cpu": cpu, "figures": shown, "kinds": kinds})
            rows[-1] |= {key: counted.get(key) or "" for key in ("runtime", "note")}
    return rows
