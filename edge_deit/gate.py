"""Judge a report by limits: `python -m edge_deit.gate`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from edge_deit import assets
from edge_deit._atomic import write_text
from edge_deit._console import new_app, out, run
from edge_deit._report_html import write_html
from edge_deit._report_text import display_names, headline, junit, markdown, write_step_summary
from edge_deit.errors import EdgeDeitError
from edge_deit.report import ArtefactResult, Report, read_report
from edge_deit.thresholds import (
    ARM64,
    BASELINE,
    LIMITS,
    About,
    Limit,
    Rule,
    Thresholds,
    read_thresholds,
)
from edge_deit.verdict import Check, Status, Verdict

__all__ = ["gate", "gate_command", "not_passed"]

app = new_app(__doc__)

_ADVICE: Final[Mapping[About, str]] = {
    "float model": "are the labels shuffled, the photos another dataset's, or the preprocessing "
    "(mean, std, RGB order, resize) not that of the weights?",
    "speed": "measure again on a quiet machine; a lasting rise comes from layers kept float or "
    "from another runtime",
    "memory": "measure again; a lasting rise comes from layers kept float or from another runtime",
    "size": "export an int8 precision, or keep fewer layers float (--keep-float, --max-drop)",
    "photos": "too few to judge by; validate on more",
}
_CALIBRATE: Final = "calibrate with photos more like the app's (export --calibration)"
_ACCURACY_ADVICE: Final = (
    ("int8-full", f"{_CALIBRATE}, or export --precision int8"),
    ("int8-dynamic", "keep the worst layers float (export --sensitivity-report, --keep-float)"),
    (
        "int8",
        f"{_CALIBRATE}, keep the worst layers finer (--max-drop, --keep-float), "
        "or export --precision int8-dynamic",
    ),
    (
        "",
        "a float file is all but equal to its model: do both have the same weights and the same "
        "preprocessing (mean, std, RGB order)?",
    ),
)
"""Start of the precision's name -> what to try; the first that fits."""

_BASELINE_PREFIX: Final = "baseline."
_SLACK: Final = 1e-9  # relative: 1.1 - 0.8 is a little above 0.3 in floating point


def gate(report: Report, thresholds: Thresholds, baseline: Report | None = None) -> Verdict:
    """Check every limit of every rule that matches, and against the baseline where there is one.

    What keeps it from judging is in the verdict, as a check with status `error` or as a problem; it never
    raises for it.
    """
    names = display_names(report)
    checks = [
        check
        for name, result in zip(names, report.artefacts, strict=True)
        for rule in thresholds.rules
        if rule.matches(result)
        for check in _rule_checks(name, result, rule)
    ]
    problems = list(_unmatched(report, thresholds))
    if baseline is not None:
        problems += _incomparable(report, baseline, thresholds)
        if report.data.sha256 == baseline.data.sha256:
            checks += _baseline_checks(report, baseline, thresholds)
    if not checks and not problems:
        problems = ["no rule matched any artefact, so nothing was judged; check the patterns"]
    return Verdict(tuple(checks), tuple(problems))


def _unmatched(report: Report, thresholds: Thresholds) -> Iterator[str]:
    if not report.artefacts:
        yield "the report holds no artefact; run edge_deit.validate on some"
        return
    for name, result in zip(display_names(report), report.artefacts, strict=True):
        if not thresholds.ignore_unmatched and not any(r.matches(result) for r in thresholds.rules):
            yield (
                f"no rule matches {name} (target {result.target}, precision {result.precision}); add one, "
                "or write unmatched = 'ignore'"
            )
    for rule in thresholds.rules:
        if not rule.optional and not any(rule.matches(result) for result in report.artefacts):
            yield f"the rule for {rule} matches no artefact; mend it, or write optional = true"


def _rule_checks(name: str, result: ArtefactResult, rule: Rule) -> Iterator[Check]:
    for key, bound in rule.limits.items():
        yield _limit_check(name, result, key, LIMITS[key], bound)
    for core, bound in rule.arm64.items():
        row = Limit(partial(_arm64_ratio, core), True, "speed", "", notes=("arm64",))
        yield _limit_check(name, result, f"{ARM64}.{core}", row, bound)


