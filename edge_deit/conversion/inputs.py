"""What an export starts from: the weights, the photos, and space for the files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import torch
from torch import Tensor

from edge_deit import assets
from edge_deit.checkpoint.load import Checkpoint
from edge_deit.checkpoint.options import LoadOptions
from edge_deit.checkpoint.sources import is_path
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Progress
from edge_deit.common.whereabouts import remember
from edge_deit.conversion.crew import jobs_setting
from edge_deit.conversion.plan import Item
from edge_deit.conversion.trained import photos_needed
from edge_deit.data.calibration import CalibrationSet, calibration_set, read_set
from edge_deit.data.label_choice import LabelChoice
from edge_deit.data.labels import model_labels
from edge_deit.data.listing import pick_evenly
from edge_deit.data.photos import list_photos
from edge_deit.model.config import Task
from edge_deit.model.deploy import deploy

__all__ = [
    "ExportPhotos",
    "check_counts",
    "check_patterns",
    "check_space",
    "export_photos",
    "load_named",
    "note_place",
    "photos_belong",
    "with_labels",
]

_ONE_IN: Final = 5
_LEAST_ASIDE: Final = 4


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


class ExportPhotos(NamedTuple):
    """The photos that calibrate, and pixels (M, 3, H, W) of those that the files are checked on.

    `held_back` says that the latter took no part in the calibration.
    """

    calibration: CalibrationSet
    checked: Tensor
    held_back: bool


def export_photos(
    checkpoint: Checkpoint,
    folder: Path | None,
    *,
    count: int,
    checked: int,
    calibrates: bool,
    progress: Progress,
) -> ExportPhotos:
    """At most `count` photos of the folder that calibrate, and at most `checked` others for the check.

    Of a folder whose photos calibrate one in five is held back for the check, at least four, but never more
    than half. The bundled photos are calibration photos and others already.

    Raises:
        EdgeDeitError: no photo, or a broken one (named).
    """
    spec = checkpoint.preprocess
    with ExitStack() as stack:
        if folder is None:
            found = calibration_set(stack.enter_context(assets.calibration_folder()), spec, count)
            others = list_photos(stack.enter_context(assets.validation_folder()), use="validation")
            return ExportPhotos(found, read_set(others.pick(checked), spec).pixels, held_back=True)
        listing = list_photos(folder, use="calibration")
    for line in listing.remarks():
        progress.note(line)
    aside = min(checked, max(_LEAST_ASIDE, len(listing) // _ONE_IN), len(listing) // 2)
    if not calibrates or not aside:
        found = read_set(listing.pick(count if calibrates else checked), spec)
        few = torch.cat(pick_evenly(list(found), checked))
        return ExportPhotos(found, few, held_back=not calibrates)
    held, rest = listing.pick(count + aside).split_off(aside)
    found, total = read_set(rest, spec), len(held) + len(rest)
    progress.note(
        f"{len(held)} of {total} photos are held back for the check: they calibrate nothing"
    )
    return ExportPhotos(found, read_set(held, spec).pixels, held_back=True)


def check_counts(*counts: int | None, seed: int) -> None:
    """Refuse numbers of photos, threads and processes that are none, and a seed that no generator takes.

    None is a number that was not given.

    Raises:
        EdgeDeitError: a count, or the environment's, is below 1; the seed is negative, or beyond 63 bits.
    """
    if not 0 <= seed < 2**63:
        raise EdgeDeitError(f"--seed is {seed}; it must be from 0 to {2**63 - 1}")
    if any(count is not None and count < 1 for count in counts):
        raise EdgeDeitError(
            "--calibration-images, --parity-images, --threads and --jobs must be at least 1"
        )
    jobs_setting()


def photos_belong(checkpoint: Checkpoint, folder: Path | None, plan: Sequence[Item]) -> bool:
    """Whether the photos are like those that the weights will see; the bundled ones fit the bundled ones.

    Raises:
        EdgeDeitError: they are not, and a file of the plan has ranges that come from them.
    """
    own = folder is not None or checkpoint.source == "bundled"
    needing = photos_needed(checkpoint, plan)
    if not own and needing:
        raise EdgeDeitError(
            f"{needing[0]} needs photos like those the model will see: --calibration DIR (100 are plenty)"
        )
    return own


def note_place(checkpoint: Checkpoint, *, cache: bool) -> None:
    """Note where the weights lie, for later commands: manifests do not say it."""
    if cache and is_path(checkpoint.source):
        remember(checkpoint.sha256, checkpoint.source)


def check_patterns(checkpoint: Checkpoint, plan: Sequence[Item]) -> None:
    """Refuse patterns that match no layer before photos are read.

    Raises:
        EdgeDeitError: it names the pattern, and what layers are called.
    """
    if any(scheme.keep_float for _, scheme, _ in plan):
        form = deploy(checkpoint.model)
        for target, scheme, _ in plan:
            target.fit(scheme, form)


def check_space(checkpoint: Checkpoint, output: Path) -> None:
    need = 6 * checkpoint.size_bytes
    free = shutil.disk_usage(output).free
    if free < need:
        raise EdgeDeitError(
            f"{output} has {free / 1e6:.0f} MB free, an export needs about {need / 1e6:.0f} MB; "
            "free some space or choose another --output"
        )


def with_labels(
    photos: ExportPhotos,
    checkpoint: Checkpoint,
    choice: LabelChoice | None,
    max_drop: float | None,
    progress: Progress,
) -> ExportPhotos:
    """The photos with their classes, where a limit on wrong answers wants them."""
    if max_drop is None:
        return photos
    found = photos.calibration.with_labels(checkpoint.labels, choice)
    progress.note(f"labels of the calibration photos: {found.labels_matched}")
    return photos._replace(calibration=found)
