"""Photos and a model with outliers, for the tests of what makes a model easy to quantize."""

from __future__ import annotations

import torch

from conftest import TINY, random_model
from edge_deit.data.calibration import CalibrationSet
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deploy import deploy
from edge_deit.model.form import DeployDeiT

__all__ = ["SPEC", "grey_photos", "outliers"]


SPEC = PreprocessSpec(resize_size=72, crop_size=64)


def grey_photos(count: int, size: int = 64, seed: int = 0) -> CalibrationSet:
    """Normalised pixels of random 8-bit images."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 256, (count, 3, size, size), generator=generator)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (SPEC.mean, SPEC.std))
    return CalibrationSet((levels / 255 - mean) / std, "0" * 64, "random")


def outliers(config: DeiTConfig = TINY, seed: int = 0) -> DeployDeiT:
    """A model with two residual channels far beyond the others, as trained transformers have."""
    model = random_model(config, seed)
    channels = [7, 11]
    with torch.no_grad():
        model.pos_embed[..., channels] *= 15
        writers = [model.patch_embed.proj]
        for block in model.blocks:
            writers += [block.attn.proj, block.mlp.fc2]
            for norm in (block.norm1, block.norm2):
                norm.weight[channels] /= 15
        for writer in writers:
            writer.weight[channels] *= 15
    return deploy(model)
