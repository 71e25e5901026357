"""The gate: every limit at its bound, everything that keeps it from judging, the default file's odds."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom

from conftest import CommandLine
from edge_deit import assets
from edge_deit.checkpoint.load import load_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path
from edge_deit.data.labels import match_labels
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import load_pixels
from edge_deit.gating.judge import judge_report
from edge_deit.gating.limits import ARM64, BASELINE, DEVICE_LIMITS, LIMITS
from edge_deit.gating.thresholds import Rule, Thresholds, read_thresholds
from edge_deit.metrics.outputs import closeness
from edge_deit.metrics.paired import drop_interval
from edge_deit.quantization.scheme import PRECISIONS
from edge_deit.report.emulated import Emulated
from edge_deit.report.phone_result import PhoneResult
from edge_deit.report.report import ArtefactResult, Report, write_report
from edge_deit.report.result import APPROXIMATION
from edge_deit.report.verdict import Check, Verdict
from gate_examples import GOOD, GOOD_BY_PRECISION, counted, one_rule, report, rule
from report_examples import PHONE

ROOT = Path(__file__).parents[2]
DEFAULT = ROOT / "thresholds.toml"


def only(verdict: Verdict) -> Check:
    (check,) = verdict.checks
    return check


# Limits

FIGURES: dict[str, float] = {
    "max_top1_drop": 0.3,
    "max_top1_drop_certain": -0.7,
    "max_top1_drop_possible": 1.7,
    "min_top1": 78.7,
    "min_top1_float": 79.0,
    "min_agreement": 0.98,
    "min_snr_db": 24.0,
    "min_cosine_worst": 0.98,
    "max_kl_divergence": 0.02,
    "max_latency_ratio": 0.45,
    "max_size_ratio": 6_500_000 / 23_000_000,
    "max_size_bytes": 6_500_000,
    "max_peak_rss_bytes": 150_000_000,
    "max_load_ms": 80.0,
    "min_images": 300,
    "min_labelled": 300,
    "max_calibration_overlap": 2,
}
"""What each limit has to find in `GOOD`."""


OVERLAPPING = replace(GOOD, calibration_overlap=2)


def test_every_limit_is_tested() -> None:
    assert FIGURES.keys() == LIMITS.keys()
    assert all(name.startswith(("max_", "min_")) for name in LIMITS)


@pytest.mark.parametrize("name", LIMITS)
def test_a_figure_may_equal_its_bound_but_not_pass_it(name: str) -> None:
    figure = FIGURES[name]
    step = 0.001 * abs(figure) * (1 if name.startswith("max_") else -1)
    for bound in (figure, figure + step):
        check = only(judge_report(report(OVERLAPPING), one_rule(**{name: bound})))
        assert (check.status, check.value, check.bound) == ("passed", figure, bound)
    check = only(judge_report(report(OVERLAPPING), one_rule(**{name: figure - step})))
    too_few = name in ("min_images", "min_labelled")
    assert check.status == ("error" if too_few else "failed")
    assert check.value == figure
    assert (check.artefact, check.limit) == ("my_model.int8.bin", name)
    assert re.search(r", .* too (much|little); .{20}", check.message), (
        "by how much, and what to try"
    )


def test_exit_codes() -> None:
    good, bad, unjudged = ({"min_snr_db": 20}, {"min_agreement": 0.99}, {"min_images": 301})
    for limits, code in ((good, 0), (good | bad, 1), (good | bad | unjudged, 2)):
        assert judge_report(report(GOOD), one_rule(**limits)).exit_code == code


def test_drop_limits_look_at_different_ends_of_the_interval() -> None:
    noisy = replace(GOOD, top1_drop=2.0, top1_drop_ci95=(-1.0, 5.0))
    proven = replace(GOOD, top1_drop=6.0, top1_drop_ci95=(2.0, 11.0))
    expected = {"max_top1_drop_certain": (0, 1), "max_top1_drop": (1, 1)}
    for name, codes in expected.items():
        found = [
            judge_report(report(one), one_rule(**{name: 1.0})).exit_code for one in (noisy, proven)
        ]
        assert tuple(found) == codes, name
    assert judge_report(report(noisy), one_rule(max_top1_drop_possible=5.0)).exit_code == 0
    assert judge_report(report(noisy), one_rule(max_top1_drop_possible=4.9)).exit_code == 1


def test_rounding_of_binary_fractions_fails_nothing() -> None:
    drop = 1.1 - 0.8
    assert drop > 0.3
    assert (
        judge_report(report(replace(GOOD, top1_drop=drop)), one_rule(max_top1_drop=0.3)).exit_code
        == 0
    )


NULL = {
    "top1_drop": ("max_top1_drop", "top1_drop"),
    "top1_drop_ci95": ("max_top1_drop_certain", "top1"),
    "top1": ("min_top1", "top1"),
    "top1_float": ("min_top1_float", "top1"),
    "latency_ratio_ci95": ("max_latency_ratio", "latency_ms_p50"),
    "peak_rss_bytes": ("max_peak_rss_bytes", "peak_rss_bytes"),
    "load_ms": ("max_load_ms", "load_ms"),
    "calibration_overlap": ("max_calibration_overlap", "calibration_overlap"),
}


@pytest.mark.parametrize("field", NULL)
def test_a_limit_on_a_null_figure_is_an_error_with_the_reason(field: str) -> None:
    limit, note = NULL[field]
    without = replace(GOOD, **{field: None}, notes={note: "there was none to be had"})
    verdict = judge_report(report(without), one_rule(**{limit: 1.0}))
    assert verdict.exit_code == 2
    assert only(verdict).value is None
    assert "there was none to be had" in only(verdict).message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("limit", ["min_snr_db", "min_agreement", "max_load_ms"])
def test_a_figure_that_is_not_finite_is_an_error(limit: str, value: float) -> None:
    field = limit.removeprefix("min_").removeprefix("max_")
    verdict = judge_report(report(replace(GOOD, **{field: value})), one_rule(**{limit: 0.5}))
    assert verdict.exit_code == 2
    assert "damaged" in only(verdict).message


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (counted(cortex_a76=0.4), 0),
        (counted(cortex_a76=0.41), 1),
        (counted(cortex_a76=None), 2),
        (counted(neoverse_n1=0.1), 2),
        (None, 2),
    ],
)
def test_instructions_on_an_emulated_core(found: Emulated | None, code: int) -> None:
    verdict = judge_report(
        report(replace(GOOD, arm64=found)), Thresholds((Rule(arm64={"cortex-a76": 0.4}),))
    )
    assert verdict.exit_code == code
    assert only(verdict).limit == f"{ARM64}.cortex-a76"


@pytest.mark.parametrize(
    ("precision", "advice"),
    [
        ("int8", ("--calibration", "--max-drop", "--keep-float", "int8-dynamic")),
        ("int8-dynamic", ("--keep-float",)),
        ("int8-full", ("--calibration", "int8")),
        ("palettized-4", ("--calibration", "--keep-float", "palettized-6")),
        ("fp32", ("weights", "preprocessing")),
        ("fp16", ("weights", "preprocessing")),
    ],
)
def test_advice_fits_the_precision(precision: str, advice: tuple[str, ...]) -> None:
    verdict = judge_report(report(replace(GOOD, precision=precision)), one_rule(min_snr_db=100))
    assert all(text in only(verdict).message for text in advice)


def test_advice_for_a_file_that_merges_tokens_names_that() -> None:
    merged = replace(
        GOOD, precision="fp32", runner=f"Alpha{APPROXIMATION}3 tokens become part of others"
    )
    message = only(judge_report(report(merged), one_rule(min_snr_db=100))).message
    assert "merge fewer (export --merge-tokens)" in message
    assert "same weights" not in message


def test_rules_can_leave_merged_files_out_or_be_theirs_alone(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(
        rule("approximation = false\nmin_snr_db = 60\n")
        + rule("approximation = true\nmin_snr_db = 20\n")
    )
    limits = read_thresholds(tmp_path / "t.toml")
    merged = replace(GOOD, runner=f"Alpha{APPROXIMATION}3 tokens become part of others", snr_db=22)
    plain = replace(GOOD, path="plain.onnx", snr_db=61)
    assert judge_report(report(plain, merged), limits).exit_code == 0
    assert judge_report(report(replace(plain, snr_db=59), merged), limits).exit_code == 1
    assert judge_report(report(plain, replace(merged, snr_db=19)), limits).exit_code == 1
    assert str(limits.rules[1]) == "approximation true"


def test_a_merged_file_and_the_plain_one_are_told_apart_in_a_baseline() -> None:
    merged = replace(GOOD, runner=f"Alpha{APPROXIMATION}3 tokens become part of others")
    both = report(GOOD, merged)
    assert against(both, both, max_snr_db_decrease=1).exit_code == 0
    worse = report(GOOD, replace(merged, snr_db=1))
    assert against(worse, both, max_snr_db_decrease=1).exit_code == 1
    assert (
        "cannot be told apart"
        in against(report(GOOD, GOOD), both, max_snr_db_decrease=1).problems[0]
    )


def test_advice_on_a_bad_float_model_names_the_likely_causes() -> None:
    message = only(judge_report(report(GOOD), one_rule(min_top1_float=90))).message
    assert "11 % too little" in message
    assert all(cause in message for cause in ("labels", "dataset", "preprocessing"))


# Which rule applies to what


def test_all_matching_rules_apply() -> None:
    rules = (
        Rule(limits={"min_snr_db": 20.0}),
        Rule(artefact="my_*.bin", target="al?ha", limits={"min_snr_db": 30.0}),
        Rule(precision="fp*", limits={"min_snr_db": 90.0}, optional=True),
        Rule(weights="aaaa*", limits={"min_agreement": 0.5}),
    )
    verdict = judge_report(report(GOOD), Thresholds(rules))
    assert [check.status for check in verdict.checks] == ["passed", "failed", "passed"]
    assert verdict.problems == ()


def test_patterns_do_not_match_a_part_or_another_case() -> None:
    for pattern in ("int", "INT8", "nt8"):
        assert not Rule(precision=pattern).matches(GOOD)
    assert not Rule(precision="int8").matches(replace(GOOD, precision="int8-dynamic"))


def test_an_artefact_without_a_rule_is_an_error_unless_ignored() -> None:
    other = replace(GOOD, path="out/other.bin", precision="fp32")
    rules = (Rule(precision="int8", limits={"min_snr_db": 20.0}),)
    verdict = judge_report(report(GOOD, other), Thresholds(rules))
    assert verdict.exit_code == 2
    assert "no rule matches other.bin" in verdict.problems[0]
    assert (
        judge_report(report(GOOD, other), Thresholds(rules, ignore_unmatched=True)).exit_code == 0
    )


def test_a_rule_without_an_artefact_is_an_error_unless_optional() -> None:
    first, second = (Rule(limits={"min_snr_db": 20.0}), Rule(target="b*", limits={"min_top1": 9.0}))
    verdict = judge_report(report(GOOD), Thresholds((first, second)))
    assert verdict.exit_code == 2
    assert "target 'b*'" in verdict.problems[0]
    assert (
        judge_report(report(GOOD), Thresholds((first, replace(second, optional=True)))).exit_code
        == 0
    )


def test_judging_nothing_is_an_error() -> None:
    nothing = Rule(target="b*", limits={"min_top1": 9.0}, optional=True)
    verdict = judge_report(report(GOOD), Thresholds((nothing,), ignore_unmatched=True))
    assert verdict.exit_code == 2
    assert verdict.problems
    empty = judge_report(report(), Thresholds((nothing,)))
    assert empty.exit_code == 2
    assert "no artefact" in empty.problems[0]


def test_artefacts_of_one_name_are_told_apart_by_their_paths() -> None:
    twin = replace(GOOD, path="other/my_model.int8.bin", snr_db=3.0)
    verdict = judge_report(report(GOOD, twin), one_rule(min_snr_db=20))
    assert {check.artefact: check.status for check in verdict.checks} == {
        "out/my_model.int8.bin": "passed",
        "other/my_model.int8.bin": "failed",
    }


# Against a baseline

WORSE = {  # limit: (field, value now, how much worse that is)
    "max_top1_drop_increase": ("top1_drop", 1.3, 1.0),
    "max_agreement_decrease": ("agreement", 0.95, 0.03),
    "max_snr_db_decrease": ("snr_db", 20.0, 4.0),
    "max_cosine_worst_decrease": ("cosine_worst", 0.93, 0.05),
    "max_kl_divergence_increase": ("kl_divergence", 0.05, 0.03),
    "max_latency_ratio_increase": ("latency_ratio_ci95", (0.66, 0.7), 0.2),
    "max_size_bytes_increase": ("size_bytes", 7_150_000, 0.1),
    "max_peak_rss_bytes_increase": ("peak_rss_bytes", 300_000_000, 1.0),
    "max_load_ms_increase": ("load_ms", 100.0, 0.25),
}


def against(now: Report, then: Report, **limits: float) -> Verdict:
    """Only the baseline's limits, beside a rule that always holds."""
    return judge_report(now, Thresholds((Rule(limits={"min_images": 1.0}),), baseline=limits), then)


