"""Which preprocessing holds: what a user asks for, over what a checkpoint's own files say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from edge_deit.checkpoint.image_processors import is_processor
from edge_deit.checkpoint.processor_files import (
    Found,
    describe,
    from_processor,
    read_object,
    spec_for_file,
    spec_from_folder,
)
from edge_deit.checkpoint.recipes import RULES, find_recipe, rule_spec, spec_of_timm, timm_config
from edge_deit.common.arguments import whole_number
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import PreprocessSpec

__all__ = [
    "PreprocessChoice",
    "apply_choice",
    "describe",
    "spec_for_file",
    "spec_from_folder",
    "spec_named",
]


# By name or file


def spec_named(name_or_file: str, image_size: int) -> Found:
    """The preprocessing that a user names: `timm`, `deit` or `huggingface` (their rules for DeiT), a
    published checkpoint, or a file.

    A file is a preprocessor_config.json, a processor_config.json, a timm config.json, a manifest of
    this project or a preprocessing as a manifest holds it; a folder is read as `spec_from_folder` does.

    Raises:
        EdgeDeitError: no such name or file, or one that says nothing of preprocessing.
    """
    if name_or_file in RULES:
        return rule_spec(name_or_file, image_size), ()
    path = Path(name_or_file)
    if path.is_dir():
        return spec_from_folder(path, read_object(path / "config.json"), image_size)
    if path.is_file():
        return _spec_of_file(path, image_size)
    recipe = find_recipe(name_or_file)
    if recipe is None:
        raise EdgeDeitError(
            f"preprocessing {name_or_file!r} is neither timm, deit or huggingface, nor a published "
            "checkpoint known here, nor a file"
        )
    return recipe.spec(image_size), ()


def _spec_of_file(path: Path, image_size: int) -> Found:
    data = read_object(path)
    own = data.get("preprocessing", data)
    if isinstance(own, dict) and {"resize", "crop_size", "mean"} <= own.keys():
        try:
            return PreprocessSpec.from_json(own), ()
        except EdgeDeitError as error:
            raise EdgeDeitError(f"{path}: {error}") from error
    timm = timm_config(data)
    if timm is not None:
        return spec_of_timm(timm, str(path), image_size)
    nested = data.get("image_processor", data)
    if not isinstance(nested, dict) or not is_processor(nested):
        raise EdgeDeitError(
            f"{path} says nothing of preprocessing; a preprocessor_config.json, processor_config.json, "
            "timm config.json or a manifest is expected"
        )
    config = path.parent / "config.json"
    return from_processor(nested, str(path), read_object(config) if config.is_file() else {})


# What a user asks for


@dataclass(frozen=True)
class PreprocessChoice:
    """What a user asks for: a `source` as `spec_named` takes it, and single values that replace its own.

    `stated` is a whole preprocessing, in place of a source.

    All of it is for the size that the model has in the end, after any interpolation of positions.
    """

    source: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    resize: Literal["shortest", "exact", "none"] | None = None
    resize_size: int | None = None
    crop_size: int | None = None
    resample: str | None = None
    stated: PreprocessSpec | None = None

    @classmethod
    def from_text(
        cls,
        source: str | None = None,
        *,
        mean: str | None = None,
        std: str | None = None,
        resize: str | None = None,
        crop: int | None = None,
        interpolation: str | None = None,
    ) -> PreprocessChoice | None:
        """The command line's options; None where none is given.

        `mean` and `std` are one number or three with commas; `resize` is 248 (short side), 256x256
        (squashed) or none.

        >>> PreprocessChoice.from_text(mean="0.5", resize="256x256").resize_size
        256

        Raises:
            EdgeDeitError: a text of another form; it is named.
        """
        kind, size = _resize_text(resize)
        choice = cls(
            source, _triple_text("--mean", mean), _triple_text("--std", std), kind, size, crop,
            interpolation,
        )  # fmt: skip
        return None if choice == cls() else choice

    def complete(self) -> bool:
        """Whether the single values say it all; the crop is the model's size where it is not given."""
        sized = self.resize == "none" or None not in (self.resize, self.resize_size)
        filtered = self.resize == "none" or self.resample is not None
        return sized and filtered and self.mean is not None and self.std is not None

    def changes(self) -> dict[str, Any]:
        """The single values that are given, by `PreprocessSpec`'s names."""
        values = {
            name: getattr(self, name) for name in _fields() if name not in ("source", "stated")
        }
        return {name: value for name, value in values.items() if value is not None}


def _fields() -> tuple[str, ...]:
    return tuple(field.name for field in fields(PreprocessChoice))


def apply_choice(
    choice: PreprocessChoice | None, image_size: int, found: Callable[[], Found]
) -> Found:
    """The preprocessing that holds: what was asked for, over what the checkpoint's own files say.

    `found` reads the checkpoint (for the final `image_size`); it is called only where the choice leaves
    something open, so that a complete choice works for a checkpoint that says nothing.

    Raises:
        EdgeDeitError: what `spec_named`, `found` and `PreprocessSpec` refuse.
    """
    if choice is None:
        return found()
    changes = choice.changes()
    spec: PreprocessSpec
    lines: tuple[str, ...] = ()
    if choice.stated is not None:
        spec = choice.stated
    elif choice.source is not None:
        spec, lines = spec_named(choice.source, image_size)
    elif choice.complete():
        changes.setdefault("crop_size", image_size)
        spec = PreprocessSpec(crop_size=image_size)
    else:
        spec, lines = found()
    return replace(spec, **changes), lines


def _resize_text(
    text: str | None,
) -> tuple[Literal["shortest", "exact", "none"] | None, int | None]:
    if text is None:
        return None, None
    if text == "none":
        return "none", None
    sides = text.lower().split("x")
    side = whole_number(sides[0])
    if side is None or len(set(sides)) != 1:
        raise EdgeDeitError(
            f"--resize is {text[:80]!r}; write 248 (short side), 256x256 (squashed) or none"
        )
    if len(sides) > 2:
        raise EdgeDeitError(f"--resize is {text!r}; write 256x256 for a squashed photo")
    return ("exact" if len(sides) == 2 else "shortest"), side


def _triple_text(option: str, text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise EdgeDeitError(f"{option} is {text!r}; write one number, or three with commas between")
    red, green, blue = values
    return red, green, blue
