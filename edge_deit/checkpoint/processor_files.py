"""Which preprocessing a checkpoint was made for: what its own files say, or what its name tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from edge_deit.checkpoint.families import is_of_family
from edge_deit.checkpoint.image_processors import spec_of_processor
from edge_deit.checkpoint.recipes import Recipe, find_recipe, rule_spec, spec_of_timm, timm_config
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.strict_json import read_json
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.config import RECIPES, Family

__all__ = [
    "Found",
    "describe",
    "from_processor",
    "processor_part",
    "read_object",
    "spec_for_file",
    "spec_from_folder",
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
        data = processor_part(path) if path.is_file() else None
        if data is not None:
            sources[path.name] = from_processor(data, str(path), config_json)
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


def processor_part(path: Path) -> dict[str, Any] | None:
    """The image processor's part of a file; None in a processor_config.json that has none."""
    data = read_object(path)
    if "image_processor" not in data:
        return None if path.name == "processor_config.json" else data
    if not isinstance(data["image_processor"], dict):
        raise EdgeDeitError(f"{path}: image_processor is no JSON object")
    return dict(data["image_processor"])


def from_processor(data: Mapping[str, Any], where: str, config_json: Mapping[str, Any]) -> Found:
    """An image processor's part of a file; the config beside it tells the class where it names none.

    Raises:
        EdgeDeitError: what cannot be executed exactly; the message begins with `where`.
    """
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


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        EdgeDeitError: no such file, or no JSON object in it; the message names it.
    """
    data = read_json(path)
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
