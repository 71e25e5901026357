"""Fine-tuning of a DeiT, with or without a teacher, as a resumable loop.

Source: AdamW, arXiv 1711.05101; `training.recipe` has those of the losses and the schedule.

Shapes: B images, K classes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.photos import Photo
from edge_deit.data.preprocess import PreprocessSpec, load_pixels
from edge_deit.model.deit import DeiT
from edge_deit.training.augment import TrainingPhotos, _batches
from edge_deit.training.recipe import (
    Recipe,
    Teacher,
    learning_rate,
    parameter_groups,
    patch_dropout,
    training_loss,
)

__all__ = ["accuracy", "load_teacher", "train"]


def train(
    model: DeiT,
    photos: list[Photo],
    spec: PreprocessSpec,
    recipe: Recipe,
    *,
    teacher: Teacher | None = None,
    state_path: Path,
    resume: bool = False,
    workers: int = 1,
    save_every: int = 200,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> None:
    """Train `model` in place; `on_step` hears (steps done, steps in all, loss).

    `state_path` receives model, optimiser and step every `save_every` steps and when interrupted;
    `resume` goes on from it. The order of photos and their augmentation depend on the seed, epoch and
    photo alone, so a resumed run sees what an uninterrupted one would have seen.

    Raises:
        EdgeDeitError: unlabelled photos, a label beyond the classes, a state of another run, or a loss
            that is not finite.
    """
    _check_labels(photos, model.config.num_classes)
    steps = math.ceil(recipe.epochs * math.ceil(len(photos) / recipe.batch_size))
    optimizer = torch.optim.AdamW(parameter_groups(model, recipe.weight_decay))
    done = _restore(state_path, model, optimizer, recipe) if resume else 0
    loader: DataLoader[tuple[Tensor, int]] = DataLoader(
        TrainingPhotos(photos, spec, recipe),
        batch_sampler=list(_batches(len(photos), recipe, done, steps)),
        num_workers=workers,
        persistent_workers=False,
    )
    model.train()
    try:
        for pixels, labels in loader:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(done, steps, recipe)
            with patch_dropout(model, recipe, done):
                loss = training_loss(model, pixels, labels, teacher, recipe)
            if not math.isfinite(loss.item()):
                raise EdgeDeitError(f"loss is {loss.item()} at step {done}; lower --learning-rate")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            done += 1
            on_step(done, steps, loss.item())
            if done % save_every == 0:
                _save(state_path, model, optimizer, recipe, done)
    except KeyboardInterrupt:
        _save(state_path, model, optimizer, recipe, done)
        raise
    _save(state_path, model, optimizer, recipe, done)
    model.eval()


def _check_labels(photos: list[Photo], num_classes: int) -> None:
    for photo in photos:
        if photo.label is None:
            raise EdgeDeitError(f"{photo.path} has no label; use class folders or a labels.csv")
        if not 0 <= photo.label < num_classes:
            raise EdgeDeitError(
                f"{photo.path} has label {photo.label}, the model has classes 0 to {num_classes - 1}"
            )


def _save(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, step: int
) -> None:
    state = {
        "recipe": asdict(recipe),
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    partial = path.with_name(path.name + ".part")
    torch.save(state, partial)
    os.replace(partial, path)


def _restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe) -> int:
    if not path.is_file():
        raise EdgeDeitError(f"nothing to resume: {path} does not exist; leave --resume out")
    state = torch.load(path, weights_only=True)
    if state["recipe"] != asdict(recipe):
        names = [key for key, value in asdict(recipe).items() if state["recipe"].get(key) != value]
        raise EdgeDeitError(
            f"{path} is of a run with another {', '.join(names)}; repeat its options"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def load_teacher(path: Path) -> Teacher:
    """A teacher from an ExportedProgram (`.pt2`) or TorchScript file.

    It takes the student's normalised pixels (B, 3, H, W) and returns logits (B, K).

    Raises:
        EdgeDeitError: missing or unreadable file.
    """
    if not path.is_file():
        raise EdgeDeitError(f"teacher {path} does not exist")
    try:
        if path.suffix == ".pt2":
            return torch.export.load(path).module()
        return torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-any-return,no-untyped-call]
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise EdgeDeitError(
            f"teacher {path} is neither an ExportedProgram (.pt2) nor TorchScript: {reason}"
        ) from error


def accuracy(
    model: Teacher,
    photos: list[Photo],
    spec: PreprocessSpec,
    on_photo: Callable[[int], None] = lambda count: None,
    batch_size: int = 50,
) -> float:
    """Top-1 share of correctly classified photos, 0 to 1, with the evaluation preprocessing."""
    hits = 0
    with torch.inference_mode():
        for start in range(0, len(photos), batch_size):
            part = photos[start : start + batch_size]
            pixels = np.concatenate([load_pixels(photo.path, spec) for photo in part])
            predicted = model(torch.from_numpy(pixels)).argmax(1).tolist()
            hits += sum(p == photo.label for p, photo in zip(predicted, part, strict=True))
            on_photo(len(part))
    return hits / len(photos)
