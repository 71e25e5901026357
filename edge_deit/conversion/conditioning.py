"""The conditioned form that integer files start from, made when the first of them is."""

from __future__ import annotations

from edge_deit.checkpoint.load import Checkpoint
from edge_deit.common.progress import Progress
from edge_deit.data.calibration import CalibrationSet
from edge_deit.model.form import DeployDeiT
from edge_deit.quantization.condition import (
    Conditioned,
    condition,
    condition_without_photos,
    passes,
)

__all__ = ["find_conditioned"]


def find_conditioned(
    form: DeployDeiT, checkpoint: Checkpoint, photos: CalibrationSet | None, progress: Progress
) -> Conditioned:
    """Condition `form` on the photos; without any its ranges stay open."""
    if photos is None:
        return condition_without_photos(form, checkpoint.preprocess)
    with progress.task("conditioning", passes(len(photos))) as advance:
        return condition(form, photos, checkpoint.preprocess, on_photo=lambda: advance(1))
