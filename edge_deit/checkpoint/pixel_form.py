"""Which pixels a Hugging Face classifier takes: their side, mean and deviation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_deit.checkpoint.image_processors import HARMLESS, named_class, spec_of_processor
from edge_deit.checkpoint.processor_files import processor_part
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import PreprocessSpec

__all__ = ["PixelForm", "form_from_folder"]

Triple = tuple[float, float, float]

_FILES: Final = ("processor_config.json", "preprocessor_config.json")
_PLAIN: Final = {"do_resize", "do_center_crop", "do_rescale", "do_normalize"}
_ON: Final = ("do_", "include_top", "rescale_offset")
"""Beginnings of the fields that switch a step on."""
_MOST_SIDE: Final = 4096


@dataclass(frozen=True)
class PixelForm:
    """Square photos of `side` pixels, (x / 255 - mean) / std by channel, in RGB order."""

    side: int
    mean: Triple
    std: Triple

    @classmethod
    def of(cls, spec: PreprocessSpec) -> PixelForm:
        """What a preprocessing ends in."""
        return cls(spec.crop_size, spec.mean, spec.std)


def form_from_folder(folder: Path, config: Mapping[str, Any]) -> tuple[PixelForm, tuple[str, ...]]:
    """What processor_config.json or preprocessor_config.json say, and a line where a class is not known.

    `config` is the content of config.json; its `model_type` tells the class where the file names none.

    Raises:
        EdgeDeitError: no such file, two that differ, or a step that changes pixels in another way.
    """
    forms: dict[str, PixelForm] = {}
    notes: tuple[str, ...] = ()
    for path in (folder / name for name in _FILES):
        data = processor_part(path) if path.is_file() else None
        if data is not None:
            forms[path.name], notes = _form(data, str(path), config.get("model_type"))
    if not forms:
        raise EdgeDeitError(
            f"{folder} does not say which pixels it takes; add the preprocessor_config.json that it was "
            "published with (transformers: processor.save_pretrained(FOLDER))"
        )
    if len(set(forms.values())) > 1:
        raise EdgeDeitError(f"{folder}: {' and '.join(forms)} differ; remove the wrong one")
    return next(iter(forms.values())), notes


def _form(
    data: Mapping[str, Any], where: str, model_type: object
) -> tuple[PixelForm, tuple[str, ...]]:
    field, name, kind = named_class(data)
    if kind is not None or not field:
        known = model_type if isinstance(model_type, str) else None
        return PixelForm.of(spec_of_processor(data, where, known)), ()
    return _stated(data, where), (
        f"assumed: {name} does nothing to pixels but what {where} says of size, mean and deviation",
    )


def _stated(data: Mapping[str, Any], where: str) -> PixelForm:
    """What a file of a class that is not known here says itself."""
    for field, value in data.items():
        if value and field.startswith(_ON) and field not in _PLAIN | HARMLESS:
            raise EdgeDeitError(
                f"{where}: {field} is {value!r:.40}, a step that is not known here; export the model "
                "with that step in it as a .pt2 file"
            )
    factor = data.get("rescale_factor", 1 / 255)
    if not data.get("do_rescale", True) or not _is_number(factor) or abs(factor - 1 / 255) > 1e-9:
        raise EdgeDeitError(f"{where}: only photos scaled by 1/255 are supported")
    if not data.get("do_normalize", True):
        return PixelForm(_side(data, where), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    mean, std = (_triple(data, name, where) for name in ("image_mean", "image_std"))
    if min(std) <= 0:
        raise EdgeDeitError(f"{where}: image_std is {list(std)}; it must be positive")
    return PixelForm(_side(data, where), mean, std)


def _side(data: Mapping[str, Any], where: str) -> int:
    cut = data.get("do_center_crop", False) and data.get("crop_size") is not None
    value = data.get("crop_size" if cut else "size")
    sides = list(value.values()) if isinstance(value, Mapping) else [value]
    if (
        len(set(map(str, sides))) != 1
        or type(sides[0]) is not int
        or not 0 < sides[0] <= _MOST_SIDE
    ):
        raise EdgeDeitError(
            f"{where}: {'crop_size' if cut else 'size'} is {value!r:.60}; the side of a square, of at most "
            f"{_MOST_SIDE} pixels, is expected"
        )
    return int(sides[0])


def _triple(data: Mapping[str, Any], name: str, where: str) -> Triple:
    value = data.get(name)
    if not isinstance(value, list) or len(value) != 3 or not all(map(_is_number, value)):
        raise EdgeDeitError(f"{where}: {name} is {value!r:.60}; three numbers are expected")
    red, green, blue = map(float, value)
    return red, green, blue


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
