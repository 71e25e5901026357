"""Whole norms, and attention head by head, in the deployment form and in that with channels first.

Each is the same function. The deployment form's stream has mean zero, so that LayerNorm without scale and
shift is what its own norm computes.

Source: Apple, coreai-models (BSD-3), `neural_engine_rules.md`, "Prefer high-level ops" and "Per-head
attention", 2026.

Shapes: N tokens, R tokens that are read, D width, h heads, d = D / h. With channels first a stream is
(1, D, 1, N), otherwise (1, N, D) or (N, D).
"""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_deit.exporters.channels_first import channels_first
from edge_deit.exporters.target import Form
from edge_deit.model.form import DeployDeiT

__all__ = ["CHANGES", "changed"]

CHANGES: Final = ("norms", "heads", "keys first")
"""What `changed` takes: whole norms; heads one by one; the same, softmax running over channels."""


def changed(form: DeployDeiT, layout: Form, changes: tuple[str, ...]) -> nn.Module:
    """A copy of `form` in a layout, with the changes named; `form` stays as it is."""
    made: Any = channels_first(copy.deepcopy(form)) if layout == "ane" else copy.deepcopy(form)
    first = layout == "ane"
    if "norms" in changes:
        eps = form.config.layer_norm_eps
        norms = [name for name, one in made.named_modules() if hasattr(one, "mean_square")]
        for name in norms:
            made.set_submodule(name, _WholeNorm(form.config.embed_dim, eps, first))
    for block in made.blocks:
        if "keys first" in changes:
            block.attn = _KeysFirst(block.attn)
        elif "heads" in changes:
            block.attn = _Heads(block.attn, first)
    whole: nn.Module = made.eval()
    return whole


class _WholeNorm(nn.Module):
    """LayerNorm as one operator, which runs over the last axis: channels that come first are turned."""

    def __init__(self, dim: int, eps: float, first: bool) -> None:
        super().__init__()
        self.dim, self.eps, self.first = dim, eps, first

    def forward(self, x: Tensor) -> Tensor:
        if not self.first:
            return F.layer_norm(x, (self.dim,), eps=self.eps)
        return F.layer_norm(x.transpose(1, 3), (self.dim,), eps=self.eps).transpose(1, 3)


class _Heads(nn.Module):
    """Attention with two products and one softmax a head."""

    def __init__(self, attention: Any, first: bool) -> None:
        super().__init__()
        self.q, self.k, self.v, self.proj = (attention.q, attention.k, attention.v, attention.proj)
        self.head_dim, self.first = attention.head_dim, first

    def forward(self, x: Tensor, readers: Tensor) -> Tensor:
        axis = 1 if self.first else -1
        runs = (one.split(self.head_dim, axis) for one in (self.q(readers), self.k(x), self.v(x)))
        mix = self._mix_channels if self.first else self._mix
        heads = [mix(q, k, v) for q, k, v in zip(*runs, strict=True)]
        out: Tensor = self.proj(torch.cat(heads, axis))
        return out

    def _mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v  # (1, R, d)

    def _mix_channels(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = q[:, :, 0], k[:, :, 0], v[:, :, 0]  # (1, d, N)
        weights = (q.transpose(1, 2) @ k).softmax(-1)  # (1, R, N)
        return (v @ weights.transpose(1, 2))[:, :, None]  # (1, d, 1, R)


class _KeysFirst(_Heads):
    """The same as Apple writes it: the weights are (1, N, 1, R), so that softmax runs over channels."""

    def __init__(self, attention: Any) -> None:
        super().__init__(attention, first=True)

    def _mix_channels(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        turned, values = k.transpose(1, 3), v.transpose(1, 3)  # (1, N, 1, d)
        weights = torch.einsum("bchq,bkhc->bkhq", q, turned).softmax(1)  # (1, N, 1, R)
        return torch.einsum("bkhq,bkhc->bchq", weights, values)  # (1, d, 1, R)
