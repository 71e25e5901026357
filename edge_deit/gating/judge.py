"""Hold limits against a report's figures: the verdict, with advice for each limit that broke."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from edge_deit.gating.limits import (
    ARM64,
    ARM64_LIMIT,
    BASELINE,
    DEVICE_LIMITS,
    LIMITS,
    FigureLimit,
)
from edge_deit.gating.thresholds import Rule, Thresholds
from edge_deit.report.figure import About, Figure
from edge_deit.report.figures import display_names
from edge_deit.report.report import ArtefactResult, Report
from edge_deit.report.verdict import Check, Status, Verdict

__all__ = ["BASELINE_PREFIX", "judge_report"]

BASELINE_PREFIX: Final = "baseline."
"""What the name of a limit on a change begins with, in a verdict."""

_ADVICE: Final[Mapping[About, str]] = {
    "float model": "are the labels shuffled, the photos another dataset's, or the preprocessing "
    "(mean, std, RGB order, resize) not that of the weights?",
    "speed": "measure again on a quiet machine; a lasting rise comes from layers kept float or "
    "from another runtime",
    "memory": "measure again; a lasting rise comes from layers kept float or from another runtime",
    "size": "export an int8 or palettized precision, or keep fewer layers float (--keep-float, --max-drop)",
    "photos": "too few to judge by; validate on more",
    "device": "bundle the file again and run the app's self-test: does it feed the file as the manifest "
    "says, and is its runtime the version that the file was exported for?",
    "calibration": "validate on photos that the export did not calibrate on",
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
        "palettized",
        f"{_CALIBRATE}, keep layers float (--keep-float), or export --precision palettized-6 or int8",
    ),
    (
        "",
        "a float file is all but equal to its model: do both have the same weights and the same "
        "preprocessing (mean, std, RGB order)?",
    ),
)
"""Start of the precision's name -> what to try; the first that fits."""

_APPROXIMATION_ADVICE: Final = (
    "the file merges tokens, which alone moves it away from its float model: merge fewer (export "
    "--merge-tokens), or judge such files by thresholds of their own"
)

_SLACK: Final = 1e-9  # relative: 1.1 - 0.8 is a little above 0.3 in floating point


def judge_report(report: Report, thresholds: Thresholds, baseline: Report | None = None) -> Verdict:
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
        limit = LIMITS[key]
        yield _limit_check(name, result, key, limit, limit.value(result), bound)
    for core, bound in rule.arm64.items():
        counted = result.arm64.cpus.get(core) if result.arm64 else None
        value = counted.ratio_to_fp32 if counted else None
        yield _limit_check(name, result, f"{ARM64}.{core}", ARM64_LIMIT, value, bound)
    for key, bounds in rule.devices.items():
        for device, bound in bounds.items():
            yield _device_check(name, result, key, device, bound)


def _device_check(name: str, result: ArtefactResult, key: str, device: str, bound: float) -> Check:
    """The fastest runner's latency on a device, or the lowest agreement of all its runners."""
    limit, said = DEVICE_LIMITS[key], f"{key}.{device}"
    measured = [one for one in result.device if one.device.model == device]
    why = f"no device report of {device!r} has this artefact; give one to validate --device-report"
    if measured and limit.limit.at_most:
        measured = [one for one in measured if one.build != "debug"]
        why = f"{device!r} measured a debug build of the app; measure a release build"
    if not measured:
        return Check(name, said, None, bound, "error", why)
    values = [getattr(one, limit.figure.name) for one in measured]
    known = [value for value in values if value is not None]
    if not limit.limit.at_most and len(known) < len(values):
        known = []  # a runner whose answers were not compared may be the one that differs
    notes = {key: text for one in measured for key, text in one.notes.items()}
    return _limit_check(
        name, replace(result, notes=notes), said, limit, min(known, default=None), bound
    )


def _limit_check(
    name: str,
    result: ArtefactResult,
    key: str,
    limit: FigureLimit,
    figure: float | None,
    bound: float,
) -> Check:
    value = _judged(figure, limit.figure, result)
    if isinstance(value, str):
        return Check(name, key, None, bound, "error", value)
    at_most, unit, about = limit.limit.at_most, limit.figure.unit.name, limit.figure.about
    over = value - bound if at_most else bound - value
    ends = limit.interval(result)
    spread = "" if ends is None else f" (95 % interval {ends[0]:.4g} to {ends[1]:.4g})"
    side = "at most" if at_most else "at least"
    message = f"{_amount(value, unit)}{spread}, limit {side} {_amount(bound, unit)}"
    if not _exceeds(over, bound):
        return Check(name, key, value, bound, "passed", message)
    much = f"{_amount(over, unit)} too {'much' if at_most else 'little'}"
    message += f", {much}; {_advice(about, result)}"
    status: Status = "error" if about == "photos" else "failed"
    return Check(name, key, value, bound, status, message)


def _judged(value: float | None, figure: Figure, result: ArtefactResult) -> float | str:
    """The figure, or one line that says why there is nothing to judge."""
    if value is None:
        keys = (figure.interval, figure.name, *figure.reasons)
        why = next((result.notes[key] for key in keys if key in result.notes), "no reason given")
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
    if result.is_approximation:
        return _APPROXIMATION_ADVICE
    return next(text for start, text in _ACCURACY_ADVICE if result.precision.startswith(start))


_Key = tuple[str, str, str, str, bool]


def _keyed(report: Report) -> dict[_Key, tuple[str, ArtefactResult]]:
    """(model, target, backend, precision, whether it is an approximation) -> name and result."""

    def key(one: ArtefactResult) -> _Key:
        return one.model, one.target, one.backend, one.precision, one.is_approximation

    return {
        key(result): (name, result)
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
    change, limit = BASELINE[key], f"{BASELINE_PREFIX}{key}"
    figure, (new, former) = change.figure, change.values(result, old)
    now, then = _judged(new, figure, result), _judged(former, figure, old)
    if isinstance(now, str):
        return Check(name, limit, None, bound, "error", now)
    if isinstance(then, str):
        return Check(name, limit, None, bound, "error", f"in the baseline: {then}")
    if change.relative and then <= 0:
        text = f"the baseline's figure is {then:g}, of which nothing is a share; make it again"
        return Check(name, limit, None, bound, "error", text)
    worse = now - then if figure.better == "lower" else then - now
    worse = worse / then if change.relative else worse
    unit = "of that" if change.relative else figure.unit.name
    message = (
        f"{_amount(now, figure.unit.name)}, was {_amount(then, figure.unit.name)}; "
        f"{'worse' if worse > 0 else 'better'} by {_amount(abs(worse), unit)}, limit {_amount(bound, unit)}"
    )
    if not _exceeds(worse - bound, bound):
        return Check(name, limit, worse, bound, "passed", message)
    return Check(name, limit, worse, bound, "failed", f"{message}; {_advice(figure.about, result)}")
