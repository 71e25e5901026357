"""What a DeiT or a relative is made of, and the published variants as rows of one table."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Final, Literal, get_args

from edge_deit.common.errors import EdgeDeitError

__all__ = ["RECIPES", "VARIANTS", "DeiTConfig", "Family", "Task", "variant"]

Task = Literal["classification", "features", "masked-image"]
Family = Literal["deit", "vit", "dino", "deit3", "dinov2"]
"""Whose weights they are. DeiT, ViT and DINO have one graph; DeiT-III and DINOv2 add LayerScale to it."""

RECIPES: Final[dict[Family, str]] = {
    "deit": "deit_tiny_patch16_224",
    "vit": "vit_tiny_patch16_224",
    "dino": "vit_small_patch16_224.dino",
    "deit3": "deit3_small_patch16_224",
    "dinov2": "vit_small_patch14_dinov2",
}
"""timm's name of a checkpoint of each family, whose preprocessing holds for the family."""


@dataclass(frozen=True)
class DeiTConfig:
    """Shape of one DeiT (Touvron et al., arXiv 2012.12877, table 1) or of a relative.

    `distilled` says that the sequence carries a distillation token beside the class token.
    `distillation_head` says that this token has a classifier of its own; inference then averages
    both. Hugging Face's `DeiTForImageClassification` is the case of a token without a head.
    `num_classes` is 0 for a model without any classifier (the features task).

    `layer_scale` says that each branch is multiplied by one weight a channel (arXiv 2103.17239);
    `register_tokens` counts tokens between the class (and distillation) token and the patches that nothing
    reads (arXiv 2309.16588). `decoder_stride` is the side in pixels of what the masked-image decoder makes
    of each patch, 0 for a model without it. `family` changes nothing that is computed: names follow from
    it.

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
    layer_scale: bool = False
    register_tokens: int = 0
    family: Family = "deit"
    decoder_stride: int = 0

    def __post_init__(self) -> None:
        _check_types(self)
        for name in ("image_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_dim"):
            if getattr(self, name) < 1:
                raise EdgeDeitError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.in_channels != 3:
            raise EdgeDeitError(f"in_channels is {self.in_channels}; only RGB (3) is supported")
        for name in ("num_classes", "register_tokens", "decoder_stride"):
            if getattr(self, name) < 0:
                raise EdgeDeitError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.family not in get_args(Family):
            raise EdgeDeitError(f"family is {self.family!r}; one of: {', '.join(get_args(Family))}")
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
        if self.decoder_stride and self.num_classes:
            raise EdgeDeitError("a model has classes or a masked-image decoder, not both")
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
        """Tokens before the patches, T: class token, distillation token if there is one, registers."""
        return (2 if self.distilled else 1) + self.register_tokens

    @property
    def num_tokens(self) -> int:
        """Length of the sequence, N."""
        return self.num_prefix_tokens + self.num_patches

    @property
    def task(self) -> Task:
        """`classification` with a classifier, `masked-image` with a decoder, otherwise `features`."""
        if self.decoder_stride:
            return "masked-image"
        return "classification" if self.num_classes else "features"

    def without_head(self) -> DeiTConfig:
        """The same encoder for the features task."""
        return replace(self, num_classes=0, distillation_head=False, decoder_stride=0)


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


_SIZES: Final = {  # D, blocks, heads; the MLP has 4 D
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "medium": (512, 12, 8),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}


def _row(size: str, family: Family = "deit", image_size: int = 224, patch: int = 16) -> DeiTConfig:
    width, depth, heads = _SIZES[size]
    return DeiTConfig(
        image_size=image_size,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_dim=4 * width,
        num_classes=0 if family in ("dino", "dinov2") else 1000,
        layer_scale=family in ("deit3", "dinov2"),
        family=family,
    )


def _distilled(row: DeiTConfig) -> DeiTConfig:
    return replace(row, distilled=True, distillation_head=True)


VARIANTS: dict[str, DeiTConfig] = {
    "deit_tiny": _row("tiny"),
    "deit_tiny_distilled": _distilled(_row("tiny")),
    "deit_small": _row("small"),
    "deit_small_distilled": _distilled(_row("small")),
    "deit_base": _row("base"),
    "deit_base_distilled": _distilled(_row("base")),
    "deit_base_384": _row("base", image_size=384),
    "deit_base_384_distilled": _distilled(_row("base", image_size=384)),
    "vit_tiny": _row("tiny", "vit"),
    "vit_tiny_384": _row("tiny", "vit", 384),
    "vit_small": _row("small", "vit"),
    "vit_small_384": _row("small", "vit", 384),
    "vit_small_patch32": _row("small", "vit", patch=32),
    "vit_base": _row("base", "vit"),
    "vit_base_384": _row("base", "vit", 384),
    "vit_base_patch8": _row("base", "vit", patch=8),
    "vit_base_patch32": _row("base", "vit", patch=32),
    "vit_large": _row("large", "vit"),
    "dino_small": _row("small", "dino"),
    "dino_small_patch8": _row("small", "dino", patch=8),
    "dino_base": _row("base", "dino"),
    "dino_base_patch8": _row("base", "dino", patch=8),
    "deit3_small": _row("small", "deit3"),
    "deit3_small_384": _row("small", "deit3", 384),
    "deit3_medium": _row("medium", "deit3"),
    "deit3_base": _row("base", "deit3"),
    "deit3_base_384": _row("base", "deit3", 384),
    "deit3_large": _row("large", "deit3"),
    "deit3_large_384": _row("large", "deit3", 384),
    "deit3_huge": _row("huge", "deit3", patch=14),
    "dinov2_small": _row("small", "dinov2", 518, 14),
    "dinov2_small_registers": replace(_row("small", "dinov2", 518, 14), register_tokens=4),
    "dinov2_base": _row("base", "dinov2", 518, 14),
    "dinov2_base_registers": replace(_row("base", "dinov2", 518, 14), register_tokens=4),
    "dinov2_large": _row("large", "dinov2", 518, 14),
    "dinov2_large_registers": replace(_row("large", "dinov2", 518, 14), register_tokens=4),
}
"""Published variants by name, with 1000 classes; DINO's and DINOv2's have no classifier."""


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
