"""Show what phones and browsers measured: `python -m edge_deit.device`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_deit.common.console import new_app, out, run

if TYPE_CHECKING:
    from edge_deit.report.device_report import DeviceReport

__all__ = ["device"]

app = new_app(__doc__)


def device(
    reports: Annotated[
        list[Path], typer.Argument(help="What the benchmark of a phone app or the web page shared.")
    ],
) -> None:
    """Show device reports alone, without photos and without the files that were measured.

    Example: python -m edge_deit.device edge-deit-device-report.json

    To set the figures beside the float model's, use validate --device-report.
    """
    from edge_deit.report.device_report import read_device_report

    for found in [read_device_report(path) for path in reports]:
        _show(found)


# Output


def _show(report: DeviceReport) -> None:
    from edge_deit.report.device_rows import device_name, phone_cells, plan_cell, ran_by
    from edge_deit.report.figures import Footnotes
    from edge_deit.report.phone_result import phone_results

    app_name = f"{report.app.name} {report.app.version}, {report.app.build}"
    out().print(f"{device_name(report.device)}; {app_name}; {report.created:%Y-%m-%d %H:%M} UTC")
    notes, rows = Footnotes(), phone_results(report)
    for one in rows:
        out().print("")
        out().print(f"{one.path}, {ran_by(one)}, {one.runs} runs")
        for cell in filter(None, (*phone_cells(one), plan_cell(one))):
            mark = f" [{notes.numbers(cell.reasons)}]" if cell.reasons else ""
            out().print(f"  {cell.label:<24} {cell.text}{mark}")
    out().print("")
    for number, reason in enumerate(notes.reasons, 1):
        out().print(f"[{number}] {reason}")
    for remark in rows[0].remarks():
        out().print(f"- {remark}")


app.command()(device)

if __name__ == "__main__":
    run(app, "python -m edge_deit.device")
