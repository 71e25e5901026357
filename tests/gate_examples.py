"""An artefact that passes the limits, its report, and rules as the gate reads them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edge_deit.gating.thresholds import Rule, Thresholds
from edge_deit.report.emulated import Emulated
from edge_deit.report.report import ArtefactResult, DataResult, Report
from report_examples import ARM64, artefact

__all__ = ["GOOD", "GOOD_BY_PRECISION", "counted", "one_rule", "report", "rule"]


def counted(**ratios: float | None) -> Emulated:
    """Counts of emulated cores, named with underscores: ratio to fp32."""
    (like,) = ARM64.cpus.values()
    cores = {
        core.replace("_", "-"): replace(like, ratio_to_fp32=ratio) for core, ratio in ratios.items()
    }
    return replace(ARM64, cpus=cores)


GOOD = artefact(
    path="out/my_model.int8.bin",
    sha256="0" * 64,
    target="alpha",
    backend="cpu",
    model="my_model",
    weights_sha256="a" * 64,
    runner="Alpha 1.0",
    top1=78.7,
    top5=95.0,
    top1_float=79.0,
    top5_float=95.0,
    top1_drop=0.3,
    agreement=0.98,
    snr_db=24.0,
    snr_db_worst=12.0,
    cosine=0.998,
    cosine_worst=0.98,
    kl_divergence=0.02,
    worst_image="cat/1.png",
    latency_ms_p50=10.0,
    latency_ms_p90=11.0,
    latency_float_ms_p50=20.0,
    latency_ratio=0.5,
    latency_ratio_ci95=(0.45, 0.55),
    latency_runs=40,
    threads=2,
    load_ms=80.0,
    peak_rss_bytes=150_000_000,
    size_bytes=6_500_000,
    size_float_bytes=23_000_000,
    arm64=counted(cortex_a76=0.35),
)
"""An artefact that holds every limit of the tests, with figures that are easy to work with."""
GOOD_BY_PRECISION = {
    "int8": GOOD,
    "int8-dynamic": replace(GOOD, precision="int8-dynamic", snr_db=28.0, agreement=0.99),
    "int8-full": replace(GOOD, precision="int8-full", snr_db=18.9, agreement=0.95),
    "fp32": replace(GOOD, precision="fp32", snr_db=94.0, agreement=1.0, size_bytes=23_100_000),
    "fp16": replace(GOOD, precision="fp16", snr_db=51.6, agreement=1.0, size_bytes=11_600_000),
}


def report(*artefacts: ArtefactResult, photos: str = "d" * 64) -> Report:
    """A report on 300 photos whose digest is `photos`."""
    data = DataResult("photos", None, 300, 300, 10, photos, ())
    return Report("2026-01-31T12:00:00+00:00", {"cpu": "X", "vnni": None}, data, artefacts)


def one_rule(**limits: Any) -> Thresholds:
    """Limits for every artefact."""
    return Thresholds((Rule(limits=limits),))


def rule(text: str) -> str:
    """The text of thresholds.toml with one rule."""
    return f"[[rule]]\n{text}"
