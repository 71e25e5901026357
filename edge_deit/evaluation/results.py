"""From what was counted and timed to the figures of a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_deit.artefacts.artefact import Artefact
from edge_deit.artefacts.float_model import FloatModel
from edge_deit.artefacts.manifest import Manifest
from edge_deit.evaluation.accuracy import Evaluation
from edge_deit.evaluation.tally import Tally
from edge_deit.metrics.paired import drop_interval, mcnemar
from edge_deit.metrics.ratios import ratio_of_medians
from edge_deit.report.figure import Needs
from edge_deit.report.report import ArtefactResult, DataResult, Layers
from edge_deit.report.result import FIGURES

__all__ = ["Measured", "Timing", "artefact_result", "calibration_hashes", "data_result"]

_NO_LABELS = "the photos have no labels"
_NO_HASHES = "the manifest does not say which photos it was calibrated with: export it again"
_NOT_ASKED = "not measured: --no-latency"


@dataclass(frozen=True)
class Timing:
    """Milliseconds (R,) of an artefact and of the float model in the same rounds, and what loading took.

    `loading` holds `load_ms` and `peak_rss_bytes`, None where the system does not tell.
    """

    times: np.ndarray
    float_times: np.ndarray
    loading: Mapping[str, float | None]


@dataclass(frozen=True)
class Measured:
    """All that was measured of one artefact; `notes` holds the reason for each thing that was not.

    `overlap` counts the photos that it was calibrated with, None where its manifest does not say which
    those were.
    """

    artefact: Artefact
    tally: Tally
    runner: str
    threads: int
    timing: Timing | None = None
    layers: Layers | None = None
    overlap: int | None = None
    notes: Mapping[str, str] = field(default_factory=dict)


def calibration_hashes(manifest: Manifest) -> frozenset[str] | None:
    """sha256 of the photo files that an artefact was calibrated with; none for a float precision.

    None where the manifest does not say.
    """
    calibration = manifest.calibration
    if calibration is None:
        return frozenset() if manifest.precision.startswith("fp") else None
    found = calibration.get("photo_sha256")
    return None if found is None else frozenset(found)


def data_result(seen: Evaluation, source: str, split: str | None) -> DataResult:
    """The photos of an evaluation; `source` is what the user called them."""
    return DataResult(
        source=source,
        split=split,
        images=seen.images,
        labelled=seen.labelled,
        classes=len(seen.classes),
        sha256=seen.digest.hexdigest(),
        broken=tuple(seen.broken),
    )


def artefact_result(measured: Measured, float_model: FloatModel) -> ArtefactResult:
    """The report's entry; a figure without a value has its reason in `notes`."""
    artefact, tally = measured.artefact, measured.tally
    manifest = artefact.manifest
    accuracy, timing = _accuracy(tally), _timing(measured.timing)
    return ArtefactResult(
        path=str(artefact.path),
        sha256=manifest.sha256,
        target=manifest.target,
        backend=manifest.backend,
        precision=manifest.precision,
        model=manifest.model,
        weights_sha256=manifest.weights["sha256"],
        runner=measured.runner,
        images=tally.images,
        labelled=tally.labelled,
        agreement=tally.agreed / tally.images,
        snr_db=tally.snr_db,
        snr_db_worst=tally.snr_worst,
        cosine=tally.cosine_sum / tally.images,
        cosine_worst=tally.cosine_worst,
        kl_divergence=tally.kl_sum / tally.images,
        worst_image=tally.worst_image,
        threads=measured.threads,
        size_bytes=manifest.size_bytes,
        size_float_bytes=float_model.checkpoint.size_bytes,
        classes=tally.classes,
        flips=tuple(tally.flips),
        flips_total=tally.flips_total,
        calibration_overlap=measured.overlap,
        scatter=tuple(tally.points),
        layers=measured.layers,
        device=(),
        arm64=None,
        notes=_notes(measured, accuracy, timing),
        **accuracy,
        **timing,
    )


def _notes(
    measured: Measured, accuracy: Mapping[str, Any], timing: Mapping[str, Any]
) -> dict[str, str]:
    """The reason for each figure that is null."""
    notes = dict(measured.notes)
    for figures, reason in (
        (accuracy, _NO_LABELS),
        (timing, notes.pop("timing", _NOT_ASKED)),
    ):
        notes |= {name: reason for name, value in figures.items() if value is None}
    if measured.overlap is None:
        notes["calibration_overlap"] = _NO_HASHES
    if not measured.tally.classes:
        notes["classes"] = _NO_LABELS
    if measured.timing is not None and timing["peak_rss_bytes"] is None:
        notes["peak_rss_bytes"] = "this system does not tell a process's peak memory"
    return notes


def _absent(needs: Needs) -> dict[str, Any]:
    """The figures that need this, all None."""
    return {name: None for name, figure in FIGURES.items() if figure.needs == needs}


def _accuracy(tally: Tally) -> dict[str, Any]:
    """Figures that need labels, all None where no photo has one."""
    if not tally.labelled:
        return _absent("labels")
    lost, won, images = tally.lost, tally.won, tally.labelled
    return {
        "top1": 100 * tally.right / images,
        "top5": 100 * tally.right5 / images,
        "top1_float": 100 * tally.right_float / images,
        "top5_float": 100 * tally.right5_float / images,
        "top1_drop": 100 * (lost - won) / images,
        "top1_drop_ci95": drop_interval(lost, won, images),
        "lost": lost,
        "won": won,
        "mcnemar_p": mcnemar(lost, won),
    }


def _timing(timing: Timing | None) -> dict[str, Any]:
    """Figures of speed and memory, all None without a measurement."""
    if timing is None:
        return _absent("timing")
    ratio = ratio_of_medians(timing.times, timing.float_times)
    peak = timing.loading["peak_rss_bytes"]
    return {
        "latency_ms_p50": float(np.median(timing.times)),
        "latency_ms_p90": float(np.percentile(timing.times, 90)),
        "latency_float_ms_p50": float(np.median(timing.float_times)),
        "latency_ratio": ratio.value,
        "latency_ratio_ci95": (ratio.low, ratio.high),
        "latency_runs": len(timing.times),
        "load_ms": timing.loading["load_ms"],
        "peak_rss_bytes": None if peak is None else int(peak),
    }
