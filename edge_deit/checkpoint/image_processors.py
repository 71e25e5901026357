"""transformers' image processors, as their JSON files describe them -> our own description."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import PreprocessSpec

__all__ = [
    "HARMLESS",
    "MODEL_PROCESSORS",
    "PROCESSOR_DEFAULTS",
    "is_processor",
    "named_class",
    "spec_of_processor",
]

_HALF: Final = [0.5, 0.5, 0.5]
_CLIP_MEAN: Final = [0.48145466, 0.4578275, 0.40821073]
_CLIP_STD: Final = [0.26862954, 0.26130258, 0.27577711]
_SQUARE_224: Final = {"height": 224, "width": 224}
_STEPS: Final = {
    "do_resize": True,
    "do_center_crop": None,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "default_to_square": True,
    "crop_size": None,
    "image_mean": _HALF,
    "image_std": _HALF,
}
_CLIP: Final[dict[str, Any]] = _STEPS | {
    "size": {"shortest_edge": 224},
    "resample": 3,
    "default_to_square": False,
    "do_center_crop": True,
    "crop_size": _SQUARE_224,
    "image_mean": _CLIP_MEAN,
    "image_std": _CLIP_STD,
}

PROCESSOR_DEFAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "DeiT": _STEPS
    | {
        "size": {"height": 256, "width": 256},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": _SQUARE_224,
    },
    "ViT": _STEPS | {"size": _SQUARE_224, "resample": 2},
    "CLIP": _CLIP,
    "Bit": _CLIP,
    "ConvNext": _STEPS
    | {
        "size": {"shortest_edge": 384},
        "resample": 3,
        "default_to_square": False,
        "crop_pct": 224 / 256,
    },
    "Beit": _STEPS
    | {"size": _SQUARE_224, "resample": 3, "do_center_crop": False, "crop_size": _SQUARE_224},
    "Siglip": _STEPS | {"size": _SQUARE_224, "resample": 3, "default_to_square": False},
}
"""What transformers' classes fill in where a file is silent (version 5, class attributes)."""

MODEL_PROCESSORS: Final[Mapping[str, str]] = {
    "deit": "DeiT",
    "vit": "ViT",
    "vit_mae": "ViT",
    "vit_msn": "ViT",
    "ijepa": "ViT",
    "dinov2": "Bit",
    "dinov2_with_registers": "Bit",
    "beit": "Beit",
}
"""The class that transformers takes for a `model_type` where the file names none."""

HARMLESS: Final = frozenset(
    {
        "_commit_hash", "_name_or_path", "_processor_class", "_valid_kwargs_names",
        "_valid_processor_keys", "auto_map", "data_format", "device", "disable_grouping",
        "do_convert_rgb", "do_reduce_labels", "feature_extractor_type", "image_processor_type",
        "image_seq_length", "input_data_format", "model_input_names", "pad_size", "processor_class",
        "reduce_labels", "return_tensors", "transformers_version", "use_fast",
    }
)  # fmt: skip
"""Fields that change no pixel: photos are read as RGB already, and padding is refused when it is on."""

_RESAMPLE: Final = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
_Resize = tuple[Literal["shortest", "exact", "none"], int]


def is_processor(data: Mapping[str, Any]) -> bool:
    """Whether a JSON object looks like an image processor's."""
    marks = {"image_processor_type", "feature_extractor_type", "do_resize", "do_normalize"}
    return bool(marks & data.keys())


def spec_of_processor(
    data: Mapping[str, Any], where: str, model_type: str | None
) -> PreprocessSpec:
    """What an image processor's file says, completed by the defaults of the class that it names.

    `where` names the file in messages. `model_type` tells the class where the file names none. The
    result is what transformers' Pillow classes compute from a photo that its `load_image` has read.

    Raises:
        EdgeDeitError: a class, a field or a value that cannot be executed exactly; it is named.
    """
    kind = _class_of(data, where, model_type)
    _check_fields(data, kind, where)
    fields = {**PROCESSOR_DEFAULTS[kind], **data}  # null is a value: it switches a step off
    factor = fields["rescale_factor"]
    if not _flag(fields, "do_rescale", where):
        raise EdgeDeitError(
            f"{where}: do_rescale is off; only photos scaled by 1/255 are supported"
        )
    if not isinstance(factor, float) or not math.isclose(factor, 1 / 255, rel_tol=1e-7):
        raise EdgeDeitError(f"{where}: rescale_factor is {factor!r}; only 1/255 is supported")
    resize, crop = _steps(fields, kind, where)
    normalise = _flag(fields, "do_normalize", where)
    return PreprocessSpec(
        resize=resize[0],
        resize_size=resize[1],
        crop_size=crop,
        crop_rounding="floor",
        resample=_filter(fields, where) if resize[0] != "none" else "bicubic",
        mean=_triple(fields, "image_mean", where) if normalise else (0.0, 0.0, 0.0),
        std=_triple(fields, "image_std", where) if normalise else (1.0, 1.0, 1.0),
    )


def named_class(data: Mapping[str, Any]) -> tuple[str, str, str | None]:
    """The field that names a processor's class, the name, and `DeiT` of `DeiTImageProcessorFast`.

    The last is None for a class that is not known here; all are empty where none is named.
    """
    for field in ("image_processor_type", "feature_extractor_type"):
        if (name := data.get(field)) is not None:
            stem = re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", str(name))
            kinds = (kind for kind in PROCESSOR_DEFAULTS if kind.lower() == stem.lower())
            return field, str(name), next(kinds, None)
    return "", "", None


