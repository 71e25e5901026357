"""What an export starts from: the weights, the calibration photos, and space for the files."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edge_deit import assets
from edge_deit.checkpoint.load import Checkpoint
from edge_deit.checkpoint.options import LoadOptions
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Progress
from edge_deit.data.calibration import CalibrationSet, calibration_set
from edge_deit.data.label_choice import LabelChoice
from edge_deit.data.labels import model_labels
from edge_deit.model.config import Task

__all__ = ["calibration_photos", "check_space", "load_named"]


def load_named(
    weights: str | Checkpoint,
    model: str | None,
    task: Task | None,
    image_size: int | None,
    options: LoadOptions | None,
    choice: LabelChoice | None,
    progress: Progress,
) -> Checkpoint:
    """The checkpoint with the names of its classes, `choice` being those that the user gave.

    Raises:
        EdgeDeitError: as loading it, or options for one that is loaded already.
    """
    checkpoint = _load(weights, model, task, image_size, options)
    for line in checkpoint.assumptions:
        progress.note(line)
    return replace(checkpoint, labels=model_labels(checkpoint.labels, choice))


def _load(
    weights: str | Checkpoint,
    model: str | None,
    task: Task | None,
    image_size: int | None,
    options: LoadOptions | None,
) -> Checkpoint:
    if isinstance(weights, str):
        chosen = options or LoadOptions()
        return chosen.load(weights, model, image_size=image_size, task=task)
    if (model, task, image_size, options) != (None, None, None, None):
        raise EdgeDeitError(
            "a loaded checkpoint has its variant, task, image size and options; give them to load_model"
        )
    return weights


def calibration_photos(
    checkpoint: Checkpoint, folder: Path | None, count: int, progress: Progress
) -> CalibrationSet:
    with ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(assets.calibration_folder())
        found = calibration_set(folder, checkpoint.preprocess, count)
    for line in found.remarks():
        progress.note(line)
    return found


def check_space(checkpoint: Checkpoint, output: Path) -> None:
    need = 6 * checkpoint.size_bytes
    free = shutil.disk_usage(output).free
    if free < need:
        raise EdgeDeitError(
            f"{output} has {free / 1e6:.0f} MB free, an export needs about {need / 1e6:.0f} MB; "
            "free some space or choose another --output"
        )
