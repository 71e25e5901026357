"""Whether what stays float in an integer file can run in half precision (IEEE 754 binary16).

On a core that computes in half precision twice as many numbers fit into an instruction, and the runtime
converts integers to it and back just as well. Its ten bits of fraction are far finer than int8, but its
range is narrow: from 6.1e-5, where it starts to lose bits, to 65504. What spans most in a deployment form
is the square inside the norm, so that is what is looked at: the largest square of any value, and the least
mean square of any token, on the calibration photos.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor, nn

from edge_deit.model.form import DeployDeiT, RMSNorm
from edge_deit.model.hooks import watching

__all__ = ["fits_half"]

_MARGIN: Final = 4.0
"""Values of other photos may be this many times larger or smaller than those that were seen."""


def fits_half(form: DeployDeiT, photos: Iterable[Tensor]) -> bool:
    """Whether squares and their means stay in half precision's normal range, with a margin.

    `photos` are pixels (1, 3, H, W) each; without any the answer is no.
    """
    limits = torch.finfo(torch.float16)
    least, greatest = float("inf"), 0.0

    def look(name: str, norm: nn.Module, x: Tensor, y: Tensor) -> None:
        nonlocal least, greatest
        squares = x.double().square()  # (1, N, D)
        least = min(least, float(squares.mean(-1).amin()))
        greatest = max(greatest, float(squares.amax()))

    norms = {name: module for name, module in form.named_modules() if isinstance(module, RMSNorm)}
    with watching(norms, look), torch.inference_mode():
        for photo in photos:
            form(photo)
    square = _MARGIN**2
    return 0.0 < greatest * square <= limits.max and least >= limits.tiny * square
