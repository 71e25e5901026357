"""Fine-tuning of a DeiT, with or without a teacher, as a resumable loop.

Source: AdamW, arXiv 1711.05101; `training.recipe` has those of the losses and the schedule.

Shapes: B images, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.listing import Photo
from edge_deit.data.preprocess import PreprocessSpec, load_pixels
from edge_deit.model.deit import DeiT
from edge_deit.training.augment import BrokenPhoto, TrainingPhotos, batches, collate
from edge_deit.training.device import CPU, Compute
from edge_deit.training.recipe import (
    Recipe,
    Teacher,
    learning_rate,
    parameter_groups,
    patch_dropout,
    training_loss,
)
from edge_deit.training.state import RunKey, restore_state, save_state

__all__ = ["accuracy", "train"]

_SAVE_EVERY: Final = 200  # steps


def train(
    model: DeiT,
    photos: list[Photo],
    spec: PreprocessSpec,
    recipe: Recipe,
    key: RunKey,
    *,
    teacher: Teacher | None = None,
    state_path: Path,
    resume: bool = False,
    workers: int = 1,
    compute: Compute = CPU,
    save_every: int = _SAVE_EVERY,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> None:
    """Train `model` in place; `on_step` hears (steps done, steps in all, loss).

    `state_path` receives model, optimizer and step every `save_every` steps and when interrupted; `resume`
    goes on from it. The order of photos and their augmentation depend on the seed, epoch and photo alone,
    so a resumed run sees what an uninterrupted one would have seen.

    Raises:
        EdgeDeitError: unlabelled or broken photos, a label beyond the classes, a state of another run, or a
            loss that is not finite.
    """
    _check_labels(photos, model.config.num_classes)
    steps = recipe.steps(len(photos))
    compute.place(model)
    optimizer = torch.optim.AdamW(parameter_groups(model, recipe.weight_decay))
    scaler = compute.scaler()
    done = restore_state(state_path, model, optimizer, recipe, key, scaler) if resume else 0
    loader = DataLoader(
        TrainingPhotos(photos, spec, recipe),
        batch_sampler=list(batches(len(photos), recipe, done, steps)),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=compute.on_cuda,
    )
    model.train()
    try:
        for batch in loader:
            if isinstance(batch, BrokenPhoto):
                raise EdgeDeitError(f"{batch.message}; repair or remove it")
            pixels, labels = compute.pixels(batch[0]), compute.labels(batch[1])
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(done, steps, recipe)
            with patch_dropout(model, recipe, done), compute.autocast():
                loss = training_loss(model, pixels, labels, teacher, recipe)
            _descend(model, optimizer, scaler, loss, done)
            done += 1
            on_step(done, steps, loss.item())
            if done % save_every == 0:
                save_state(state_path, model, optimizer, recipe, key, done, scaler)
    finally:  # also when interrupted: what was learnt is worth keeping
        if done:
            save_state(state_path, model, optimizer, recipe, key, done, scaler)
    model.eval()


def _descend(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    loss: Tensor,
    done: int,
) -> None:
    """One step down the gradient, which is cut to a norm of 1.

    In float16 a step whose scaled gradients overflow is left out, and the scale is halved.
    """
    if not math.isfinite(loss.item()):
        raise EdgeDeitError(f"loss is {loss.item()} at step {done}; lower --learning-rate")
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()


def _check_labels(photos: list[Photo], num_classes: int) -> None:
    for photo in photos:
        if photo.label is None:
            raise EdgeDeitError(f"{photo.path} has no label; use class folders or a labels.csv")
        if not 0 <= photo.label < num_classes:
            raise EdgeDeitError(
                f"{photo.path} has label {photo.label}, the model has classes 0 to {num_classes - 1}"
            )


def accuracy(
    model: Teacher,
    photos: list[Photo],
    spec: PreprocessSpec,
    on_photo: Callable[[int], None] = lambda count: None,
    batch_size: int = 50,
    compute: Compute = CPU,
) -> float:
    """Top-1 share of correctly classified photos, 0 to 1, with the evaluation preprocessing, in float32."""
    hits = 0
    with torch.inference_mode():
        for start in range(0, len(photos), batch_size):
            part = photos[start : start + batch_size]
            pixels = np.concatenate([load_pixels(photo.path, spec) for photo in part])
            predicted = model(compute.pixels(torch.from_numpy(pixels))).argmax(1).tolist()
            hits += sum(p == photo.label for p, photo in zip(predicted, part, strict=True))
            on_photo(len(part))
    return hits / len(photos)
