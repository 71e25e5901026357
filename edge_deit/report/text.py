"""A report in words: the headline, and Markdown for a pull request."""

from __future__ import annotations

import html
import os
import re
from pathlib import Path

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.text import visible
from edge_deit.report.device_rows import phone_lines
from edge_deit.report.figures import Cell, Footnotes, arm_note, by_text, cells, display_names
from edge_deit.report.report import ArtefactResult, Report
from edge_deit.report.verdict import Verdict

__all__ = ["headline", "markdown", "provenance", "write_step_summary"]


def headline(report: Report, verdict: Verdict | None) -> str:
    """The report in a few words: the gate's verdict, or what was compared where no gate judged."""
    if verdict is None:
        count = len(report.artefacts)
        return f"{count} artefact{'s' if count != 1 else ''} compared with the float model"
    total = len(verdict.checks)
    failed = sum(check.status == "failed" for check in verdict.checks)
    if verdict.exit_code == 0:
        return f"Passed: {'the one limit holds' if total == 1 else f'all {total} limits hold'}"
    broken = f"{failed} of {total} limits {'does' if failed == 1 else 'do'} not hold"
    if verdict.exit_code == 1:
        return f"Failed: {broken}"
    errors = sum(check.status == "error" for check in verdict.checks) + len(verdict.problems)
    why = f"{errors} problem{'s' if errors != 1 else ''}" if errors else "no limit was checked"
    return f"Could not judge: {why}" + (f", and {broken}" if failed else "")


def markdown(report: Report, verdict: Verdict | None = None) -> str:
    """GitHub flavoured Markdown for a pull request: headline, table, and details to unfold."""
    notes = Footnotes()
    rows = []
    for name, result in zip(display_names(report), report.artefacts, strict=True):
        row = [f"<code>{_plain(name)}</code><br>{_plain(result.runner)}"]
        row += [_table_cell(cell, notes) for cell in cells(result)]
        rows.append(f"| {' | '.join(row)} |")
    labels = [cell.label for cell in cells(report.artefacts[0])] if report.artefacts else []
    lines = ["### Edge DeiT", "", f"**{headline(report, verdict)}**", ""]
    if verdict is not None:
        lines += _verdict_lines(verdict)
    if rows:
        lines += [f"| {' | '.join(['artefact', *labels])} |", "|---" + "|--:" * len(labels) + "|"]
        lines += [*rows, ""]
    lines += [f"<sup>{i}</sup> {_plain(text)}<br>" for i, text in enumerate(notes.reasons, 1)]
    if note := arm_note(report):
        lines += ["", note]
    lines += ["", f"{report.data.images} photos, {report.data.labelled} of them labelled.", ""]
    lines += [f"- {_plain(line)}" for line in provenance(report)] + [""]
    if phones := phone_lines(report):
        lines += [
            "Measured on phones and in browsers:",
            "",
            *(f"- {_plain(one)}" for one in phones),
            "",
        ]
    for name, result in zip(display_names(report), report.artefacts, strict=True):
        lines += _details(name, result)
    return "\n".join(lines).rstrip() + "\n"


def provenance(report: Report) -> list[str]:
    """How the labels were matched, what was assumed and which files were left out, one line each."""
    matched = [f"labels matched: {report.labels_matched}"] if report.labels_matched else []
    unfinished = [] if report.finished else ["unfinished: the validation was stopped or still runs"]
    assumed = [f"assumed: {line}" for line in report.assumptions]
    left_out = []
    for one in report.left_out:
        more = ", ..." if one.count > len(one.examples) else ""
        names = f" ({', '.join(one.examples)}{more})" if one.examples else ""
        left_out.append(f"left out: {one.count}, {one.reason}{names}")
    return [*unfinished, *matched, *assumed, *left_out]


def _verdict_lines(verdict: Verdict) -> list[str]:
    wrong = [check for check in verdict.checks if check.status != "passed"]
    lines = [f"- **error** {_plain(problem)}" for problem in verdict.problems]
    lines += [
        f"- **{check.status}** <code>{_plain(check.artefact)}</code> {_plain(check.limit)}: "
        f"{_plain(check.message)}"
        for check in wrong
    ]
    return [*lines, ""] if lines else []


def _table_cell(cell: Cell, notes: Footnotes) -> str:
    marks = notes.numbers(cell.reasons)
    text = cell.text + (f"<sup>{marks}</sup>" if marks else "")
    return f"{text}<br>{_plain(cell.detail)}" if cell.detail else text


def _details(name: str, result: ArtefactResult) -> list[str]:
    summary = f"{result.flips_total} of {result.images} answers changed"
    lines = [f"- worst photo: <code>{_plain(result.worst_image)}</code>"]
    if result.lost is not None and result.won is not None:
        other = result.flips_total - result.lost - result.won
        lines.insert(0, f"- {result.lost} lost, {result.won} won, {other} neither")
    if result.layers is not None and result.layers.first_drop is not None:
        drop = f"{result.layers.drop_db:g} dB or more"
        lines.append(
            f"- first layer to lose {drop}: <code>{_plain(result.layers.first_drop)}</code>"
        )
    lines += [f"- {_plain(', '.join(of))}: {_plain(text)}" for text, of in by_text(result.notes)]
    head = f"<details><summary><code>{_plain(name)}</code>: {summary}</summary>"
    return [head, "", *lines, "", "</details>", ""]


def _plain(text: str) -> str:
    """Text that Markdown and HTML leave as it is: one line, each special character as an entity."""
    one_line = html.escape(visible(" ".join(text.split())), quote=False)
    return re.sub(r"[\\`*_\[\]{}()#|~@!+]", lambda found: f"&#{ord(found[0])};", one_line)


def write_step_summary(text: str) -> None:
    """Append Markdown to the file that $GITHUB_STEP_SUMMARY names, if it is set.

    Raises:
        EdgeDeitError: that file cannot be written.
    """
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text + "\n")
        except OSError as error:
            raise EdgeDeitError(
                f"$GITHUB_STEP_SUMMARY, {path}, cannot be written: {error.strerror}"
            ) from error
