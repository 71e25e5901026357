"""A form in half precision, some layers in single precision; what it takes and returns stays float32.

Each layer turns what it reads into its own type. Operators that stand in no layer (the attention's
products, the sums of the residual stream, those of the form itself) get operands of their type from the
layers that write them. `quantization.half` finds the layers that need single precision.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection
from typing import Any, Final

import torch
from torch import Tensor, nn

__all__ = ["MODEL", "MixedForm"]

MODEL: Final = "model"
"""What operators count as that stand in no module: those around the first block, the shift of features."""

_BLOCK: Final = re.compile(r"blocks\.\d+")
_AROUND: Final = re.compile(r"blocks\.\d+(\.attn|\.mlp)?|decoder|image|blocks")
"""Modules whose weights all stand in modules inside them."""

_READERS: Final = (
    (r"(blocks\.\d+\.attn)\.[qkv]", r"\1"),
    (r"(blocks\.\d+)\.(attn\.proj|mlp\.fc2)", r"\1"),
    (r"patch_embed|norm|head", MODEL),
)
"""A layer, and the module whose operators read what it writes."""


class MixedForm(nn.Module):
    """A copy of `form` that computes in half precision, but for the layers in `wide`.

    `form` may be any module whose layers are called as those of the deployment form.
    """

    def __init__(self, form: nn.Module, wide: Collection[str]) -> None:
        super().__init__()
        self.form = copy.deepcopy(form).half()
        self._wide = frozenset(wide)
        for name, module in self.form.named_modules():
            if name in self._wide and not _AROUND.fullmatch(name):
                module.float()
            if _BLOCK.fullmatch(name) or not _AROUND.fullmatch(name):
                self._tie(name, module)
        if MODEL in self._wide:
            own = (*self.form.parameters(recurse=False), *self.form.buffers(recurse=False))
            for tensor in own:
                tensor.data = tensor.data.float()

    def _tie(self, name: str, module: nn.Module) -> None:
        """Let a module read its own type, and write that of its reader."""
        if not name or name.endswith("mean_square"):
            return
        module.register_forward_pre_hook(_reading(self._type(name)))
        for pattern, reader in _READERS:
            if re.fullmatch(pattern, name):
                module.register_forward_hook(_writing(self._type(re.sub(pattern, reader, name))))
        if re.fullmatch(r"blocks\.\d+\.norm[12]", name):  # never large, and read three times
            module.register_forward_hook(_writing(torch.float16))

    def _type(self, name: str) -> torch.dtype:
        return torch.float32 if name in self._wide else torch.float16

    def forward(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        more = () if mask is None else (_turned(mask, self._type(MODEL)),)
        out: Tensor = self.form(pixels, *more)
        return out.float()


def _reading(dtype: torch.dtype) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    return lambda module, inputs: tuple(_turned(one, dtype) for one in inputs)


def _writing(dtype: torch.dtype) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    return lambda module, inputs, output: _turned(output, dtype)


def _turned(value: Any, dtype: torch.dtype) -> Any:
    """A float tensor in another type; anything else, and what has it already, as it is."""
    if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != dtype:
        return value.to(dtype)
    return value
