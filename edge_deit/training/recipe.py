"""How a DeiT is trained: the recipe, and what follows from it: learning rate, loss, decay, dropout.

Sources: DeiT's losses, arXiv 2012.12877, section 4 (hard distillation, equation 3; soft, equation 2),
the loss for one head ("classic"), arXiv 1503.02531, section 2,
cosine schedule arXiv 1608.03983. `training.regularize` and `training.rand_augment` have those of the rest.

Shapes: B images, K classes, T prefix tokens, P patches, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.deit import DeiT
from edge_deit.quantization.learner import Learner

__all__ = [
    "QUANTIZED",
    "BatchLoss",
    "Distillation",
    "Recipe",
    "RecipeName",
    "Teacher",
    "learning_rate",
    "parameter_groups",
    "training_loss",
]

Distillation = Literal["none", "soft", "hard", "classic"]
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
    "rand_augment": (0, 10),
    "random_erasing": (0, 1),
    "mixup": (0, 100),
    "cutmix": (0, 100),
    "repeats": (1, 100),
    "stochastic_depth": (0, 0.99),
    "average": (0, 0.999999),
    "layer_decay": (0.01, 1),
    "seed": (0, 2**63 - 1),
}
"""Field of a recipe -> its least and greatest value."""


@dataclass(frozen=True)
class Recipe:
    """How to train. `epochs` may be a fraction; `learning_rate` is the peak, after `warmup`.

    `balanced` draws photos with replacement, those of each class as often as those of any other.
    `rand_augment` is a magnitude up to 10, `random_erasing` a probability, `mixup` and `cutmix` are the
    alpha of the Beta distribution that shares are drawn from, `repeats` is how often a photo comes in an
    epoch, which then has so many times fewer photos. `stochastic_depth` is the probability with which the
    last block's branches are left out, `average` the decay of the averaged weights that are kept,
    `layer_decay` the factor of the learning rate from each block to the one before. Each is off where it is
    0, or 1 for `repeats` and `layer_decay`.
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
    rand_augment: float = 0.0
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    repeats: int = 1
    stochastic_depth: float = 0.0
    average: float = 0.0
    layer_decay: float = 1.0
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
        if self.balanced and self.repeats > 1:
            raise EdgeDeitError(
                "balanced draws a photo as often as its class is rare, and repeats draws each as often; "
                "leave balanced out, or give --repeats 1"
            )

    @classmethod
    def named(
        cls, name: str, given: Mapping[str, Any] | None = None, *, quantized: bool = False
    ) -> Self:
        """A recipe of `RECIPES` with what is `given` instead of its own; None means not given.

        `quantized` takes `QUANTIZED` in place of `finetune`.

        Raises:
            EdgeDeitError: there is no such recipe, or a value that cannot be.
        """
        if name not in RECIPES:
            raise EdgeDeitError(f"--recipe {name!r}; choose one of: {', '.join(RECIPES)}")
        if quantized and name != "finetune":
            raise EdgeDeitError(f"--recipe {name} is not for --quantize; leave it out")
        own = {key: value for key, value in (given or {}).items() if value is not None}
        return cls(**{**(QUANTIZED if quantized else RECIPES[name]), **own})

    def steps(self, photos: int) -> int:
        """How many steps so many photos take."""
        return math.ceil(self.epochs * self.steps_per_epoch(photos))

    def steps_per_epoch(self, photos: int) -> int:
        """How many steps one pass takes; the last may have fewer photos."""
        return math.ceil(photos / self.batch_size)


_SCALES: Final = 20.0
"""Factor of the learning rate for the logarithms of ranges and scales."""

QUANTIZED: Final[Mapping[str, Any]] = {
    "epochs": 1.0,
    "learning_rate": 2e-5,
    "min_crop_area": 0.8,
    "distillation": "classic",
    "distillation_weight": 0.9,
    "temperature": 1.0,
}
"""What `--quantize` has instead of the defaults: little is left to learn, and the float model teaches."""

