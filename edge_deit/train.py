"""Fine-tuning of a DeiT, with or without a teacher, as a resumable loop.

Sources: DeiT's losses, arXiv 2012.12877, section 4 (hard distillation, equation 3; soft, equation 2),
AdamW arXiv 1711.05101, cosine schedule arXiv 1608.03983, patch dropout arXiv 2208.07220.

Shapes: B images, K classes, T prefix tokens, P patches, D width.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from edge_deit.dataset import Photo
from edge_deit.errors import EdgeDeitError
from edge_deit.model import DeiT
from edge_deit.preprocess import PreprocessSpec, load_image, load_pixels, normalise

__all__ = ["Distillation", "Recipe", "accuracy", "load_teacher", "train"]

Distillation = Literal["none", "soft", "hard"]
Teacher = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How to train. `epochs` may be a fraction; `learning_rate` is the peak, after `warmup`."""

    epochs: float = 3.0
    batch_size: int = 64
    learning_rate: float = 5e-4
    weight_decay: float = 0.05
    warmup: float = 0.05
    label_smoothing: float = 0.1
    distillation: Distillation = "none"
    distillation_weight: float = 0.5
    temperature: float = 3.0
    min_crop_area: float = 0.7
    flip: bool = True
    patch_dropout: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs <= 0 or self.batch_size < 1 or self.learning_rate <= 0:
            raise EdgeDeitError("epochs, batch size and learning rate must be positive")
        if not 0 < self.min_crop_area <= 1:
            raise EdgeDeitError(f"min_crop_area is {self.min_crop_area}; it must be in (0, 1]")
        if not 0 <= self.patch_dropout < 1:
            raise EdgeDeitError(f"patch_dropout is {self.patch_dropout}; it must be in [0, 1)")


class TrainingPhotos(Dataset[tuple[Tensor, int]]):
    """Augmented photos; item (epoch, index) is the same in every run with the same seed."""

    def __init__(self, photos: list[Photo], spec: PreprocessSpec, recipe: Recipe) -> None:
        self.photos, self.spec, self.recipe = photos, spec, recipe

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = key
        photo = self.photos[index]
        assert photo.label is not None
        generator = np.random.default_rng((self.recipe.seed, epoch, index))
        rgb = _random_crop(load_image(photo.path), self.spec.crop_size, self.recipe, generator)
        return torch.from_numpy(normalise(rgb, self.spec)), photo.label


def _random_crop(
    image: Image.Image, size: int, recipe: Recipe, generator: np.random.Generator
) -> np.ndarray:
    """Random resized crop (aspect 3/4 to 4/3) and horizontal flip -> (size, size, 3) uint8."""
    width, height = image.size
    area = width * height * generator.uniform(recipe.min_crop_area, 1)
    aspect = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
    crop_width = min(width, math.sqrt(area * aspect))
    crop_height = min(height, math.sqrt(area / aspect))
    left = generator.uniform(0, width - crop_width)
    top = generator.uniform(0, height - crop_height)
    box = (left, top, left + crop_width, top + crop_height)
    rgb = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
    return rgb[:, ::-1] if recipe.flip and generator.random() < 0.5 else rgb


@contextmanager
def _patch_dropout(model: DeiT, recipe: Recipe, step: int) -> Iterator[None]:
    """Let the blocks see a random part of each image's patches: the step takes a fraction of the time."""
    if not recipe.patch_dropout:
        yield
        return
    prefix = model.config.num_prefix_tokens
    patches = model.config.num_tokens - prefix
    kept = max(1, round(patches * (1 - recipe.patch_dropout)))
    generator = torch.Generator().manual_seed((recipe.seed << 32) + step)

    def drop(block: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = inputs  # (B, T + P, D)
        order = torch.rand(len(x), patches, generator=generator).argsort(dim=1)[:, :kept]
        index = (prefix + order)[:, :, None].expand(-1, -1, x.shape[2])  # (B, kept, D)
        return (torch.cat([x[:, :prefix], x.gather(1, index)], dim=1),)

    handle = model.blocks[0].register_forward_pre_hook(drop)
    try:
        yield
    finally:
        handle.remove()


def _batches(
    count: int, recipe: Recipe, first_step: int, steps: int
) -> Iterator[list[tuple[int, int]]]:
    """Keys of each batch from `first_step` on; every epoch has its own seeded order."""
    per_epoch = math.ceil(count / recipe.batch_size)
    order: Tensor | None = None
    for step in range(first_step, steps):
        epoch, position = divmod(step, per_epoch)
        if order is None or position == 0:
            order = torch.randperm(
                count, generator=torch.Generator().manual_seed(recipe.seed + epoch)
            )
        chunk = order[position * recipe.batch_size : (position + 1) * recipe.batch_size]
        yield [(epoch, index) for index in chunk.tolist()]


def _learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of the peak."""
    warmup = max(1, round(steps * recipe.warmup))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return recipe.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def _loss(
    model: DeiT, pixels: Tensor, labels: Tensor, teacher: Teacher | None, r: Recipe
) -> Tensor:
    if not model.config.distillation_head:
        return F.cross_entropy(model(pixels), labels, label_smoothing=r.label_smoothing)
    cls_logits, dist_logits = model.heads(pixels)  # (B, K) each
    loss = F.cross_entropy(cls_logits, labels, label_smoothing=r.label_smoothing)
    if teacher is None or r.distillation == "none":
        other = F.cross_entropy(dist_logits, labels, label_smoothing=r.label_smoothing)
        return (loss + other) / 2
    with torch.no_grad():
        wisdom = teacher(pixels)  # (B, K)
    if wisdom.shape != dist_logits.shape:
        raise EdgeDeitError(
            f"the teacher returns {tuple(wisdom.shape)}, the student {tuple(dist_logits.shape)}; "
            "both need the same classes"
        )
    if r.distillation == "hard":
        other = F.cross_entropy(dist_logits, wisdom.argmax(1))
    else:
        log_student = F.log_softmax(dist_logits / r.temperature, 1)
        log_teacher = F.log_softmax(wisdom / r.temperature, 1)
        divergence = F.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")
        other = divergence * r.temperature**2
    return (1 - r.distillation_weight) * loss + r.distillation_weight * other


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms, tokens and positions do not."""
    decayed = [p for p in model.parameters() if p.ndim in (2, 4)]
    free = [p for p in model.parameters() if p.ndim not in (2, 4)]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


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
    optimizer = torch.optim.AdamW(_parameter_groups(model, recipe.weight_decay))
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
                group["lr"] = _learning_rate(done, steps, recipe)
            with _patch_dropout(model, recipe, done):
                loss = _loss(model, pixels, labels, teacher, recipe)
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
