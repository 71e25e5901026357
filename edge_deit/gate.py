"""Judge a report by limits: `python -m edge_deit.gate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from edge_deit.common.console import new_app, out, run
from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.common.files import write_text

if TYPE_CHECKING:
    from edge_deit.report.report import Report
    from edge_deit.report.verdict import Verdict

__all__ = ["gate"]

app = new_app(__doc__)


def gate(
    report: Annotated[Path, typer.Argument(help="report.json of edge_deit.validate.")],
    thresholds: Annotated[Path, typer.Option(help="The limits.")] = Path("thresholds.toml"),
    baseline: Annotated[
        Path | None, typer.Option(help="report.json of the last release, for [baseline].")
    ] = None,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", help="Write the verdict as JUnit XML.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Write report.html with the verdict on top.")
    ] = None,
) -> None:
    """Judge a report: exit 0 when all limits hold, 1 when one fails, 2 when it could not judge.

    Example: python -m edge_deit.gate report/report.json --thresholds thresholds.toml

    In GitHub Actions the verdict goes to the job's summary as well.
    """
    from edge_deit.gating.run import gate_report
    from edge_deit.report.html import photo_root, write_html
    from edge_deit.report.junit import junit
    from edge_deit.report.report import read_report
    from edge_deit.report.text import markdown, write_step_summary
    from edge_deit.report.verdict import not_passed

    try:
        verdict = gate_report(report, thresholds, baseline)
        found = read_report(report)
        _print(found, verdict)
        write_step_summary(markdown(found, verdict))
        if junit_file is not None:
            write_text(junit_file, junit(found, verdict))
        if html_file is not None:
            with photo_root(found) as root:
                write_html(found, html_file, data_root=root, verdict=verdict)
    except EdgeDeitError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {first_line(error)}"
        raise EdgeDeitError(f"the gate could not judge {report}; {said}") from error
    if verdict.exit_code == 2:
        first = not_passed(verdict, "error")[0]
        raise EdgeDeitError(f"the gate could not judge; {first.removeprefix('error: ')}")
    raise typer.Exit(verdict.exit_code)


def _print(report: Report, verdict: Verdict) -> None:
    """The table of all checks, then a line for each that did not pass."""
    from edge_deit.report.device_rows import phone_lines
    from edge_deit.report.text import headline
    from edge_deit.report.verdict import not_passed

    table = Table(box=box.SIMPLE, padding=0)
    for column in ("artefact", "limit"):
        table.add_column(column, overflow="fold")
    for column in ("measured", "bound"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    styles = {"passed": "green", "failed": "red", "error": "yellow"}
    for check in verdict.checks:
        value = "-" if check.value is None else _cell(check.value)
        table.add_row(
            *(check.artefact, check.limit, value, _cell(check.bound)),
            Text(check.status, styles[check.status]),
        )
    if verdict.checks:
        out().print(table)
    for line in (*phone_lines(report), *not_passed(verdict), *verdict.notes):
        out().print(line)
    out().print(headline(report, verdict))


def _cell(value: float) -> str:
    """A figure of at most four digits after the first.

    >>> _cell(6556016.0), _cell(22.51234), _cell(0.98)
    ('6,556,016', '22.51', '0.98')
    """
    return f"{value:,.0f}" if abs(value) >= 10000 else f"{value:.4g}"


app.command(name="gate")(gate)

if __name__ == "__main__":
    run(app, "python -m edge_deit.gate")
