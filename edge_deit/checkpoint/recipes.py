"""Preprocessing by name: the rules of those who publish DeiT and ViT weights, and timm's configurations."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, PreprocessSpec, default_spec

__all__ = ["RULES", "Recipe", "find_recipe", "rule_spec", "spec_of_timm", "timm_config"]

_Triple = tuple[float, float, float]
_HALF: Final[_Triple] = (0.5, 0.5, 0.5)
RULES: Final = ("timm", "deit", "huggingface")
"""Names of the publishers' rules for DeiT."""


def rule_spec(rule: str, image_size: int) -> PreprocessSpec:
    """The rule of one of the three who publish DeiT, for a model of `image_size` pixels.

    `timm`: short side to size / 0.9, at 384 pixels to the size itself; `deit`, the original: short side
    to size x 256 / 224; `huggingface`, facebook's files on the hub: squashed to size x 256 / 224. Then
    the centre is cut; bicubic, ImageNet's mean and standard deviation.

    >>> [rule_spec(rule, 384).resize_size for rule in RULES]
    [384, 438, 438]
    """
    if rule == "timm":
        return default_spec(image_size, 1.0 if image_size == 384 else 0.9)
    resized = int(image_size * 256 / 224)
    if rule == "deit":
        return PreprocessSpec("shortest", resized, image_size)
    return PreprocessSpec("exact", resized, image_size, "floor")


@dataclass(frozen=True)
class Recipe:
    """How the published checkpoints whose names match are preprocessed."""

    names: str
    publisher: str
    mean: _Triple = IMAGENET_MEAN
    std: _Triple = IMAGENET_STD
    rule: Literal["timm", "huggingface", "vit"] = "timm"
    crop_pct: float | None = None

    def spec(self, image_size: int) -> PreprocessSpec:
        """The preprocessing for a model of `image_size` pixels."""
        if self.rule == "vit":  # ViTImageProcessor with its defaults
            return PreprocessSpec(
                "exact", image_size, image_size, "floor", "bilinear", self.mean, self.std
            )
        if self.rule == "huggingface":
            return rule_spec("huggingface", image_size)
        base = rule_spec("timm", image_size)
        size = base.resize_size if self.crop_pct is None else math.floor(image_size / self.crop_pct)
        return PreprocessSpec("shortest", size, image_size, mean=self.mean, std=self.std)


_RECIPES: Final = (
    Recipe(
        r"facebook/deit-(tiny|small|base)(-distilled)?-patch16-(224|384)",
        "facebook's on the hub",
        rule="huggingface",
    ),
    Recipe(
        r"google/vit-(base|large|huge)-patch(14|16|32)-(224|384)(-in21k)?",
        "google's on the hub",
        _HALF,
        _HALF,
        rule="vit",
    ),
    Recipe(
        r"(timm/)?deit3_(small|medium|base|large|huge)_patch1[46]_(224|384)\.fb_in22k_ft_in1k",
        "timm's",
        crop_pct=1.0,
    ),
    Recipe(
        r"(timm/)?deit3?_(tiny|small|medium|base|large|huge)(_distilled)?_patch1[46]_(224|384)"
        r"(\.fb_in1k)?",
        "timm's",
    ),
    Recipe(r"(timm/)?vit_(small|base)_patch(8|16)_224\.dino", "timm's"),
    Recipe(
        r"(timm/)?vit_(small|base|large)_patch14(_reg4)?_dinov2(\.lvd142m)?", "timm's", crop_pct=1.0
    ),
    Recipe(
        r"(timm/)?vit_(tiny|small|base|large)_patch(8|16|32)_(224|384)"
        r"(\.(augreg2?|orig)_in21k(_ft_in1k)?|\.augreg_in1k)?",
        "timm's",
        _HALF,
        _HALF,
    ),
)


def find_recipe(name: str) -> Recipe | None:
    """The recipe of a published checkpoint: a hub name, or timm's name with or without its tag.

    >>> find_recipe("hub:timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k@main").mean
    (0.5, 0.5, 0.5)
    >>> find_recipe("my-model") is None
    True
    """
    plain = name.strip().removeprefix("hub:").split("@")[0].lower()
    return next((recipe for recipe in _RECIPES if re.fullmatch(recipe.names, plain)), None)


