"""Teachers of distillation: a DeiT checkpoint, another image classifier, a `.pt2` or a TorchScript file.

Shapes: B images, K classes.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from edge_deit.checkpoint.classifier_folder import classifier_folder, read_classifier
from edge_deit.checkpoint.load import load_model
from edge_deit.checkpoint.pixel_form import PixelForm
from edge_deit.checkpoint.sources import locate
from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.common.files import hash_path
from edge_deit.common.opening import check_regular
from edge_deit.common.progress import SILENT, Progress
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.training.adapted import Adapted
from edge_deit.training.classifier import build_classifier
from edge_deit.training.recipe import Teacher
from edge_deit.training.teacher_archive import check_archive
from edge_deit.training.teacher_classes import class_places

__all__ = ["Guide", "checkpoint_teacher", "file_teacher"]

_CPU: Final = torch.device("cpu")
_REFUSALS: Final = (  # what a program raises for a batch or a size that it was not made for
    RuntimeError, AssertionError, ValueError, TypeError, IndexError, AttributeError,
)  # fmt: skip


class Guide:
    """A teacher that takes any batch and returns one tensor of logits.

    A program that was made for one photo gets the photos of a batch one by one; of several outputs the
    first counts, or the one called `logits`. Both are said once. `key` is a hash of what it is, which a
    resumed run has to repeat; `remedy` is what to do where it does not take the student's photos.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        progress: Progress = SILENT,
        *,
        key: str = "",
        remedy: str = "export it for this size, or train at its own (--image-size)",
    ) -> None:
        self._name, self._model, self._progress = name, model, progress
        self.key, self._remedy = key, remedy
        self._one_by_one = False
        self._said = False

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, K)."""
        if self._one_by_one:
            return self._each(pixels)
        return self._logits(self._model(pixels))

    def check(self, pixels: Tensor, classes: int) -> None:
        """Try it on a batch (B, 3, H, W) before training begins.

        Raises:
            EdgeDeitError: it does not take such photos, or returns something else than (B, `classes`).
        """
        shape = (len(pixels), classes)
        try:
            found = self(pixels)
            if tuple(found.shape) != shape and len(pixels) > 1:
                raise ValueError(f"it returns {tuple(found.shape)} for {len(pixels)} photos")
        except _REFUSALS as error:
            self._one_by_one = True
            try:
                found = self(pixels)
            except _REFUSALS:
                raise EdgeDeitError(
                    f"teacher {self._name} does not take photos of {tuple(pixels.shape[1:])}: "
                    f"{first_line(error)}; {self._remedy}"
                ) from error
            self._progress.note(
                f"teacher {self._name} takes one photo at a time: each batch is split for it"
            )
        if tuple(found.shape) != shape:
            raise EdgeDeitError(
                f"the teacher returns {tuple(found.shape)} for {len(pixels)} photos, the student has "
                f"{classes} classes; both need the same classes"
            )
        if not torch.isfinite(found).all():
            raise EdgeDeitError(f"teacher {self._name} returns NaN or infinite logits")

    def _each(self, pixels: Tensor) -> Tensor:
        return torch.cat([self._logits(self._model(photo)) for photo in pixels.split(1)])  # type: ignore[no-untyped-call]

    def _logits(self, found: Any) -> Tensor:
        if not isinstance(found, Tensor):
            if isinstance(found, Mapping):
                key = "logits" if "logits" in found else next(iter(found), None)
                which, inner = f"output {key!r}", found.get(key)
            elif isinstance(found, tuple | list) and found:
                which, inner = "the first output", found[0]
            else:
                which, inner = "nothing", None
            if not isinstance(inner, Tensor):
                raise TypeError(f"it returns {type(found).__name__}, not a tensor of logits")
            if not self._said:
                self._said = True
                self._progress.note(
                    f"teacher {self._name} returns several values: {which} is taken as the logits"
                )
            found = inner
        logits: Tensor = found if found.ndim != 1 else found[None]
        return logits


def checkpoint_teacher(
    weights: str,
    spec: PreprocessSpec,
    classes: Sequence[str],
    progress: Progress = SILENT,
    device: torch.device = _CPU,
) -> Guide:
    """Weights as teacher: what `load_model` takes, or a folder (or `hub:`) of another image classifier.

    Pixels that `spec` normalises are normalised, and sized, as the teacher is used to; its outputs are
    those of `classes`, matched by name. What was assumed or left out is said.

    Raises:
        EdgeDeitError: weights that cannot be loaded or classify nothing, or other classes.
    """
    with progress.task("teacher"):
        model, form, names, sha256 = _load_weights(weights, progress)
    outputs = len(names)
    places, lines = class_places(weights, names, classes, outputs)
    given = PixelForm.of(spec)
    if form.side != given.side:
        lines += (
            f"assumed: teacher {weights} takes the student's crops scaled from {given.side} to {form.side} "
            "pixels a side (bicubic, antialiased)",
        )
    for line in lines:
        progress.note(line)
    adapted = Adapted(model, given, form, places, outputs).eval().to(device)
    told = json.dumps([sha256, asdict(form), places])
    key = hashlib.sha256(told.encode()).hexdigest()
    return Guide(weights, adapted, progress, key=key, remedy="its files say that it takes them")


def _load_weights(
    weights: str, progress: Progress
) -> tuple[nn.Module, PixelForm, tuple[str, ...], str]:
    """The model, its pixels, the names of its classes (their numbers where it has none), its hash."""
    try:
        if weights.endswith(".pt2"):
            raise EdgeDeitError(f"{weights} is a program, not weights; give it as --teacher")
        path = locate(weights, None) if weights != "bundled" else None
        folder = classifier_folder(path) if path else None
        if folder is not None:
            found = read_classifier(folder)
            model, names = build_classifier(found, weights, progress)
            form, sha256, notes = found.form, found.sha256, found.notes
        else:
            checkpoint = load_model(str(path) if path else weights)
            if not checkpoint.config.num_classes:
                raise EdgeDeitError(f"{weights} has no classifier; give one that has")
            model, names = checkpoint.model.requires_grad_(False), checkpoint.labels
            form, sha256 = PixelForm.of(checkpoint.preprocess), checkpoint.sha256
            notes = checkpoint.assumptions
    except EdgeDeitError as error:
        text = str(error)
        raise EdgeDeitError(text if text.startswith("teacher ") else f"teacher: {text}") from error
    for line in notes:
        progress.note(f"teacher {weights}: {line.removesuffix('; --preprocessing changes it')}")
    return model, form, names, sha256


def file_teacher(
    path: Path, *, trusted: bool, progress: Progress = SILENT, device: torch.device = _CPU
) -> Guide:
    """A teacher from a file; it takes the student's normalised pixels, on `device`.

    A `.pt2` archive is checked before torch reads it (`training.teacher_archive`). TorchScript is a program
    that can do anything, so it needs `trusted`.

    Raises:
        EdgeDeitError: a missing, unreadable or refused file.
    """
    check_regular(path, "teacher", "give a .pt2 file; a folder of weights is --teacher-weights")
    if path.suffix == ".pt2":
        check_archive(path)
    elif not trusted:
        raise EdgeDeitError(
            f"teacher {path} is TorchScript if anything, a program that can do whatever it likes when it "
            "is loaded; say --trust-teacher if you trust whoever made it, or give a .pt2 file or a DeiT "
            "checkpoint (--teacher-weights)"
        )
    try:
        return Guide(str(path), _load(path, device), progress, key=hash_path(path))
    except (
        *(RuntimeError, ValueError, KeyError, OSError, AttributeError, TypeError, AssertionError),
        *(EOFError, pickle.UnpicklingError, IndexError, NotImplementedError),
    ) as error:
        raise EdgeDeitError(
            f"teacher {path} is neither an ExportedProgram (.pt2) nor TorchScript: {first_line(error)}"
        ) from error


def _load(path: Path, device: torch.device) -> Teacher:
    if path.suffix == ".pt2":
        program = torch.export.load(path)
        if device != _CPU:
            program = move_to_device_pass(program, device)
        return program.module()
    return torch.jit.load(path, map_location=device).eval()  # type: ignore[no-any-return,no-untyped-call]