def _class_of(data: Mapping[str, Any], where: str, model_type: str | None) -> str:
    """`DeiT` of DeiTImageProcessor, DeiTImageProcessorFast, DeiTFeatureExtractor, ..."""
    field, _, kind = named_class(data)
    if kind is not None:
        return kind
    if field:
        known = ", ".join(PROCESSOR_DEFAULTS)
        raise EdgeDeitError(
            f"{where}: {field} is {data[field]!r}; the image processors of {known} are supported"
        )
    if model_type is None or model_type not in MODEL_PROCESSORS:
        raise EdgeDeitError(
            f"{where} does not say image_processor_type, and no class is known for the model_type "
            f"{model_type!r}; add it"
        )
    return MODEL_PROCESSORS[model_type]


def _check_fields(given: Mapping[str, Any], kind: str, where: str) -> None:
    """Refuse what is not known, unless it is a step that is switched off."""
    for field, value in given.items():
        if field in HARMLESS or field in PROCESSOR_DEFAULTS[kind]:
            continue
        if value is None or (field.startswith("do_") and value is False):
            continue
        raise EdgeDeitError(
            f"{where}: {field} is {value!r}, which is not supported"
            + ("; set it to false if the model was trained without" if value is True else "")
        )


def _flag(fields: Mapping[str, Any], name: str, where: str) -> bool:
    value = fields[name]
    if value is not None and not isinstance(value, bool):
        raise EdgeDeitError(f"{where}: {name} is {value!r}; true or false is expected")
    return bool(value)


def _steps(fields: Mapping[str, Any], kind: str, where: str) -> tuple[_Resize, int]:
    """How the photo is resized, and the side of the square that is cut."""
    resized, cut = _flag(fields, "do_resize", where), _flag(fields, "do_center_crop", where)
    resize: _Resize = ("none", 1)
    crop = 0
    if resized:
        resize = _size(fields, where)
        if kind == "ConvNext":
            resize, crop = _convnext(resize, fields, where)
        elif resize[0] == "exact":
            crop = resize[1]
    if cut:
        wanted = _square(fields["crop_size"], "crop_size", where)
        if kind == "ConvNext" and crop and wanted != crop:
            raise EdgeDeitError(
                f"{where}: crop_size is {wanted}, but size already makes {crop} pixels a side"
            )
        crop = wanted
    if not crop:
        field = "size keeps the aspect" if resized else "do_resize is off"
        raise EdgeDeitError(
            f"{where}: {field} and nothing is cropped (do_center_crop); not a square"
        )
    return (resize if resized else ("none", crop)), crop


def _convnext(resize: _Resize, fields: Mapping[str, Any], where: str) -> tuple[_Resize, int]:
    """Below 384 pixels the short side goes to size / crop_pct and the square is cut, from 384 squashed."""
    if resize[0] != "shortest":
        raise EdgeDeitError(
            f"{where}: size is {fields['size']!r}; ConvNextImageProcessor takes shortest_edge"
        )
    ratio = fields["crop_pct"]
    if type(ratio) not in (int, float) or not 0 < ratio <= resize[1]:
        raise EdgeDeitError(f"{where}: crop_pct is {ratio!r}; a share of the photo is expected")
    side = resize[1]
    return (("shortest", int(side / ratio)) if side < 384 else ("exact", side)), side


def _size(fields: Mapping[str, Any], where: str) -> _Resize:
    """248, [224, 224], {"height": 224, "width": 224} or {"shortest_edge": 248}."""
    size = fields["size"]
    if isinstance(size, dict) and set(size) == {"shortest_edge"}:
        return "shortest", _whole(size["shortest_edge"], "size", where)
    if type(size) is int and not _flag(fields, "default_to_square", where):
        return "shortest", _whole(size, "size", where)
    return "exact", _square(size, "size", where)


def _square(value: Any, name: str, where: str) -> int:
    sides = value if isinstance(value, list) else [value, value]
    if isinstance(value, dict):
        sides = [value["height"], value["width"]] if set(value) == {"height", "width"} else []
    if len(sides) != 2 or sides[0] != sides[1]:
        raise EdgeDeitError(f"{where}: {name} is {value!r}; only squares are supported")
    return _whole(sides[0], name, where)


def _whole(value: Any, name: str, where: str) -> int:
    if type(value) is not int or value < 1:
        raise EdgeDeitError(f"{where}: {name} is {value!r}; a whole number, 1 up, is expected")
    return value


def _filter(fields: Mapping[str, Any], where: str) -> str:
    value = fields["resample"]
    if type(value) is not int or value not in _RESAMPLE:
        known = ", ".join(f"{number} ({name})" for number, name in _RESAMPLE.items())
        raise EdgeDeitError(f"{where}: resample is {value!r}; supported are {known}")
    return _RESAMPLE[value]


def _triple(fields: Mapping[str, Any], name: str, where: str) -> tuple[float, float, float]:
    value = fields[name]
    values = value if isinstance(value, list | tuple) else [value] * 3
    finite = all(type(item) in (int, float) and math.isfinite(item) for item in values)
    if len(values) != 3 or not finite or (name == "image_std" and min(values) <= 0):
        raise EdgeDeitError(
            f"{where}: {name} is {value!r}; three finite numbers are expected, image_std all positive"
        )
    red, green, blue = (float(item) for item in values)
    return red, green, blue
