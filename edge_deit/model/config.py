"""What a DeiT is made of, and the published variants as rows of one table."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Final, Literal

from edge_deit.common.errors import EdgeDeitError

__all__ = ["VARIANTS", "DeiTConfig", "Task", "variant"]

Task = Literal["classification", "features"]


@dataclass(frozen=True)
class DeiTConfig:
    """Shape of one DeiT (Touvron et al., arXiv 2012.12877, table 1).

    `distilled` says that the sequence carries a distillation token beside the class token.
    `distillation_head` says that this token has a classifier of its own; inference then averages
    both. Hugging Face's `DeiTForImageClassification` is the case of a token without a head.
    `num_classes` is 0 for a model without any classifier (the features task).

    >>> DeiTConfig().num_patches
    196
    >>> DeiTConfig(image_size=384, embed_dim=768, num_heads=12, mlp_dim=3072).grid_size
    24
    """

    image_size: int = 224
    patch_size: int = 16
    in_channels: int = 3
    embed_dim: int = 192
    depth: int = 12
    num_heads: int = 3
    mlp_dim: int = 768
    num_classes: int = 1000
    distilled: bool = False
    distillation_head: bool = False
    qkv_bias: bool = True
    layer_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        _check_types(self)
        for name in ("image_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_dim"):
            if getattr(self, name) < 1:
                raise EdgeDeitError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.in_channels != 3:
            raise EdgeDeitError(f"in_channels is {self.in_channels}; only RGB (3) is supported")
        if self.num_classes < 0:
            raise EdgeDeitError(f"num_classes is {self.num_classes}; it must be 0 or more")
        if self.image_size % self.patch_size:
            raise EdgeDeitError(
                f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )
        if self.embed_dim % self.num_heads:
            raise EdgeDeitError(
                f"embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}"
            )
        if self.distillation_head and not (self.distilled and self.num_classes):
            raise EdgeDeitError("a distillation head needs a distillation token and classes")
        if self.layer_norm_eps <= 0:
            raise EdgeDeitError(f"layer_norm_eps is {self.layer_norm_eps}; it must be positive")

    @property
    def grid_size(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def num_patches(self) -> int:
        """Patches in the image."""
        return self.grid_size**2

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches: the class token, and the distillation token if there is one."""
        return 2 if self.distilled else 1

    @property
    def num_tokens(self) -> int:
        """Length of the sequence, N."""
        return self.num_prefix_tokens + self.num_patches

    @property
    def task(self) -> Task:
        """`classification` when the model has a classifier, otherwise `features`."""
        return "classification" if self.num_classes else "features"

    def without_head(self) -> DeiTConfig:
        """The same encoder for the features task."""
        return replace(self, num_classes=0, distillation_head=False)


_TYPES: Final[dict[object, tuple[tuple[type, ...], str]]] = {
    "int": ((int,), "a whole number"),
    "bool": ((bool,), "true or false"),
    "float": ((float, int), "a number"),
}
_MOST: Final = 1 << 20
_MOST_BLOCKS: Final = 1000


def _check_types(config: DeiTConfig) -> None:
    """Files may say anything: true for 1, 12.0 for 12, or a size that nothing could hold."""
    for field in fields(config):
        if field.type not in _TYPES:
            continue
        value = getattr(config, field.name)
        kinds, words = _TYPES[field.type]
        if type(value) not in kinds:
            raise EdgeDeitError(f"{field.name} is {value!r:.40}; {words} is expected")
        most = _MOST_BLOCKS if field.name == "depth" else _MOST
        if not math.isfinite(value) or value > most:
            raise EdgeDeitError(f"{field.name} is {value!r:.40}; at most {most} is possible")


_WIDTHS = {"tiny": 192, "small": 384, "base": 768}  # D; heads have 64 values, the MLP 4 D


def _row(size: str, image_size: int, distilled: bool) -> DeiTConfig:
    return DeiTConfig(
        image_size=image_size,
        distilled=distilled,
        distillation_head=distilled,
        embed_dim=_WIDTHS[size],
        num_heads=_WIDTHS[size] // 64,
        mlp_dim=4 * _WIDTHS[size],
    )


VARIANTS: dict[str, DeiTConfig] = {
    "deit_tiny": _row("tiny", 224, False),
    "deit_tiny_distilled": _row("tiny", 224, True),
    "deit_small": _row("small", 224, False),
    "deit_small_distilled": _row("small", 224, True),
    "deit_base": _row("base", 224, False),
    "deit_base_distilled": _row("base", 224, True),
    "deit_base_384": _row("base", 384, False),
    "deit_base_384_distilled": _row("base", 384, True),
}
"""Published variants with 1000 classes, by name."""


def variant(name: str) -> DeiTConfig:
    """The published variant called `name`.

    Raises:
        EdgeDeitError: there is no such variant; the message lists those there are.
    """
    try:
        return VARIANTS[name]
    except KeyError:
        known = ", ".join(VARIANTS)
        raise EdgeDeitError(f"unknown model {name!r}; choose one of: {known}") from None