def _arm64_ratio(core: str, result: ArtefactResult) -> float | None:
    """Instructions on an emulated core / those of the float file there."""
    found: Any = result.arm64
    for key in ("cpus", core, "ratio_to_fp32"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if type(found) in (int, float) else None


def _limit_check(name: str, result: ArtefactResult, key: str, limit: Limit, bound: float) -> Check:
    value = _figure(limit.figure(result), limit.notes, result)
    if isinstance(value, str):
        return Check(name, key, None, bound, "error", value)
    over = value - bound if limit.at_most else bound - value
    ends = limit.interval(result) if limit.interval else None
    spread = "" if ends is None else f" (95 % interval {ends[0]:.4g} to {ends[1]:.4g})"
    side = "at most" if limit.at_most else "at least"
    message = f"{_amount(value, limit.unit)}{spread}, limit {side} {_amount(bound, limit.unit)}"
    if not _exceeds(over, bound):
        return Check(name, key, value, bound, "passed", message)
    much = f"{_amount(over, limit.unit)} too {'much' if limit.at_most else 'little'}"
    message += f", {much}; {_advice(limit.about, result)}"
    status: Status = "error" if limit.about == "photos" else "failed"
    return Check(name, key, value, bound, status, message)


def _figure(value: float | None, notes: tuple[str, ...], result: ArtefactResult) -> float | str:
    """The figure, or one line that says why there is nothing to judge."""
    if value is None:
        why = next((result.notes[key] for key in notes if key in result.notes), "no reason given")
        return f"no such figure in the report ({why}); supply what it needs, or remove the limit"
    if not math.isfinite(value):
        return f"the figure is {value}: the report is damaged; run edge_deit.validate again"
    return value


def _exceeds(over: float, bound: float) -> bool:
    """Whether a bound is exceeded by more than rounding."""
    return over > _SLACK * max(1.0, abs(bound))


def _amount(value: float, unit: str) -> str:
    number = f"{value:,.0f}" if unit == "bytes" else f"{value:.4g}"
    return f"{number} {unit}".rstrip()


def _advice(about: About, result: ArtefactResult) -> str:
    if about != "accuracy":
        return _ADVICE[about]
    return next(text for start, text in _ACCURACY_ADVICE if result.precision.startswith(start))


_Key = tuple[str, str, str, str]


def _keyed(report: Report) -> dict[_Key, tuple[str, ArtefactResult]]:
    """(model, target, backend, precision) -> name and result."""
    return {
        (result.model, result.target, result.backend, result.precision): (name, result)
        for name, result in zip(display_names(report), report.artefacts, strict=True)
    }


def _incomparable(report: Report, baseline: Report, thresholds: Thresholds) -> Iterator[str]:
    """What makes the baseline useless for this report."""
    if not thresholds.baseline:
        yield "a baseline was given, but the thresholds have no [baseline] limits; add some"
    if not baseline.artefacts:
        yield "the baseline holds no artefact; take the report of a release that has some"
    if report.data.sha256 != baseline.data.sha256:
        yield (
            f"the baseline is stale: it was made on other photos ({baseline.data.images} of "
            f"{baseline.data.source}); validate the last release's artefacts on the present photos"
        )
    now, then = _keyed(report), _keyed(baseline)
    for which, whole, keyed in (("report", report, now), ("baseline", baseline, then)):
        if len(keyed) < len(whole.artefacts):
            yield (
                f"the {which} has two artefacts of one model, target, backend and precision, which cannot "
                "be told apart; validate them into separate reports"
            )
    for key, (name, old) in then.items():
        if key not in now:
            yield f"the baseline has {name}, which this report lacks; validate it too"
        elif now[key][1].weights_sha256 != old.weights_sha256:
            yield (
                f"the baseline's {name} is stale: it was made from other weights; make a new baseline from "
                "a release of the present ones"
            )


def _baseline_checks(report: Report, baseline: Report, thresholds: Thresholds) -> Iterator[Check]:
    then = _keyed(baseline)
    for key, (name, result) in _keyed(report).items():
        if key in then and then[key][1].weights_sha256 == result.weights_sha256:
            for limit, bound in thresholds.baseline.items():
                yield _change_check(name, result, then[key][1], limit, bound)


def _change_check(
    name: str, result: ArtefactResult, old: ArtefactResult, key: str, bound: float
) -> Check:
    change, limit = BASELINE[key], f"{_BASELINE_PREFIX}{key}"
    now = _figure(change.now(result), change.notes, result)
    then = _figure(change.then(old), change.notes, old)
    if isinstance(now, str):
        return Check(name, limit, None, bound, "error", now)
    if isinstance(then, str):
        return Check(name, limit, None, bound, "error", f"in the baseline: {then}")
    if change.relative and then <= 0:
        text = f"the baseline's figure is {then:g}, of which nothing is a share; make it again"
        return Check(name, limit, None, bound, "error", text)
    worse = now - then if change.higher_is_worse else then - now
    worse = worse / then if change.relative else worse
    unit = "of that" if change.relative else change.unit
    message = (
        f"{_amount(now, change.unit)}, was {_amount(then, change.unit)}; "
        f"{'worse' if worse > 0 else 'better'} by {_amount(abs(worse), unit)}, limit {_amount(bound, unit)}"
    )
    if not _exceeds(worse - bound, bound):
        return Check(name, limit, worse, bound, "passed", message)
    return Check(name, limit, worse, bound, "failed", f"{message}; {_advice(change.about, result)}")


def gate_command(
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
    found, limits = read_report(report), read_thresholds(thresholds)
    verdict = gate(found, limits, read_report(baseline) if baseline else None)
    _print(found, verdict)
    for line in _not_compared(found, limits, baseline, verdict):
        out().print(line, markup=False, highlight=False)
    write_step_summary(markdown(found, verdict))
    if junit_file is not None:
        write_text(junit_file, junit(found, verdict))
    if html_file is not None:
        _write_html(found, html_file, verdict)
    if verdict.exit_code == 2:
        first = not_passed(verdict, "error")[0]
        raise EdgeDeitError(f"the gate could not judge; {first.removeprefix('error: ')}")
    raise typer.Exit(verdict.exit_code)


def _not_compared(
    report: Report, limits: Thresholds, baseline: Path | None, verdict: Verdict
) -> Iterator[str]:
    """What the baseline's limits did not cover, so that nobody takes it for checked."""
    if limits.baseline and baseline is None:
        yield "no --baseline was given: the limits of [baseline] were not checked"
    if baseline is not None and not verdict.problems:
        compared = {c.artefact for c in verdict.checks if c.limit.startswith(_BASELINE_PREFIX)}
        for name in display_names(report):
            if name not in compared:
                yield f"{name} is new: the baseline has nothing to compare it with"


def _write_html(report: Report, path: Path, verdict: Verdict) -> None:
    with assets.validation_folder() as bundled:
        root = bundled if report.data.source == "bundled" else Path(report.data.source)
        write_html(report, path, data_root=root if root.is_dir() else None, verdict=verdict)


def _print(report: Report, verdict: Verdict) -> None:
    """The table of all checks, then a line for each that did not pass."""
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
            *(Text(check.artefact), Text(check.limit), value, _cell(check.bound)),
            Text(check.status, styles[check.status]),
        )
    if verdict.checks:
        out().print(table)
    for line in not_passed(verdict):
        out().print(line, markup=False, highlight=False)
    out().print(headline(report, verdict), markup=False, highlight=False)


def not_passed(verdict: Verdict, *statuses: Status) -> list[str]:
    """One line for each problem and each check that has one of the statuses (default: did not pass)."""
    wanted = statuses or ("failed", "error")
    checks = (check for check in verdict.checks if check.status in wanted)
    problems = [f"error: {problem}" for problem in verdict.problems]
    return problems + [f"{c.status}: {c.artefact}: {c.limit}: {c.message}" for c in checks]


def _cell(value: float) -> str:
    """A figure of at most four digits after the first.

    >>> _cell(6556016.0), _cell(22.51234), _cell(0.98)
    ('6,556,016', '22.51', '0.98')
    """
    return f"{value:,.0f}" if abs(value) >= 10000 else f"{value:.4g}"


app.command(name="gate")(gate_command)

if __name__ == "__main__":
    run(app, "python -m edge_deit.gate")