def test_every_baseline_limit_is_tested() -> None:
    assert WORSE.keys() == BASELINE.keys()


@pytest.mark.parametrize("name", BASELINE)
def test_no_figure_may_get_worse_by_more_than_its_limit(name: str) -> None:
    field, value, worse = WORSE[name]
    now, then = report(replace(GOOD, **{field: value})), report(GOOD)
    assert against(now, then, **{name: worse}).exit_code == 0
    failed = against(now, then, **{name: 0.99 * worse})
    assert failed.exit_code == 1
    check = failed.checks[-1]
    assert check.limit == f"baseline.{name}"
    assert check.value == pytest.approx(worse)
    assert against(then, now, **{name: 0.0}).exit_code == 0, "an improvement fails nothing"


def test_latency_intervals_that_overlap_prove_no_rise() -> None:
    now = replace(GOOD, latency_ratio=0.6, latency_ratio_ci95=(0.54, 0.66))
    assert against(report(now), report(GOOD), max_latency_ratio_increase=0.0).exit_code == 0


def test_a_null_figure_on_either_side_is_an_error() -> None:
    without = replace(GOOD, load_ms=None, notes={"load_ms": "not measured"})
    for now, then in ((without, GOOD), (GOOD, without)):
        verdict = against(report(now), report(then), max_load_ms_increase=0.1)
        assert verdict.exit_code == 2
        assert "not measured" in verdict.checks[-1].message


