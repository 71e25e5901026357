"""The masked-image decoder in deployment form."""

from __future__ import annotations

from torch import Tensor, nn

from edge_deit.model.config import DeiTConfig

__all__ = ["Decoder"]


class Decoder(nn.Module):
    """Patches to pixels: (1, P, D) or (P, D) -> (1, 3, s g, s g), g patches of s pixels a side.

    It is a convolution of one pixel and `pixel_shuffle`, in tensors of rank 4 at most.
    """

    def __init__(self, config: DeiTConfig) -> None:
        super().__init__()
        self.grid, self.stride = config.grid_size, config.decoder_stride
        self.channels = config.in_channels
        self.linear = nn.Linear(config.embed_dim, self.channels * self.stride**2)

    def forward(self, tokens: Tensor) -> Tensor:
        g, s, c = self.grid, self.stride, self.channels
        pixels: Tensor = self.linear(tokens)  # (P, 3 s s)
        rows = pixels.reshape(g, g, c * s, s).transpose(1, 2)  # (g, 3 s, g, s)
        planes = rows.reshape(g, c, s * g * s).transpose(0, 1)  # (3, g, s g s)
        return planes.reshape(1, c, g * s, g * s)
