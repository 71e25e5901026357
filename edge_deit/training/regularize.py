"""What is drawn anew for each step: mixed photos and labels, left out patches and branches.

Draws depend on seed and step alone, so a resumed run has those of an uninterrupted one.

Sources: mixup arXiv 1710.09412, CutMix arXiv 1905.04899, one of the two for a whole batch as in DeiT
(arXiv 2012.12877, table 9); patch dropout arXiv 2208.07220; stochastic depth arXiv 1603.09382, linear over
the depth, a photo's branch being there or not.

Shapes: B images, K classes, T prefix tokens, P patches, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_deit.model.deit import Block, DeiT
from edge_deit.quantization.learner import Learner
from edge_deit.training.recipe import Recipe

__all__ = ["left_out", "mixed"]

_MIXING, _DEPTH = 1, 2  # one seed, draws that have nothing to do with each other
_SEEDS = 2**63  # a generator of torch takes no more


def mixed(
    pixels: Tensor, labels: Tensor, classes: int, recipe: Recipe, step: int
) -> tuple[Tensor, Tensor]:
    """The batch mixed with itself in reverse: pixels (B, 3, H, W), and shares of the classes (B, K).

    Without mixup and CutMix the batch as it is, with labels (B); with both, each is taken half of the time.
    """
    if not recipe.mixup and not recipe.cutmix:
        return pixels, labels
    generator = np.random.default_rng((recipe.seed, step, _MIXING))
    cuts = recipe.cutmix > 0 and (recipe.mixup == 0 or generator.random() < 0.5)
    alpha = recipe.cutmix if cuts else recipe.mixup
    share = float(generator.beta(alpha, alpha))
    others = pixels.flip(0)
    if cuts:
        rows, columns = _box(pixels.shape[2], pixels.shape[3], 1 - share, generator)
        pixels = pixels.clone()
        pixels[:, :, rows, columns] = others[:, :, rows, columns]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        share = 1 - area / (pixels.shape[2] * pixels.shape[3])
    else:
        pixels = share * pixels + (1 - share) * others
    targets = F.one_hot(labels, classes).float()
    return pixels, share * targets + (1 - share) * targets.flip(0)


def _box(
    height: int, width: int, area: float, generator: np.random.Generator
) -> tuple[slice, slice]:
    """A part of a photo with its aspect, cut where it leaves the photo; `area` is a share."""
    half = area**0.5 / 2
    row, column = generator.integers(height), generator.integers(width)
    rows = slice(max(0, round(row - half * height)), min(height, round(row + half * height)))
    columns = slice(max(0, round(column - half * width)), min(width, round(column + half * width)))
    return rows, columns


@contextmanager
def left_out(model: DeiT | Learner, recipe: Recipe, step: int) -> Iterator[None]:
    """Let a step do without some patches (`patch_dropout`) and some branches (`stochastic_depth`)."""
    handles = []
    if recipe.patch_dropout:
        handles.append(
            model.blocks[0].register_forward_pre_hook(_fewer_patches(model, recipe, step))
        )
    if recipe.stochastic_depth:
        generator = np.random.default_rng((recipe.seed, step, _DEPTH))
        rates = torch.linspace(0, recipe.stochastic_depth, len(model.blocks)).tolist()
        for block, rate in zip(model.blocks, rates, strict=True):
            assert isinstance(block, Block)
            for branch in (block.ls1, block.ls2):
                handles.append(branch.register_forward_hook(_fewer_branches(rate, generator)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _fewer_patches(model: DeiT | Learner, recipe: Recipe, step: int) -> Any:
    """Keep a random part of each image's patches: the step takes a fraction of the time."""
    prefix = model.config.num_prefix_tokens
    patches = model.config.num_tokens - prefix
    kept = max(1, round(patches * (1 - recipe.patch_dropout)))
    generator = torch.Generator().manual_seed(((recipe.seed << 32) + step) % _SEEDS)

    def drop(block: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = inputs  # (B, T + P, D)
        order = torch.rand(len(x), patches, generator=generator).argsort(dim=1)[:, :kept]
        places = (prefix + order).to(x.device)  # drawn on the processor: the same on every device
        index = places[:, :, None].expand(-1, -1, x.shape[2])  # (B, kept, D)
        return (torch.cat([x[:, :prefix], x.gather(1, index)], dim=1),)

    return drop


def _fewer_branches(rate: float, generator: np.random.Generator) -> Any:
    """Leave a branch out for a share of the photos; what is left counts for more."""

    def drop(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        there = torch.from_numpy(generator.random((len(output), 1, 1)) >= rate)  # (B, 1, 1)
        return output * (there / (1 - rate)).to(output)

    return drop
