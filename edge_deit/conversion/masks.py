"""What an export of `--task masked-image` has beside others: masks for its check, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from edge_deit.common.errors import EdgeDeitError
from edge_deit.conversion.layout import Layout
from edge_deit.conversion.plan import Item
from edge_deit.exporters import FileRunner, Runner
from edge_deit.model.config import DeiTConfig
from edge_deit.model.file_form import InputKind

__all__ = ["check_masked", "in_turn", "masks_for"]


def check_masked(
    config: DeiTConfig, plan: Sequence[Item], layout: Layout, takes: InputKind
) -> None:
    """Refuse what a model that reconstructs photos cannot be; other models pass.

    Raises:
        EdgeDeitError: it says what to leave out, or to give.
    """
    if (
        config.task != "masked-image" or layout.whole_folder
    ):  # that folder says that it is for classifiers
        return
    if layout.batched or layout.batch > 1:
        raise EdgeDeitError(
            "--task masked-image takes one photo and its mask at a time; leave --batch and "
            "--dynamic-batch out"
        )
    if takes == "image":
        raise EdgeDeitError(
            "--task masked-image returns normalised pixels, so it takes them too; leave --input out"
        )
    if found := [scheme.precision for _, scheme, _ in plan if scheme.quantized or scheme.packed]:
        raise EdgeDeitError(
            f"--task masked-image has no {found[0]}: it is made on whole photos, not on masked ones, and "
            "nothing here judges a reconstruction; give --precision fp32 or fp16"
        )


def masks_for(config: DeiTConfig, photos: int, seed: int = 0) -> Tensor | None:
    """A mask for each photo (M, P), half of its patches hidden; None for a model without a decoder."""
    if not config.decoder_stride:
        return None
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(photos, config.num_patches, generator=generator).argsort(1)
    return (order < config.num_patches // 2).float()


def in_turn(runner: FileRunner, masks: Tensor) -> Runner:
    """A runner that hands the masks (M, P) over with M photos, one with each, in their order."""
    waiting = iter(masks.numpy())

    def run(pixels: np.ndarray, /) -> np.ndarray:
        return runner(pixels, next(waiting)[None])

    return run
