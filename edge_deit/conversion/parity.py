"""The check that ends every export: the artefact against the float model, on real photos."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from torch import Tensor

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters.target import Runner, run_each
from edge_deit.metrics.outputs import Closeness, aligned, closeness
from edge_deit.quantization.scheme import Scheme

__all__ = ["MIN_COSINE_FLOAT", "MIN_COSINE_INT8", "check_batches", "check_parity"]

MIN_COSINE_FLOAT = 0.99
MIN_COSINE_INT8 = 0.9
MIN_COSINE_BATCH = 0.999
_BATCH: Final = 3


def check_parity(
    runner: Runner,
    pixels: Tensor,
    reference: np.ndarray,
    scheme: Scheme,
    *,
    classes: bool,
    up_to_a_constant: bool = False,
    photos: int = 1,
    on_photo: Callable[[], None] = lambda: None,
) -> Closeness:
    """Run the artefact on the photos and compare; `up_to_a_constant` as `metrics.outputs.aligned` has it.

    It gets `photos` at a time, so that each place in a batch has photos of its own.

    Raises:
        EdgeDeitError: an output that is not finite or not alike. Float precisions must reach a cosine of
            0.99 on the worst photo, integer ones 0.9 over all outputs together: with two or three classes
            a single undecided photo has small logits, and a low cosine of its own means nothing.
    """
    actual = run_each(runner, pixels.numpy(), on_photo, photos=photos)
    if up_to_a_constant:
        actual = aligned(reference, actual)
    result = closeness(reference, actual, classes=classes)
    floor, cosine, where = MIN_COSINE_FLOAT, result.cosine, "on the worst of"
    if scheme.quantized or scheme.packed:
        floor, cosine, where = MIN_COSINE_INT8, result.cosine_all, "over all outputs of"
    if not cosine >= floor:
        raise EdgeDeitError(
            f"the exported file is wrong: cosine {cosine:.4f} with the float model {where} "
            f"{result.images} photos, at least {floor} is expected"
            + (
                "; try more --calibration photos or --keep-float"
                if floor == MIN_COSINE_INT8
                else ""
            )
        )
    return result


def check_batches(runner: Runner, pixels: Tensor, scheme: Scheme) -> None:
    """Run the artefact on three photos at once, whose answers must be those of one at a time.

    Where there is one photo, it is taken three times with different brightness.

    Raises:
        EdgeDeitError: an output that is not finite or not alike.
    """
    some = pixels[:_BATCH].numpy()
    if len(some) < _BATCH:
        some = np.concatenate([some[:1] * (1 + 0.1 * step) for step in range(_BATCH)])
    together = np.asarray(runner(some))
    result = closeness(run_each(runner, some), together, classes=False)
    if not result.cosine >= MIN_COSINE_BATCH:
        raise EdgeDeitError(
            f"the exported {scheme.precision} file is wrong for {_BATCH} photos at once: cosine "
            f"{result.cosine:.4f} with its answers one at a time, at least {MIN_COSINE_BATCH} is expected"
        )
