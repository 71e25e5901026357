"""How far an artefact's outputs are from the float model's.

Shapes: M images, K classes; an output of the features task is flattened to K = N * D first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_deit.common.errors import EdgeDeitError

__all__ = [
    "EQUAL_DB",
    "Closeness",
    "aligned",
    "closeness",
    "decibels",
    "kl_divergence",
    "softmax",
    "top_k",
]

EQUAL_DB: Final = 200.0
"""The signal-to-noise ratio that stands for equal outputs; float32 cannot come near it otherwise."""


@dataclass(frozen=True)
class Closeness:
    """Agreement of two sets of outputs on the same images.

    `cosine` is the lowest over the images, `cosine_all` that of all outputs as one vector, `snr_db`
    10 log10(signal power / noise power) over all of them (infinite when equal), `agreement` the share of
    images with the same largest output (None for features), `max_abs` the largest single difference.
    """

    images: int
    cosine: float
    cosine_all: float
    snr_db: float
    agreement: float | None
    max_abs: float


def closeness(reference: np.ndarray, actual: np.ndarray, *, classes: bool) -> Closeness:
    """Compare outputs (M, K), in float64.

    Raises:
        EdgeDeitError: different shapes, or a value that is not finite.
    """
    if reference.shape != actual.shape:
        raise EdgeDeitError(f"output has shape {actual.shape}, the float model's {reference.shape}")
    for name, values in (("the float model's output", reference), ("the output", actual)):
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise EdgeDeitError(f"{name} holds {bad} values that are NaN or infinite")
    a = reference.reshape(len(reference), -1).astype(np.float64)
    b = actual.reshape(len(actual), -1).astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    dots = (a * b).sum(axis=1)
    cosine = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    signal, noise = float((a**2).sum()), float(((a - b) ** 2).sum())
    snr_db = float("inf") if noise == 0 else 10 * float(np.log10(max(signal, 1e-300) / noise))
    same = float((a.argmax(1) == b.argmax(1)).mean()) if classes else None
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    pooled = float((a * b).sum()) / lengths if lengths > 0 else 0.0
    largest = float(np.abs(a - b).max())
    return Closeness(len(a), float(cosine.min()), pooled, snr_db, same, largest)


def aligned(reference: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """`actual` (..., K) with the mean of `reference`: logits that are known up to a constant.

    >>> aligned(np.array([1.0, 3.0]), np.array([-2.0, 0.0])).tolist()
    [1.0, 3.0]
    """
    shift = reference.mean(-1, keepdims=True) - actual.mean(-1, keepdims=True)
    return np.asarray(actual + shift)


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise), at most `EQUAL_DB`.

    >>> decibels(100.0, 1.0)
    20.0
    >>> decibels(1.0, 0.0)
    200.0
    """
    if noise <= signal * 10 ** (-EQUAL_DB / 10):
        return EQUAL_DB
    return 10 * math.log10(max(signal, 1e-300) / noise)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of (K,) logits, computed in float64.

    >>> softmax(np.array([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    shifted = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(shifted / shifted.sum())


def kl_divergence(reference: np.ndarray, logits: np.ndarray) -> float:
    """Kullback-Leibler divergence of the softmax of (K,) `logits` from that of `reference`, in nats.

    Computed in float64 (Kullback and Leibler, "On information and sufficiency", 1951); 0 for equal outputs.

    >>> round(kl_divergence(np.array([0.0, 0.0]), np.array([0.0, np.log(3.0)])), 4)
    0.1438
    """
    ours, theirs = _log_softmax(reference), _log_softmax(logits)
    return max(0.0, float((np.exp(ours) * (ours - theirs)).sum()))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - float(logits.max())
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def top_k(logits: np.ndarray, k: int) -> list[int]:
    """Indices of the k largest of (K,) logits; of equal ones the lower index comes first.

    >>> top_k(np.array([1.0, 3.0, 3.0, 2.0]), 3)
    [1, 2, 3]
    """
    return [int(index) for index in np.argsort(-logits, kind="stable")[:k]]
