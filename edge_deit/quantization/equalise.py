"""Per-channel scales between v and `proj`, which cost nothing at run time.

`proj` reads means of rows of v, so a channel of v can be divided by s where `proj`'s column is multiplied
by s: W x = (W diag(s)) (x / s). Channels above the median are brought down, s = max(x_max / median, 1)^a,
and the weights pay for it. The exponent a in [0, 1] is the one with the least predicted noise of v,
`proj`'s input and its weights together, layer by layer. Channels are never blown up, and magnitudes come
from one half of the photos while the noise is predicted on the other: what a channel has not shown in one
photo it shows in the next.

Norm outputs need no scale: after rotation their channels are alike (`quantization.rotate`). Scales on
GELU's output would need a multiplication at run time; `quantization.narrow` spends it on the tokens
instead, which takes away more.

Sources: SmoothQuant, arXiv 2211.10438, equation 4; RepQ-ViT, arXiv 2212.08254.

Shapes: C input channels, O output channels.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from edge_deit.model.form import DeployBlock, DeployDeiT
from edge_deit.quantization.observe import Channels, LayerView, TensorView
from edge_deit.quantization.ranges import STEPS
from edge_deit.quantization.rounding import GREATEST

__all__ = ["equalise", "equalised_layers"]

_EXPONENTS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


def equalised_layers(form: DeployDeiT) -> list[str]:
    """Names of the layers that `equalise` wants to know about."""
    return [f"blocks.{i}.attn.{layer}" for i in range(len(form.blocks)) for layer in ("v", "proj")]


def equalise(
    form: DeployDeiT, views: dict[str, LayerView], others: dict[str, LayerView]
) -> dict[str, float]:
    """Scale `form` in place; returns the exponent of each layer that was scaled.

    `views` and `others` are those of `form` on two halves of the photos.
    """
    exponents: dict[str, float] = {}
    for index, block in enumerate(form.blocks):
        assert isinstance(block, DeployBlock)
        name = f"blocks.{index}.attn."
        magnitude = _channels(views[f"{name}proj"].input).magnitude
        excess = (magnitude / magnitude.median()).clamp_min(1)
        of_value, of_proj = others[f"{name}v"].output, others[f"{name}proj"]
        seen = _channels(of_value), _channels(of_proj.input), _channels(of_proj.output)
        noise = {a: _noise(block.attn.proj, *seen, excess**a) for a in _EXPONENTS}
        exponent = min(noise, key=noise.__getitem__)
        if not exponent:
            continue
        exponents[f"{name}proj"] = exponent
        scale = (excess**exponent).float()
        with torch.no_grad():
            block.attn.v.weight.div_(scale[:, None])
            block.attn.v.bias.div_(scale)
            block.attn.proj.weight.mul_(scale)
    return exponents


def _channels(view: TensorView) -> Channels:
    assert view.channels is not None
    return view.channels


def _noise(
    layer: nn.Linear, value: Channels, mixed: Channels, output: Channels, scale: Tensor
) -> float:
    """Predicted noise power in the output of v, of x / scale and of W * scale."""
    weight = layer.weight.detach().double() * scale  # (O, C)
    weight_step = weight.abs().amax(1) / GREATEST  # (O,)
    power = (mixed.mean_square / scale**2).sum()
    rounding = (output.importance * weight_step**2 / 12).sum() * power
    return _activation_noise(value, scale) + _activation_noise(mixed, scale) + float(rounding)


def _activation_noise(view: Channels, scale: Tensor) -> float:
    least, greatest = view.least.double() / scale, view.greatest.double() / scale
    step = (greatest.max().clamp_min(0) - least.min().clamp_max(0)) / STEPS
    return float((view.importance * scale**2).sum() * step**2 / 12)
