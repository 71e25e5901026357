"""Looks at what modules take and return."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

__all__ = ["Look", "watching"]


Look = Callable[[str, nn.Module, Tensor, Tensor], None]
"""Gets a module's name, the module, its input and its output."""


@contextmanager
def watching(modules: Mapping[str, nn.Module], look: Look) -> Iterator[None]:
    """Call `look` after each forward pass of the modules, which take one tensor and return one."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        return lambda module, inputs, output: look(name, module, inputs[0], output)

    handles = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