def test_a_share_of_nothing_is_an_error() -> None:
    verdict = against(report(GOOD), report(replace(GOOD, load_ms=0.0)), max_load_ms_increase=0.1)
    assert verdict.exit_code == 2


STALE = {
    "other photos": (report(GOOD), report(GOOD, photos="e" * 64), "other photos"),
    "other weights": (
        report(GOOD),
        report(replace(GOOD, weights_sha256="b" * 64)),
        "other weights",
    ),
    "missing artefact": (
        report(GOOD),
        report(GOOD, replace(GOOD, path="x.bin", target="beta")),
        "the baseline has x.bin, which this report lacks",
    ),
    "empty": (report(GOOD), report(), "the baseline holds no artefact"),
    "other backend": (report(GOOD), report(replace(GOOD, backend="gpu")), "lacks"),
    "ambiguous": (report(GOOD, replace(GOOD, path="x.bin")), report(GOOD), "told apart"),
}


@pytest.mark.parametrize("case", STALE)
def test_a_baseline_that_cannot_be_compared_is_an_error(case: str) -> None:
    now, then, text = STALE[case]
    verdict = against(now, then, max_snr_db_decrease=1.0)
    assert verdict.exit_code == 2
    assert any(text in problem for problem in verdict.problems)


def test_a_new_artefact_needs_no_baseline() -> None:
    new = replace(GOOD, path="new.bin", target="beta", snr_db=1.0)
    verdict = against(report(GOOD, new), report(GOOD), max_snr_db_decrease=1.0)
    assert verdict.exit_code == 0
    assert sum(check.limit.startswith("baseline.") for check in verdict.checks) == 1