RecipeName = Literal["finetune", "scratch", "distil"]

_PAPER: Final[dict[str, Any]] = {
    "epochs": 300.0,
    "batch_size": 256,
    "learning_rate": 2.5e-4,
    "warmup": 5 / 300,
    "min_crop_area": 0.08,
    "rand_augment": 9.0,
    "random_erasing": 0.25,
    "mixup": 0.8,
    "cutmix": 1.0,
    "repeats": 3,
    "stochastic_depth": 0.1,
    "average": 0.99996,
}
"""DeiT's own training, arXiv 2012.12877, table 9; its learning rate is 5e-4 for 512 photos a step."""

RECIPES: Final[dict[RecipeName, Mapping[str, Any]]] = {
    "finetune": {},
    "scratch": _PAPER,
    "distil": {**_PAPER, "distillation": "hard"},
}
"""Name -> what it has instead of the defaults of `Recipe`."""


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of the peak."""
    warmup = max(1, round(steps * recipe.warmup))
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return recipe.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def training_loss(
    model: DeiT | Learner, pixels: Tensor, labels: Tensor, teacher: Teacher | None, r: Recipe
) -> Tensor:
    """The mean loss of a batch: pixels (B, 3, H, W), labels (B) or shares of the classes (B, K).

    With two heads the class token learns from the labels; the distillation token from the teacher, and
    without a teacher from the labels too. One head learns from the labels, and from the teacher as well.

    Raises:
        EdgeDeitError: a teacher of other classes.
    """
    if isinstance(model, DeiT) and model.config.distillation_head:
        cls_logits, dist_logits = model.heads(pixels)  # (B, K) each
    else:
        cls_logits = dist_logits = model(pixels)  # (B, K)
    loss = F.cross_entropy(cls_logits, labels, label_smoothing=r.label_smoothing)
    if teacher is None or r.distillation == "none":
        if dist_logits is cls_logits:
            return loss
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
        other = _divergence(dist_logits, taught, r.temperature)
    return (1 - r.distillation_weight) * loss + r.distillation_weight * other


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of softened classes: logits (B, K) both."""
    log_student = F.log_softmax(student / temperature, 1)
    log_teacher = F.log_softmax(teacher / temperature, 1)
    divergence = F.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")
    return divergence * temperature**2


class BatchLoss(nn.Module):
    """A batch's loss as a module: what processes that train together wrap."""

    def __init__(self, model: DeiT | Learner, recipe: Recipe, teacher: Teacher | None) -> None:
        super().__init__()
        self.model, self.recipe = model, recipe
        self._teacher = (teacher,)  # no part of the module: it learns nothing

    def forward(self, pixels: Tensor, labels: Tensor) -> Tensor:
        return training_loss(self.model, pixels, labels, self._teacher[0], self.recipe)


def parameter_groups(
    model: DeiT | Learner, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms, tokens and positions, ranges and scales do not.

    `scale` of a group is its share of the learning rate: `layer_decay` to the power of how many layers lie
    between it and the heads. Source: arXiv 2106.08254 (BEiT), appendix, fine-tuning.
    """
    if isinstance(model, Learner):
        return model.parameter_groups(weight_decay, _SCALES)
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    layers = len(model.blocks) + 1
    for name, parameter in model.named_parameters():
        scale = layer_decay ** (layers - _layer(name, layers)) if layer_decay < 1 else 1.0
        groups.setdefault((scale, parameter.ndim in (2, 4)), []).append(parameter)
    return [
        {"params": found, "weight_decay": weight_decay if decays else 0.0, "scale": scale}
        for (scale, decays), found in sorted(
            groups.items(), key=lambda group: (group[0][0], not group[0][1])
        )
    ]


def _layer(name: str, layers: int) -> int:
    """A parameter's layer: 0 for patches, tokens and positions, then the blocks, last norm and heads."""
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    return layers if name.startswith(("norm.", "head")) else 0
