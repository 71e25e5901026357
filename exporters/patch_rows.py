"""The patch embedding as a Linear over each patch's pixels, where a convolution is the slower way.

Squares of a patch embedding do not overlap, so it is a product of matrices. A convolution with integer
weights reads three channels at a time, which XNNPACK's kernels fill up to four or eight.
"""

from __future__ import annotations

import copy
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_deit.model.form import DeployDeiT

__all__ = ["row_weight", "with_patch_rows"]


_FILL: Final = 4  # columns; XNNPACK reads inputs in fours


class _PatchRows(nn.Module):
    """A convolution whose squares do not overlap, as a Linear: (B, C, H, W) -> (B, D, H / p, W / p).

    With a `white` each row gets columns of that value, whose weights are zero. A runtime that finds a range
    for each row then finds one from 0 to white, and a photo's levels are whole steps of it.
    """

    ends: Tensor

    def __init__(self, convolution: nn.Conv2d, white: float | None) -> None:
        super().__init__()
        weight, bias = convolution.weight, convolution.bias
        assert bias is not None
        self.side, self.fill = weight.shape[-1], 0 if white is None else _FILL
        self.rows = nn.Linear(weight[0].numel() + self.fill, len(weight))
        with torch.no_grad():
            self.rows.weight.copy_(F.pad(weight.flatten(1), (0, self.fill)))
            self.rows.bias.copy_(bias)
        ends = F.pad(torch.zeros(weight[0].numel()), (0, self.fill), value=white or 0.0)
        self.register_buffer("ends", ends)

    def forward(self, pixels: Tensor) -> Tensor:
        (count, channels, height, width), p = pixels.shape, self.side
        split = pixels.reshape(count * channels, height // p, p, width // p * p)
        split = split.transpose(1, 2).reshape(count, channels * p, height // p * (width // p), p)
        patches = split.transpose(1, 2).reshape(count, -1, channels * p * p)  # (B, P, C p p)
        if self.fill:
            patches = F.pad(patches, (0, self.fill)) + self.ends
        out: Tensor = self.rows(patches).transpose(1, 2)  # (B, D, P)
        return out.reshape(count, -1, height // p, width // p)


def with_patch_rows(form: DeployDeiT, *, white: float | None = None) -> DeployDeiT:
    """A copy whose patch embedding is a Linear; `white` is the greatest level that it reads."""
    made = copy.deepcopy(form)
    made.patch_embed = _PatchRows(made.patch_embed, white)  # type: ignore[assignment]
    return made.eval()


def row_weight(convolution: nn.Conv2d, *, filled: bool) -> Tensor:
    """The Linear's weights (D, C p p), with the columns of zeros that a `white` adds."""
    return F.pad(convolution.weight.detach().flatten(1), (0, _FILL if filled else 0))
