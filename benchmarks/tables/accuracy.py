"""Accuracy figures of one artefact, and whether the bars on them hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge_deit.metrics.outputs import closeness

__all__ = ["ACCURACY_BARS", "SIZE_LIMIT", "AccuracyBar", "judge_accuracy", "score"]

_RESAMPLES: Final = 10_000

SIZE_LIMIT: Final = 0.29
"""The largest share of its fp32 file that a file with 8-bit weights may have."""


@dataclass(frozen=True)
class AccuracyBar:
    """What our file of a precision must reach on each of the targets.

    `agreement` is the least share of photos with float's argmax, in percent; `snr_db` the least logit SNR;
    `drop` the most top-1 that may be lost, in points; `size` the largest share of its fp32 file.
    """

    precision: str
    targets: tuple[str, ...]
    agreement: float
    snr_db: float
    drop: float
    size: float = SIZE_LIMIT


ACCURACY_BARS: Final = (
    AccuracyBar("fp16", ("executorch", "coreml", "tflite", "onnx"), 99.0, 45.0, 0.4, 0.51),
    AccuracyBar("int8", ("executorch", "coreml", "coreai", "tflite", "onnx"), 98.0, 25.0, 0.7),
    AccuracyBar("int8-dynamic", ("executorch", "tflite", "onnx"), 98.5, 26.0, 0.4),
    AccuracyBar("int8-full", ("tflite",), 97.5, 19.0, 1.5, 0.3),
    AccuracyBar("int4", ("executorch", "tflite", "onnx"), 96.0, 15.0, 1.0, 0.17),
    AccuracyBar("palettized-6", ("coreml", "coreai"), 99.0, 24.0, 0.7, 0.21),
    AccuracyBar("palettized-4", ("coreml", "coreai"), 96.0, 15.0, 1.0, 0.17),
)


def score(reference: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Figures of logits (M, K) against the float model's; top-1 in percent, its drop in points.

    The drop's 95 % interval is a bootstrap over photos, paired: both models see the same ones.
    """
    found = closeness(reference, logits, classes=True)
    right_float = reference.argmax(1) == labels  # (M,)
    right = logits.argmax(1) == labels  # (M,)
    lost = 100.0 * (right_float.astype(float) - right)
    drawn = np.random.default_rng(0).integers(0, len(lost), (_RESAMPLES, len(lost)))
    interval = np.percentile(lost[drawn].mean(axis=1), (2.5, 97.5))
    return {
        "images": found.images,
        "agreement": found.agreement,
        "snr_db": found.snr_db if np.isfinite(found.snr_db) else None,
        "cosine": found.cosine,
        "top1": 100.0 * float(right.mean()),
        "top1_float": 100.0 * float(right_float.mean()),
        "top1_drop": float(lost.mean()),
        "top1_drop_ci95": [float(value) for value in interval],
    }


def judge_accuracy(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each bar on each of its targets, figure by figure; `holds` is None where nothing was measured."""
    named = {row["name"]: row for row in rows}
    verdicts = []
    for bar in ACCURACY_BARS:
        for target in bar.targets:
            name = f"ours/{target}/{bar.precision}"
            row = named.get(name)
            share = None if row is None else 100 * row["agreement"]
            get = {} if row is None else row
            verdicts += [
                _verdict(name, "same argmax", share, ">=", bar.agreement, "%", 2),
                _verdict(name, "logit SNR", get.get("snr_db"), ">=", bar.snr_db, "dB", 1),
                _verdict(name, "top-1 drop", get.get("top1_drop"), "<=", bar.drop, "points", 2),
                _verdict(name, "size / fp32", get.get("size_ratio"), "<=", bar.size, "", 3),
            ]
    return verdicts


def _verdict(
    artefact: str,
    figure: str,
    value: float | None,
    relation: str,
    limit: float,
    unit: str,
    digits: int,
) -> dict[str, Any]:
    holds = None
    if value is not None:
        holds = value >= limit if relation == ">=" else value <= limit
    return {
        "artefact": artefact,
        "figure": figure,
        "value": value,
        "relation": relation,
        "limit": limit,
        "unit": unit,
        "digits": digits,
        "holds": holds,
    }
