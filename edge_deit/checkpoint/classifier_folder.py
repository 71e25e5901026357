"""A Hugging Face folder of an image classifier that is no DeiT: all of it but its graph."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from edge_deit.checkpoint.families import family_of_architecture
from edge_deit.checkpoint.files import CONFIG_KEY
from edge_deit.checkpoint.folders import is_described, open_safetensors, read_config
from edge_deit.checkpoint.huggingface import head_problem
from edge_deit.checkpoint.pixel_form import PixelForm, form_from_folder
from edge_deit.checkpoint.reading import open_weights
from edge_deit.checkpoint.stored import StoredTensor, read_tensors
from edge_deit.common.errors import EdgeDeitError

__all__ = ["ClassifierFolder", "classifier_folder", "read_classifier"]

_OURS: Final = ("deit", "vit", "vit_msn")
"""Values of `model_type` whose classifiers `load_model` takes."""

_COUNTERS: Final = (torch.int64, torch.int32, torch.bool)
"""Types of tensors that are no weights: how many batches a norm has seen, tables of places."""

_REFUSED: Final = {
    "auto_map": "its model is code of its own, which is never run",
    "custom_pipelines": "it is code of its own, which is never run",
    "quantization_config": "its weights are quantized; give those that they were made from",
    "pruned_heads": "heads were pruned, which is not supported",
    "transformers_weights": "its weights are in another file than model.safetensors",
    "backbone": "a part of it is another model",
    "use_timm_backbone": "a part of it is another model",
    "use_pretrained_backbone": "a part of it is another model",
    "fusion_config": "it replaces parts of the model by others",
}
_DEPTH: Final = re.compile(r"(^|_)(depths?|layers|repeats)$")
_CHOICES: Final = (
    *("attn_implementation", "_attn_implementation", "_attn_implementation_internal"),
    *("experts_implementation", "_experts_implementation", "_experts_implementation_internal"),
)
_NAMES: Final = ("id2label", "label2id")
_PLAIN: Final = (None, "eager", "sdpa")
"""The values of `_CHOICES` that name no code from elsewhere."""


@dataclass(frozen=True)
class ClassifierFolder:
    """What a folder holds: config.json, tensors under its own names (floating point as float32), pixels.

    `sha256` is that of the weights, the configuration and the pixels together. `notes` are lines for the
    user.
    """

    path: Path
    config: dict[str, Any]
    state: dict[str, Tensor]
    form: PixelForm
    sha256: str
    notes: tuple[str, ...]


def classifier_folder(path: Path) -> Path | None:
    """The folder of a classifier that `load_model` does not take, None where it is to say what it is.

    Raises:
        EdgeDeitError: a config.json that is damaged, an adapter's folder, or timm's of another model.
    """
    if is_described(path):
        own = path.suffix == ".safetensors" and CONFIG_KEY in open_weights(path).metadata
        return None if own else classifier_folder(path.parent)
    if not (path / "config.json").is_file():
        return None
    place, config = read_config(path)
    if "architecture" in config:
        _check_timm(place, str(config["architecture"]))
        return None
    kind = config.get("model_type")
    return path if isinstance(kind, str) and kind not in _OURS else None


def _check_timm(path: Path, architecture: str) -> None:
    try:
        family_of_architecture(path, architecture)
    except EdgeDeitError as error:
        raise EdgeDeitError(
            f"{error}; of timm's other models give a .pt2 file that torch.export made"
        ) from error


def read_classifier(folder: Path) -> ClassifierFolder:
    """Read a folder: safetensors alone, and nothing that lies outside or is code.

    Raises:
        EdgeDeitError: a part that is missing, damaged or refused; it is named.
    """
    place, config = read_config(folder)
    for problem in _problems(config):
        raise EdgeDeitError(f"{place}: {problem}")
    if (other := head_problem(config)) is not None:
        raise EdgeDeitError(f"{place}: {other}")
    form, notes = form_from_folder(folder, config)
    contents, digest = open_safetensors(folder)
    assert isinstance(contents.loaded, Mapping)
    state = _read(contents.path, contents.loaded)
    _check_depth(place, config, len(state))
    told = json.dumps([digest, config, asdict(form)], sort_keys=True)
    sha256 = hashlib.sha256(told.encode()).hexdigest()
    return ClassifierFolder(folder, config, state, form, sha256, notes)


def _problems(value: Any) -> Iterator[str]:
    """What of a configuration, at any depth, names code or another model."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        if not isinstance(one, Mapping):
            continue
        waiting += [inner for name, inner in one.items() if name not in _NAMES]
        for name, reason in _REFUSED.items():
            if one.get(name):
                yield f"{name} is set: {reason}"
        for name in _CHOICES:
            if one.get(name) not in _PLAIN:
                yield f"{name} is {one[name]!r:.60}: only eager and sdpa are taken, as others may be code"


def _check_depth(path: Path, config: Mapping[str, Any], tensors: int) -> None:
    """Refuse more layers than there are tensors, before time and memory go into building them."""
    for name, value in config.items():
        counts = [
            one for one in (value if isinstance(value, list) else [value]) if type(one) is int
        ]
        if _DEPTH.search(name) and sum(counts) > tensors:
            raise EdgeDeitError(
                f"{path}: {name} is {value!r:.60}, but the weights have {tensors} tensors in all; are both "
                "of one model?"
            )


def _read(path: Path, tensors: Mapping[Any, StoredTensor]) -> dict[str, Tensor]:
    counters = {name: one.read() for name, one in tensors.items() if one.dtype in _COUNTERS}
    return counters | read_tensors(
        path, {name: one for name, one in tensors.items() if name not in counters}
    )
