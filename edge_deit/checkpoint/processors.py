"""Which preprocessing a checkpoint was made for: read from its files, known by its name, or asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from edge_deit.checkpoint.families import is_of_family
from edge_deit.checkpoint.image_processors import is_processor, spec_of_processor
from edge_deit.checkpoint.recipes import (
    RULES,
    Recipe,
    find_recipe,
    rule_spec,
    spec_of_timm,
    timm_config,
)
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.config import RECIPES, Family

__all__ = [
    "PreprocessChoice",
    "apply_choice",
    "describe",
    "spec_for_file",
    "spec_from_folder",
    "spec_named",
]

Found = tuple[PreprocessSpec, tuple[str, ...]]
"""A preprocessing, and a line for each thing that was assumed."""

_OPTIONS: Final = (
    "--preprocessing timm|deit|huggingface|FILE, or all of --mean --std --resize --interpolation"
)


def describe(spec: PreprocessSpec) -> str:
    """The preprocessing in words, for a line of text.

    >>> describe(PreprocessSpec())
    'short side to 256, bicubic, centre 224, mean 0.485 0.456 0.406, std 0.229 0.224 0.225'
    """
    size = spec.resize_size
    resized = {
        "shortest": f"short side to {size}, {spec.resample}",
        "exact": f"squashed to {size} x {size}, {spec.resample}",
        "none": "not resized",
    }[spec.resize]
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (spec.mean, spec.std))
    return f"{resized}, centre {spec.crop_size}, mean {mean}, std {std}"


# A folder


def spec_from_folder(folder: Path, config_json: Mapping[str, Any], image_size: int) -> Found:
    """The preprocessing that a Hugging Face or timm folder names.

    Sources: `processor_config.json` (nested under `image_processor`), `preprocessor_config.json`, and
    timm's `pretrained_cfg` in `config_json`, the folder's config.json. Where there is none, the
    checkpoint is known by its hub name, where the folder is one of the hub's cache, or by its config's
    `_name_or_path` or `architecture`.

    Raises:
        EdgeDeitError: a step that is not supported, two files that differ, or nothing known at all.
    """
    sources: dict[str, Found] = {}
    for path in (folder / "processor_config.json", folder / "preprocessor_config.json"):
        data = _processor(path) if path.is_file() else None
        if data is not None:
            sources[path.name] = _from_processor(data, str(path), config_json)
    timm = timm_config(config_json)
    if timm is not None:
        where = f"{folder / 'config.json'} (pretrained_cfg)"
        sources["config.json's pretrained_cfg"] = spec_of_timm(timm, where, image_size)
    if sources:
        return _agreed(folder, sources)
    names = [_hub_name(folder), config_json.get("_name_or_path"), config_json.get("architecture")]
    for name in names:
        recipe = find_recipe(name) if isinstance(name, str) else None
        if recipe is not None:
            return _known(str(name), recipe, image_size)
    raise EdgeDeitError(
        f"{folder} does not say how photos are preprocessed (no preprocessor_config.json, "
        "processor_config.json or pretrained_cfg) and is no published checkpoint known here; "
        f"give {_OPTIONS}"
    )


def _hub_name(folder: Path) -> str:
    """ORG/NAME of .../models--ORG--NAME/snapshots/COMMIT, nothing of another folder."""
    repository = folder.parent.parent.name if folder.parent.name == "snapshots" else ""
    return repository.removeprefix("models--").replace("--", "/") if repository else ""


def _processor(path: Path) -> dict[str, Any] | None:
    """The image processor's part of a file; None in a processor_config.json that has none."""
    data = _read_json(path)
    if "image_processor" not in data:
        return None if path.name == "processor_config.json" else data
    if not isinstance(data["image_processor"], dict):
        raise EdgeDeitError(f"{path}: image_processor is no JSON object")
    return dict(data["image_processor"])


def _from_processor(data: Mapping[str, Any], where: str, config_json: Mapping[str, Any]) -> Found:
    model_type = config_json.get("model_type")
    spec = spec_of_processor(data, where, model_type if isinstance(model_type, str) else None)
    return spec, ()


