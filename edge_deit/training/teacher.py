"""Teachers of distillation: a DeiT checkpoint, an ExportedProgram (`.pt2`) or a TorchScript file.

Shapes: B images, K classes.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from edge_deit.checkpoint.load import load_model
from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.common.opening import check_regular
from edge_deit.common.progress import SILENT, Progress
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.training.recipe import Teacher
from edge_deit.training.teacher_archive import check_archive

__all__ = ["Guide", "checkpoint_teacher", "file_teacher"]

_CPU: Final = torch.device("cpu")
_REFUSALS: Final = (  # what a program raises for a batch or a size that it was not made for
    RuntimeError, AssertionError, ValueError, TypeError, IndexError, AttributeError,
)  # fmt: skip


class Guide:
    """A teacher that takes any batch and returns one tensor of logits.

    A program that was made for one photo gets the photos of a batch one by one; of several outputs the
    first counts, or the one called `logits`. Both are said once.
    """

    def __init__(self, name: str, model: Any, progress: Progress = SILENT) -> None:
        self._name, self._model, self._progress = name, model, progress
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
                    f"{first_line(error)}; export it for this size, or train at its own (--image-size)"
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
    progress: Progress = SILENT,
    device: torch.device = _CPU,
) -> Guide:
    """A DeiT checkpoint as teacher; pixels normalised as `spec` says are normalised as it is used to.

    Raises:
        EdgeDeitError: weights that cannot be loaded, or that take photos of another size.
    """
    checkpoint = load_model(weights)
    if not checkpoint.config.num_classes:
        raise EdgeDeitError(f"teacher {weights} has no classifier; give one that has")
    if checkpoint.config.image_size != spec.crop_size:
        raise EdgeDeitError(
            f"teacher {weights} takes {checkpoint.config.image_size} pixels a side, the student "
            f"{spec.crop_size}; train at the teacher's size: --image-size {checkpoint.config.image_size}"
        )
    own = checkpoint.preprocess
    model: nn.Module = checkpoint.model
    if (own.mean, own.std) != (spec.mean, spec.std):
        model = nn.Sequential(_Renormalise(spec, own), model).eval()
    return Guide(weights, model.to(device), progress)


class _Renormalise(nn.Module):
    """Pixels as one preprocessing normalises them -> as another does: (B, 3, H, W) both."""

    scale: Tensor
    shift: Tensor

    def __init__(self, given: PreprocessSpec, wanted: PreprocessSpec) -> None:
        super().__init__()
        std, mean = (torch.tensor(v).view(3, 1, 1) for v in (given.std, given.mean))
        own_std, own_mean = (torch.tensor(v).view(3, 1, 1) for v in (wanted.std, wanted.mean))
        self.register_buffer("scale", std / own_std)
        self.register_buffer("shift", (mean - own_mean) / own_std)

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels * self.scale + self.shift


def file_teacher(
    path: Path, *, trusted: bool, progress: Progress = SILENT, device: torch.device = _CPU
) -> Guide:
    """A teacher from a file; it takes the student's normalised pixels, on `device`.

    A `.pt2` archive is checked before torch reads it (`training.teacher_archive`). TorchScript is a program
    that can do anything, so it needs `trusted`.

    Raises:
        EdgeDeitError: a missing, unreadable or refused file.
    """
    check_regular(path, "teacher", "give a .pt2 file")
    if path.suffix == ".pt2":
        check_archive(path)
    elif not trusted:
        raise EdgeDeitError(
            f"teacher {path} is TorchScript if anything, a program that can do whatever it likes when it "
            "is loaded; say --trust-teacher if you trust whoever made it, or give a .pt2 file or a DeiT "
            "checkpoint (--teacher-weights)"
        )
    try:
        return Guide(str(path), _load(path, device), progress)
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
