"""How a DeiT is trained: the recipe, and what follows from it: learning rate, loss, decay, dropout.

Sources: DeiT's losses, arXiv 2012.12877, section 4 (hard distillation, equation 3; soft, equation 2),
cosine schedule arXiv 1608.03983, patch dropout arXiv 2208.07220.

Shapes: B images, K classes, T prefix tokens, P patches, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.deit import DeiT

__all__ = [
    "Distillation",
    "Recipe",
    "Teacher",
    "learning_rate",
    "parameter_groups",
    "patch_dropout",
    "training_loss",
]

Distillation = Literal["none", "soft", "hard"]
Teacher = Callable[[Tensor], Tensor]
"""Normalised pixels (B, 3, H, W) -> logits (B, K)."""


_SPANS: Final[dict[str, tuple[float, float]]] = {
    "epochs": (0, 100_000),
    "batch_size": (1, 100_000),
    "learning_rate": (0, 10),
    "weight_decay": (0, 10),
    "warmup": (0, 1),
    "label_smoothing": (0, 0.99),
    "distillation_weight": (0, 1),
    "temperature": (0.01, 1000),
    "min_crop_area": (0, 1),
    "patch_dropout": (0, 1),
    "seed": (0, 2**63 - 1),
}
"""Field of a recipe -> its least and greatest value."""


@dataclass(frozen=True)
class Recipe:
    """How to train. `epochs` may be a fraction; `learning_rate` is the peak, after `warmup`.

    `balanced` draws photos with replacement, those of each class as often as those of any other.
    """

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
    balanced: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.distillation not in get_args(Distillation):
            known = ", ".join(get_args(Distillation))
            raise EdgeDeitError(f"--distillation {self.distillation!r}; choose one of: {known}")
        for name, (least, most) in _SPANS.items():
            value = getattr(self, name)
            if not least <= value <= most:  # nan is not
                raise EdgeDeitError(f"{name} is {value}; it must be from {least:g} to {most:g}")
        if not self.epochs > 0 or not self.learning_rate > 0 or not self.min_crop_area > 0:
            raise EdgeDeitError("epochs, learning_rate and min_crop_area must be above 0")
        if self.patch_dropout == 1:
            raise EdgeDeitError("patch_dropout is 1; some patches must be left, below 1")

    def steps(self, photos: int) -> int:
        """How many steps so many photos take."""
        return math.ceil(self.epochs * self.steps_per_epoch(photos))

    def steps_per_epoch(self, photos: int) -> int:
        """How many steps one pass takes; the last may have fewer photos."""
        return math.ceil(photos / self.batch_size)


@contextmanager
def patch_dropout(model: DeiT, recipe: Recipe, step: int) -> Iterator[None]:
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
        places = (prefix + order).to(x.device)  # drawn on the processor: the same on every device
        index = places[:, :, None].expand(-1, -1, x.shape[2])  # (B, kept, D)
        return (torch.cat([x[:, :prefix], x.gather(1, index)], dim=1),)

    handle = model.blocks[0].register_forward_pre_hook(drop)
    try:
        yield
    finally:
        handle.remove()


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of the peak."""
    warmup = max(1, round(steps * recipe.warmup))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return recipe.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def training_loss(
    model: DeiT, pixels: Tensor, labels: Tensor, teacher: Teacher | None, r: Recipe
) -> Tensor:
    """The mean loss of a batch: pixels (B, 3, H, W), labels (B).

    The class token learns from the labels; the distillation token, where there is one, from the teacher,
    and without a teacher from the labels too.

    Raises:
        EdgeDeitError: a teacher of other classes.
    """
    if not model.config.distillation_head:
        return F.cross_entropy(model(pixels), labels, label_smoothing=r.label_smoothing)
    cls_logits, dist_logits = model.heads(pixels)  # (B, K) each
    loss = F.cross_entropy(cls_logits, labels, label_smoothing=r.label_smoothing)
    if teacher is None or r.distillation == "none":
        other = F.cross_entropy(dist_logits, labels, label_smoothing=r.label_smoothing)
        return (loss + other) / 2
    with torch.no_grad():
        taught = teacher(pixels)  # (B, K)
    if taught.shape != dist_logits.shape:
        raise EdgeDeitError(
            f"the teacher returns {tuple(taught.shape)}, the student {tuple(dist_logits.shape)}; "
            "both need the same classes"
        )
    if r.distillation == "hard":
        other = F.cross_entropy(dist_logits, taught.argmax(1))
    else:
        log_student = F.log_softmax(dist_logits / r.temperature, 1)
        log_teacher = F.log_softmax(taught / r.temperature, 1)
        divergence = F.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")
        other = divergence * r.temperature**2
    return (1 - r.distillation_weight) * loss + r.distillation_weight * other


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms, tokens and positions do not."""
    decayed = [p for p in model.parameters() if p.ndim in (2, 4)]
    free = [p for p in model.parameters() if p.ndim not in (2, 4)]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