def _agreed(folder: Path, sources: Mapping[str, Found]) -> Found:
    (first, found), *others = sources.items()
    for name, (spec, _) in others:
        mine, theirs = asdict(found[0]), asdict(spec)
        differing = [field for field, value in mine.items() if value != theirs[field]]
        if differing:
            raise EdgeDeitError(
                f"{folder}: {first} and {name} differ in {', '.join(differing)}; remove the wrong one, "
                "or give --preprocessing with the file that holds"
            )
    return found


def _known(name: str, recipe: Recipe, image_size: int) -> Found:
    spec = recipe.spec(image_size)
    return spec, (
        f"assumed: preprocessing is {recipe.publisher} for {name} ({describe(spec)}), as no file says "
        "it; --preprocessing changes it",
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise EdgeDeitError(f"{path} is not readable: {error}") from error
    if not isinstance(data, dict):
        raise EdgeDeitError(f"{path} holds no JSON object")
    return data


# A file of weights alone


def spec_for_file(
    path: Path,
    image_size: int,
    *,
    distilled: bool = False,
    model: str | None = None,
    family: Family = "deit",
) -> Found:
    """The preprocessing of weights that come without any description: assumed, and said so.

    A published name, of the file or of its folder, tells its recipe. DeiT is proven by a distillation
    token, by `model`, the variant that was asked for, or by a name that begins with deit; without
    any of these timm's rule for DeiT is taken all the same, and the line says that nothing proves it.
    Another `family`, which the tensors or the variant prove, has its own recipe.
    """
    names = [path.name.removesuffix(path.suffix), path.parent.resolve().name]
    if family != "deit":
        own = (name for name in names if find_recipe(name) and is_of_family(name, family))
        name = next(own, RECIPES[family])
        found = find_recipe(name)
        assert found is not None
        return _known(name, found, image_size)
    recipe = next((found for name in names if (found := find_recipe(name))), None)
    proof = _proof(names, distilled=distilled, model=model)
    if recipe is not None and not proof:
        name = next(name for name in names if find_recipe(name) is recipe)
        return _known(name, recipe, image_size)
    spec = rule_spec("timm", image_size)
    reason = f"as {proof}" if proof else "though nothing says that it is one"
    return spec, (
        f"assumed: preprocessing is timm's rule for DeiT ({describe(spec)}), {reason}; "
        "--preprocessing changes it",
    )


def _proof(names: list[str], *, distilled: bool, model: str | None) -> str:
    if distilled:
        return "it has a distillation token"
    if model is not None and model.startswith("deit"):
        return f"--model is {model}"
    named = next((name for name in names if name.lower().startswith("deit")), None)
    return f"its name is {named}" if named else ""


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
        return spec_from_folder(path, _read_json(path / "config.json"), image_size)
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
    data = _read_json(path)
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
    return _from_processor(nested, str(path), _read_json(config) if config.is_file() else {})


# What a user asks for


@dataclass(frozen=True)
class PreprocessChoice:
    """What a user asks for: a `source` as `spec_named` takes it, and single values that replace its own.

    All of it is for the size that the model has in the end, after any interpolation of positions.
    """

    source: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    resize: Literal["shortest", "exact", "none"] | None = None
    resize_size: int | None = None
    crop_size: int | None = None
    resample: str | None = None

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
        values = {name: getattr(self, name) for name in _fields() if name != "source"}
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
    if choice.source is not None:
        spec, lines = spec_named(choice.source, image_size)
    elif choice.complete():
        changes.setdefault("crop_size", image_size)
        spec, lines = PreprocessSpec(crop_size=image_size), ()
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
    if not all(side.isascii() and side.isdigit() for side in sides) or len(set(sides)) != 1:
        raise EdgeDeitError(
            f"--resize is {text!r}; write 248 (short side), 256x256 (squashed) or none"
        )
    if len(sides) > 2:
        raise EdgeDeitError(f"--resize is {text!r}; write 256x256 for a squashed photo")
    return ("exact" if len(sides) == 2 else "shortest"), int(sides[0])


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