# timm's pretrained_cfg

_TIMM_DEFAULTS: Final = {
    "mean": list(IMAGENET_MEAN),
    "std": list(IMAGENET_STD),
    "crop_pct": 0.875,
    "crop_mode": "center",
    "interpolation": "bicubic",
}  # what timm's resolve_data_config fills in
_TIMM_READ: Final = {*_TIMM_DEFAULTS, "input_size"}
_TIMM_HARMLESS: Final = frozenset(
    {"test_input_size", "min_input_size", "fixed_input_size", "test_crop_pct", "pool_size"}
    | {"test_pool_size"}
)
_PIXELS: Final = re.compile(
    "crop|resize|interpol|mean|std|pad|border|normal|color|gr[ae]y|flip|scale|pixel|transform"
)


def timm_config(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """`pretrained_cfg` of a timm config.json, also in its older flat form; None where there is none."""
    nested = data.get("pretrained_cfg")
    if isinstance(nested, dict):
        return nested
    flat = "architecture" in data and "input_size" in data
    return data if flat else None


def spec_of_timm(
    config: Mapping[str, Any], where: str, image_size: int
) -> tuple[PreprocessSpec, tuple[str, ...]]:
    """timm's evaluation transform for a `pretrained_cfg`, and a line for what the file leaves out.

    Source: timm.data, `resolve_data_config` and `transforms_imagenet_eval`.

    Raises:
        EdgeDeitError: a value or a field that cannot be executed exactly; it is named.
    """
    given = {key: value for key, value in config.items() if value is not None}
    for field in given.keys() - _TIMM_READ - _TIMM_HARMLESS:
        if _PIXELS.search(field):
            raise EdgeDeitError(f"{where}: {field} is {given[field]!r}, which is not supported")
    absent = [name for name in _TIMM_DEFAULTS if name not in given and name != "crop_mode"]
    fields = {"input_size": [3, image_size, image_size], **_TIMM_DEFAULTS, **given}
    shape = fields["input_size"]
    sides = shape[1:] if isinstance(shape, list | tuple) and len(shape) == 3 else []
    if len(sides) != 2 or shape[0] != 3 or type(sides[0]) is not int or sides[0] != sides[1]:
        raise EdgeDeitError(f"{where}: input_size is {shape!r}; [3, size, size] is expected")
    ratio, mode, kind = fields["crop_pct"], fields["crop_mode"], fields["interpolation"]
    if type(ratio) not in (int, float) or not 0.01 <= ratio <= 100:
        raise EdgeDeitError(f"{where}: crop_pct is {ratio!r}; a share of the photo is expected")
    if mode not in ("center", "squash"):
        raise EdgeDeitError(f"{where}: crop_mode is {mode!r}; center and squash are supported")
    if kind not in ("nearest", "bilinear", "bicubic", "lanczos"):
        raise EdgeDeitError(
            f"{where}: interpolation is {kind!r}; nearest, bilinear, bicubic and lanczos are supported"
        )
    spec = PreprocessSpec(
        resize="shortest" if mode == "center" else "exact",
        resize_size=math.floor(sides[0] / ratio),
        crop_size=sides[0],
        resample=kind,
        mean=_triple(fields, "mean", where),
        std=_triple(fields, "std", where),
    )
    if not absent:
        return spec, ()
    return spec, (
        f"assumed: {Path(where).name} does not say {', '.join(absent)}; timm's defaults are taken",
    )


def _triple(fields: Mapping[str, Any], name: str, where: str) -> _Triple:
    value = fields[name]
    values = value if isinstance(value, list | tuple) else []
    finite = all(type(item) in (int, float) and math.isfinite(item) for item in values)
    if len(values) != 3 or not finite or (name == "std" and min(values) <= 0):
        raise EdgeDeitError(
            f"{where}: {name} is {value!r}; three finite numbers are expected, std all positive"
        )
    red, green, blue = (float(item) for item in values)
    return red, green, blue
