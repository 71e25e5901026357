"""The loop: steps of AdamW over augmented photos, the end of each epoch, a state that it goes on from.

Source: AdamW, arXiv 1711.05101; `training.recipe` has those of the losses and the schedule.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import torch
from torch import Tensor, nn

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.interrupt import uninterrupted
from edge_deit.data.listing import Photo
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.training.augment import BrokenPhoto, Order, TrainingPhotos, collate
from edge_deit.training.device import CPU, Compute
from edge_deit.training.group import ALONE, Group
from edge_deit.training.kinds import Learning
from edge_deit.training.loading import batches
from edge_deit.training.log import Log
from edge_deit.training.measure import Measured
from edge_deit.training.recipe import (
    BatchLoss,
    Recipe,
    Teacher,
    learning_rate,
    parameter_groups,
)
from edge_deit.training.regularize import left_out, mixed
from edge_deit.training.speaking import training_begins
from edge_deit.training.state import RunKey, restore_state, save_state

__all__ = ["Epochs", "train"]

_SAVE_EVERY: Final = 200  # steps


class Epochs(Protocol):
    """What is done when an epoch ends; an end that was interrupted comes again, with the same weights."""

    def measure(self, model: Learning) -> Measured | None:
        """Validate the weights; None without validation photos."""
        ...

    def keep(self, model: Learning, *, best: bool) -> None:
        """Write the weights down; `best`: none before were better."""
        ...

    def tell(self, log: Log) -> None:
        """Hear of the new row; it is in the state by then."""
        ...


class _Silent:
    """Nothing is done at the end of an epoch."""

    def measure(self, model: Learning) -> Measured | None:
        return None

    def keep(self, model: Learning, *, best: bool) -> None:
        pass

    def tell(self, log: Log) -> None:
        pass


def train(
    model: Learning,
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
    group: Group = ALONE,
    patience: int | None = None,
    save_every: int = _SAVE_EVERY,
    epochs: Epochs | None = None,
    on_start: Callable[[], None] = lambda: None,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> Log:
    """Train `model` in place; `on_step` hears (steps done, steps in all, loss).

    `on_start` is called once everything was checked. `state_path` receives model, optimizer, log and step
    every `save_every` steps, when an epoch ends and when interrupted; `resume` goes on from it. The order
    of photos and their augmentation depend on the seed, epoch and photo alone, so a resumed run sees what
    an uninterrupted one would have seen. Where the recipe averages weights, `model` has the averages at the
    end. After `patience` epochs without a better one it ends.

    Raises:
        EdgeDeitError: unlabelled or broken photos, a label beyond the classes, a state of another run, or a
            loss that is not finite.
    """
    _check_labels(photos, model.config.num_classes)
    run = _Run(compute.place(model), len(photos), recipe, key, compute, state_path, group, teacher)
    epochs = epochs or _Silent()
    if resume:
        run.restore()
    on_start()
    training_begins()
    try:
        if run.at_an_end:  # the interruption came before the end was done
            run.end_epoch(epochs)
        before = time.monotonic()
        for pixels, labels in run.batches(photos, spec, workers, patience):
            loss, mean = run.loss(pixels, labels)
            with uninterrupted():
                count = run.photos_of_step()
                run.descend(loss)
                now = time.monotonic()
                run.log.hear(mean, count, now - before)
            before = now
            on_step(run.done, run.steps, mean)
            if run.at_an_end:
                run.end_epoch(epochs)
                before = time.monotonic()
            elif run.done % save_every == 0:
                run.save()
    finally:  # also when interrupted: what was learnt is worth keeping
        if run.done != run.saved:
            run.save()
    if run.average is not None:
        model.load_state_dict(run.average.state_dict())
    model.eval()
    return run.log


class _Run:
    """A training under way: what changes from step to step, and what stays."""

    def __init__(
        self,
        model: Learning,
        photos: int,
        recipe: Recipe,
        key: RunKey,
        compute: Compute,
        state_path: Path,
        group: Group,
        teacher: Teacher | None,
    ) -> None:
        self.model, self.recipe, self.key = model, recipe, key
        self.compute, self.state_path, self.group = compute, state_path, group
        self.photos, self.stale = photos, 0
        self.lesson = group.together(BatchLoss(model, recipe, teacher))
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model, recipe.weight_decay, recipe.layer_decay)
        )
        self.average = copy.deepcopy(model).requires_grad_(False) if recipe.average else None
        self.scaler = compute.scaler()
        self.log = Log()
        self.done = self.saved = 0
        self.steps, self.per_epoch = recipe.steps(photos), recipe.steps_per_epoch(photos)

    @property
    def at_an_end(self) -> bool:
        """Whether an epoch's steps are done, and its end is not."""
        ended = self.done % self.per_epoch == 0 or self.done == self.steps
        return ended and self.done > self.log.last_step

    def restore(self) -> None:
        self.done = self.saved = restore_state(
            self.state_path, self.model, self.optimizer, self.recipe, self.key,
            self.scaler, self.log, self.average,
        )  # fmt: skip
        self.stale = self.log.stale

    def save(self) -> None:
        if not self.group.leads:
            self.saved = self.done
            return
        save_state(
            self.state_path, self.model, self.optimizer, self.recipe, self.key, self.done,
            self.scaler, self.log, self.average,
        )  # fmt: skip
        self.saved = self.done

    def batches(
        self, photos: list[Photo], spec: PreprocessSpec, workers: int, patience: int | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches that are left, (B, 3, H, W) and (B), until patience is at its end."""
        if patience is not None and self.stale >= patience:
            return
        found = batches(
            TrainingPhotos(photos, spec, self.recipe),
            Order(photos, self.recipe, self.done, self.steps, self.group),
            collate,
            workers=workers,
            pinned=self.compute.on_cuda,
        )
        for batch in found:
            if isinstance(batch, BrokenPhoto):
                raise EdgeDeitError(f"{batch.message}; repair or remove it")
            yield self.compute.pixels(batch[0]), self.compute.labels(batch[1])
            if patience is not None and self.stale >= patience:
                return

    def photos_of_step(self) -> int:
        """Photos of the step that is next, of all processes; an epoch's last one may have fewer."""
        size = self.recipe.batch_size
        return min(size, self.photos - self.done % self.per_epoch * size)

    def loss(self, pixels: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """This process's part of a step's loss with the present weights, and the whole step's mean."""
        self.model.train()
        draw = self.done * self.group.size + self.group.rank
        pixels, labels = mixed(pixels, labels, self.model.config.num_classes, self.recipe, draw)
        with left_out(self.model, self.recipe, draw), self.compute.autocast():
            loss = self.lesson(pixels, labels)
        if self.group.size > 1:
            loss = loss * self.group.weight(self.photos_of_step())
        mean = self.group.mean(loss)
        if not math.isfinite(mean):
            raise EdgeDeitError(f"loss is {mean} at step {self.done}; lower --learning-rate")
        return loss, mean

    def descend(self, loss: Tensor) -> None:
        """One step down the gradient, which is cut to a norm of 1.

        In float16 a step whose scaled gradients overflow is left out, and the scale is halved.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.done, self.steps, self.recipe) * group["scale"]
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.done += 1
        self._follow()

    def _follow(self) -> None:
        """Draw the averaged weights towards the present ones, at first in greater steps."""
        if self.average is None:
            return
        decay = min(self.recipe.average, (1 + self.done) / (10 + self.done))
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
            for mean, now in pairs:
                mean.lerp_(now, 1 - decay)

    @property
    def kept(self) -> Learning:
        """The weights that are measured and kept: the averages, where the recipe has them."""
        return self.model if self.average is None else self.average

    def end_epoch(self, epochs: Epochs) -> None:
        """Validate and keep the weights; the state has the row before anyone hears of it."""
        if self.saved != self.done:
            self.save()
        measured = epochs.measure(self.kept) if self.group.leads else None
        if self.group.leads:
            epochs.keep(self.kept, best=self.log.is_better(measured))
        rate = learning_rate(self.done - 1, self.steps, self.recipe)
        with uninterrupted():
            self.log.close(self.done / self.per_epoch, self.done, rate, measured)
            self.save()
        if self.group.leads:
            epochs.tell(self.log)
        self.stale = self.group.told(self.log.stale, self.compute.device)


def _check_labels(photos: list[Photo], num_classes: int) -> None:
    for photo in photos:
        if photo.label is None:
            raise EdgeDeitError(f"{photo.path} has no label; use class folders or a labels.csv")
        if not 0 <= photo.label < num_classes:
            raise EdgeDeitError(
                f"{photo.path} has label {photo.label}, the model has classes 0 to {num_classes - 1}"
            )