def test_a_baseline_without_limits_is_an_error() -> None:
    assert "[baseline]" in against(report(GOOD), report(GOOD)).problems[0]


# thresholds.toml


REFUSED = {
    "not TOML": ("[[rule]", "is not TOML"),
    "empty": ("", "no [[rule]]"),
    "rule is no list": ("rule = 1", "no [[rule]]"),
    "rule is no table": ("rule = [1]", "write it as a table"),
    "no limit": (rule('target = "*"'), "sets no limit; there are: min_images"),
    "unknown table": (rule("min_images = 1\n[extra]"), "unknown key 'extra'; known are: unmatched"),
    "unknown key": (rule("min_snr = 1"), "unknown key 'min_snr'; known are: artefact"),
    "unknown in baseline": (rule("min_images = 1\n[baseline]\nsnr_db = 1"), "[baseline]: unknown"),
    "baseline is no table": ("baseline = 1\n" + rule("min_images = 1"), "as a table, [baseline]"),
    "text": (rule('min_snr_db = "20"'), "min_snr_db is '20'; it must be a number"),
    "true": (rule("min_snr_db = true"), "min_snr_db is True"),
    "nan": (rule("min_snr_db = nan"), "min_snr_db is nan"),
    "infinite": (rule("max_load_ms = inf"), "max_load_ms is inf"),
    "huge": (rule(f"max_load_ms = 1{400 * '0'}"), "it must be a number"),
    "negative": (rule("max_top1_drop = -1"), "from 0 to 100"),
    "percent for a share": (rule("min_agreement = 98"), "from 0 to 1, not percent"),
    "share for percent": (rule("min_top1 = 0.76"), "from 1 to 100, in percent"),
    "half a photo": (rule("min_images = 99.5"), "a whole number of at least 1"),
    "no photo": (rule("min_images = 0"), "a whole number of at least 1"),
    "pattern": (rule("target = 1\nmin_images = 1"), "target is 1; write a pattern"),
    "empty pattern": (rule('target = ""\nmin_images = 1'), "target is ''; write a pattern"),
    "optional": (rule("optional = 1\nmin_images = 1"), "optional is 1; write true or false"),
    "approximation": (rule('approximation = "no"\nmin_images = 1'), "is 'no'; write true or false"),
    "unmatched": ('unmatched = "skip"\n' + rule("min_images = 1"), "'error' or 'ignore'"),
    "cores": (rule("max_arm64_instruction_ratio = 0.4"), "write { CORE = RATIO"),
    "devices": (rule("max_device_latency_ms = 30"), 'write { "DEVICE" = LIMIT'),
    "device": (rule('min_device_agreement = { "P 9" = 2 }'), "_agreement.P 9 is 2"),
    "core": (rule("max_arm64_instruction_ratio = { a76 = -1 }"), "_ratio.a76 is -1"),
    "baseline value": (
        rule("min_images = 1\n[baseline]\nmax_snr_db_decrease = -1"),
        "from 0 to 200",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_thresholds_refused(case: str, tmp_path: Path) -> None:
    text, message = REFUSED[case]
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(EdgeDeitError) as refused:
        read_thresholds(path)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_the_second_rule_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(rule("min_images = 1\n") + rule("max_images = 1"))
    with pytest.raises(EdgeDeitError, match="rule 2: unknown key 'max_images'"):
        read_thresholds(tmp_path / "t.toml")


def test_thresholds_are_read_whole(tmp_path: Path) -> None:
    text = """
        unmatched = "ignore"
        [[rule]]
        artefact = "a*"
        weights = "00*"
        optional = true
        min_images = 100
        max_arm64_instruction_ratio = { cortex-a76 = 0.4 }
        max_device_latency_ms = { "Pixel 9" = 30 }
        [baseline]
        max_snr_db_decrease = 2
    """
    (tmp_path / "t.toml").write_text(text)
    assert read_thresholds(tmp_path / "t.toml") == Thresholds(
        rules=(
            Rule(
                artefact="a*",
                weights="00*",
                limits={"min_images": 100.0},
                arm64={"cortex-a76": 0.4},
                devices={"max_device_latency_ms": {"Pixel 9": 30.0}},
                optional=True,
            ),
        ),
        baseline={"max_snr_db_decrease": 2.0},
        ignore_unmatched=True,
    )


# What phones measured

SLOW = replace(PHONE, runner="LiteRT 2.3.0, CPU, 1 threads", latency_ms_p50=30.0)
THREE = replace(PHONE, check=replace(PHONE.check, same_top=3)) if PHONE.check else PHONE
UNCHECKED = replace(PHONE, check=None, notes={"check": "no answers to compare"})
HALF = replace(PHONE, latency_ratio=0.5)
FAILED = replace(PHONE, latency_ms_p50=None, notes={"latency_ms_p50": "did not load"})


@pytest.mark.parametrize(
    ("key", "bound", "rows", "status", "words"),
    [
        ("max_device_latency_ms", 12.3, (SLOW, PHONE), "passed", "12.3 ms"),
        ("max_device_latency_ms", 12.0, (PHONE, SLOW), "failed", "too much"),
        ("max_device_latency_ms", 99.0, (), "error", "no device report of 'Phone 9'"),
        ("max_device_latency_ms", 99.0, (FAILED,), "error", "did not load"),
        (
            "max_device_latency_ms",
            99.0,
            (replace(PHONE, build="debug"),),
            "error",
            "a debug build",
        ),
        (
            "max_device_latency_ratio",
            0.5,
            (replace(SLOW, latency_ratio=0.7), HALF),
            "passed",
            "0.5",
        ),
        ("max_device_latency_ratio", 0.4, (HALF,), "failed", "too much"),
        ("max_device_latency_ratio", 0.4, (PHONE,), "error", "no such figure in the report"),
        ("max_device_latency_ratio", 0.4, (), "error", "no device report of 'Phone 9'"),
        ("min_device_agreement", 1.0, (PHONE, SLOW), "passed", ""),
        ("min_device_agreement", 1.0, (PHONE, THREE), "failed", "run the app's self-test"),
        ("min_device_agreement", 0.5, (PHONE, UNCHECKED), "error", "no answers to compare"),
    ],
)
def test_limits_on_what_a_phone_measured(
    key: str, bound: float, rows: tuple[PhoneResult, ...], status: str, words: str
) -> None:
    thresholds = Thresholds((Rule(devices={key: {"Phone 9": bound}}),))
    check = only(judge_report(report(replace(GOOD, device=rows)), thresholds))
    assert (check.limit, check.status) == (f"{key}.Phone 9", status)
    assert words in check.message


# The default file


@pytest.mark.parametrize("precision", GOOD_BY_PRECISION)
def test_the_default_file_passes_good_artefacts(precision: str) -> None:
    verdict = judge_report(report(GOOD_BY_PRECISION[precision]), read_thresholds(DEFAULT))
    assert verdict.exit_code == 0, [c for c in verdict.checks if c.status != "passed"]
    limits = {check.limit for check in verdict.checks}
    assert {"min_snr_db", "min_agreement", "max_top1_drop_certain", "min_top1_float"} <= limits


FAULTS: dict[str, dict[str, Any]] = {  # measured on DeiT-tiny and ImageNet photos
    "BGR": {"snr_db": 3.6, "agreement": 0.70},
    "mean and std swapped": {"snr_db": 6.0, "agreement": 0.90},
    "one layer x 2, the mildest of 20": {"snr_db": 10.4, "agreement": 1.0},
    "shuffled labels": {"top1": 10.0, "top1_float": 10.0},
}


@pytest.mark.parametrize("precision", GOOD_BY_PRECISION)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_default_file_fails_faults(fault: str, precision: str) -> None:
    bad = replace(GOOD_BY_PRECISION[precision], **FAULTS[fault])
    assert judge_report(report(bad), read_thresholds(DEFAULT)).exit_code == 1


def test_the_default_file_fails_calibration_on_noise() -> None:
    bad = replace(GOOD, snr_db=13.7, agreement=0.97)  # measured, static int8
    assert judge_report(report(bad), read_thresholds(DEFAULT)).exit_code == 1


def test_the_default_file_refuses_to_judge_by_few_photos() -> None:
    few = replace(GOOD, images=99, labelled=99)
    verdict = judge_report(report(few), read_thresholds(DEFAULT))
    assert verdict.exit_code == 2
    assert {c.limit for c in verdict.checks if c.status == "error"} == {
        "min_images",
        "min_labelled",
    }


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_default_file_has_a_rule_for_each_precision(precision: str) -> None:
    """The rule for every artefact matches any precision, so a forgotten one would not be noticed."""
    assert {"min_snr_db", "min_agreement", "max_size_ratio"} <= default_limits(precision).keys()


def default_limits(precision: str, weights: str = "a" * 64) -> dict[str, float]:
    rules = read_thresholds(DEFAULT).rules
    result = replace(GOOD, precision=precision, weights_sha256=weights)
    return {k: v for r in rules if r.matches(result) for k, v in r.limits.items()}


TRUE_RATES = {  # precision: agreement, lost, won, at the bad end of what was measured
    "fp32": (0.999, 0.0005, 0.0005),
    "fp16": (0.998, 0.001, 0.001),
    "int8": (0.97, 0.010, 0.007),
    "int8-dynamic": (0.98, 0.010, 0.001),
    "int8-full": (0.95, 0.023, 0.020),
    "int4": (0.95, 0.023, 0.020),
    "palettized-6": (0.98, 0.010, 0.007),
    "palettized-4": (0.96, 0.020, 0.020),
}
FALSE_ALARM = 1e-3


@pytest.mark.parametrize("precision", TRUE_RATES)
def test_odds_of_a_false_alarm_at_100_photos(precision: str) -> None:
    agreement, lost, won = TRUE_RATES[precision]
    limits = default_limits(precision)
    fewest = int(np.ceil(100 * limits["min_agreement"] - 1e-9))
    assert binom.cdf(fewest - 1, 100, agreement) < FALSE_ALARM
    assert sum(proven(limits["max_top1_drop_certain"], lost, won)) < FALSE_ALARM


def proven(bound: float, lost: float, won: float) -> Iterator[float]:
    """Probability of each outcome of 100 photos whose interval of the drop lies above the bound."""
    for a in range(31):
        for b in range(a):
            odds = binom.pmf(a, 100, lost) * binom.pmf(b, 100 - a, won / (1 - lost))
            if odds > 1e-9 and drop_interval(a, b, 100)[0] > bound:
                yield odds


def test_shuffled_labels_of_ten_classes_cannot_pass() -> None:
    assert binom.sf(default_limits("int8")["min_top1_float"] - 1, 100, 0.1) < 1e-4


def test_the_bundled_model_has_its_own_rules() -> None:
    for precision in ("int8", "int8-dynamic", "int8-full"):
        limits = default_limits(precision, bundled_weights())
        assert limits["min_snr_db"] > default_limits(precision)["min_snr_db"]
        assert limits["min_top1_float"] > default_limits(precision)["min_top1_float"]
    assert binom.cdf(limits["min_top1_float"] - 1, 100, 0.86) < FALSE_ALARM


def bundled_weights() -> str:
    with assets.bundled_checkpoint() as path:
        return hash_path(path)


@pytest.mark.slow
def test_the_default_file_fails_real_faults_of_the_bundled_model() -> None:
    """The bundled model against itself with a fault, on its own photos; the layer is the mildest of 48."""
    checkpoint = load_model("bundled")
    model, spec = checkpoint.model.eval(), checkpoint.preprocess
    with assets.validation_folder() as folder:
        photos = match_labels(list_photos(folder).pick(100), checkpoint.labels).photos
        pixels = torch.from_numpy(np.concatenate([load_pixels(p.path, spec) for p in photos]))
    labels = np.array([photo.label for photo in photos])
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (spec.mean, spec.std))
    reference = logits(model, pixels)
    damaged = load_model("bundled").model.eval()
    with torch.no_grad():
        damaged.get_parameter("blocks.6.mlp.fc2.weight").mul_(2)
    outputs = {
        "nothing": reference,
        "BGR": logits(model, pixels.flip(1)),
        "swapped": logits(model, (pixels * std + mean - std) / mean),
        "layer": logits(damaged, pixels),
    }
    codes = {}
    for fault, output in outputs.items():
        result = measured(reference, output, labels)
        codes[fault] = judge_report(report(result), read_thresholds(DEFAULT)).exit_code
    assert codes == {"nothing": 0, "BGR": 1, "swapped": 1, "layer": 1}
    shuffled = measured(reference, reference, np.random.default_rng(0).permutation(labels))
    assert judge_report(report(shuffled), read_thresholds(DEFAULT)).exit_code == 1


def logits(model: torch.nn.Module, pixels: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return torch.cat([model(batch) for batch in pixels.split(10)]).numpy()


def measured(reference: np.ndarray, output: np.ndarray, labels: np.ndarray) -> ArtefactResult:
    """A result of the bundled model's int8 file with the figures of these outputs."""
    close = closeness(reference, output, classes=True)
    right_float, right = (found.argmax(1) == labels for found in (reference, output))
    lost, won = int((right_float & ~right).sum()), int((right & ~right_float).sum())
    return replace(
        GOOD,
        weights_sha256=bundled_weights(),
        images=len(labels),
        labelled=len(labels),
        top1=100 * float(right.mean()),
        top1_float=100 * float(right_float.mean()),
        top1_drop=100 * (lost - won) / len(labels),
        top1_drop_ci95=drop_interval(lost, won, len(labels)),
        agreement=close.agreement,
        snr_db=min(close.snr_db, 200.0),
        cosine_worst=close.cosine,
    )


# The command


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a good report, a bad one, and limits."""
    write_report(report(GOOD), tmp_path / "good.json")
    write_report(report(replace(GOOD, snr_db=3.0)), tmp_path / "bad.json")
    (tmp_path / "t.toml").write_text(
        rule("min_snr_db = 20\nmin_images = 100\n[baseline]\nmax_snr_db_decrease = 1\n")
    )
    return tmp_path


def test_command_passes(files: Path, command_line: CommandLine) -> None:
    done = command_line("gate", files / "good.json", "--thresholds", files / "t.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"my_model\.int8\.bin +min_snr_db +24 +20 +passed", done.stdout)
    assert "all 2 limits hold" in done.stdout
    assert "no --baseline was given" in done.stdout


def test_command_fails(
    files: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(files / "summary.md"))
    junit = files / "gate.xml"
    arguments = (files / "bad.json", "--thresholds", files / "t.toml")
    done = command_line(
        "gate",
        *arguments,
        "--baseline",
        files / "good.json",
        "--junit",
        junit,
        "--html",
        files / "r.html",
    )
    assert (done.returncode, done.stderr) == (1, "")
    line = "failed: my_model.int8.bin: min_snr_db: 3 dB, limit at least 20 dB, 17 dB too little"
    assert line in done.stdout
    assert (
        "baseline.max_snr_db_decrease: 3 dB, was 24 dB; worse by 21 dB, limit 1 dB" in done.stdout
    )
    suites = ET.parse(junit).getroot()  # noqa: S314 - our own file
    assert {
        case.get("name") for case in suites.iter("testcase") if case.find("failure") is not None
    } == {
        "min_snr_db",
        "baseline.max_snr_db_decrease",
    }
    for written in ("summary.md", "r.html"):
        assert "2 of 3 limits do not hold" in (files / written).read_text()


def test_command_says_what_is_new(files: Path, command_line: CommandLine) -> None:
    new = replace(GOOD, path="new.bin", target="beta")
    write_report(report(GOOD, new), files / "now.json")
    done = command_line(
        *("gate", files / "now.json", "--thresholds", files / "t.toml"),
        *("--baseline", files / "good.json"),
    )
    assert done.returncode == 0
    assert "new.bin is new" in done.stdout


def null_snr(folder: Path) -> None:
    data = json.loads((folder / "good.json").read_text())
    data["artefacts"][0]["snr_db"] = float("nan")
    (folder / "good.json").write_text(json.dumps(data))


UNJUDGED = {
    "no report": (lambda f: (f / "good.json").unlink(), "report", "does not exist"),
    "no thresholds": (lambda f: (f / "t.toml").unlink(), "thresholds", "does not exist"),
    "NaN": (null_snr, "good.json", "it holds NaN"),
    "too few photos": (
        lambda f: (f / "t.toml").write_text(rule("min_images = 301")),
        "could not judge",
        "validate on more",
    ),
    "no match": (
        lambda f: (f / "t.toml").write_text(rule("precision = 'fp32'\nmin_images = 1")),
        "could not judge",
        "no rule matches my_model.int8.bin",
    ),
}


@pytest.mark.parametrize("case", UNJUDGED)
def test_command_could_not_judge(case: str, files: Path, command_line: CommandLine) -> None:
    damage, first, second = UNJUDGED[case]
    damage(files)
    done = command_line("gate", files / "good.json", "--thresholds", files / "t.toml")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert first in done.stderr
    assert second in done.stderr


# docs/gate.md


def document() -> str:
    return (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")


def test_the_document_explains_every_limit() -> None:
    named = re.findall(r"^\| `((?:max|min)_\w+)` \|", document(), re.M)
    assert sorted(named) == sorted([*LIMITS, ARM64, *DEVICE_LIMITS, *BASELINE])


def test_the_documents_example_is_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", document(), re.DOTALL)
    (tmp_path / "t.toml").write_text(example)
    (found,) = read_thresholds(tmp_path / "t.toml").rules
    assert (found.artefact, found.precision) == ("my_model.*", "int8")
    assert found.limits == {"min_images": 200, "min_snr_db": 20, "max_top1_drop_certain": 1}


def test_the_documents_table_of_chance_is_computed() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \| (.*) \| (.*) \|$", document(), re.M)
    assert [int(row[0]) for row in rows] == [100, 200, 400, 1000, 5000]
    for text, *cells in rows:
        photos = int(text)
        agreement = 100 * binom.ppf(0.001, photos, 0.98) / photos
        low, high = drop_interval(photos // 100, photos // 100, photos)
        certain = next(n for n in range(photos) if drop_interval(n, 0, photos)[0] > 2.0)
        expected = [
            f"{agreement:.1f} %",
            f"{low:.1f} to {high:.1f}",
            f"{100 * certain / photos:.1f}",
        ]
        assert cells == expected
