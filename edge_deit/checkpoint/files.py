"""Weights as a user names them -> tensors under our own names, and what the files say about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from torch import Tensor

from edge_deit import assets
from edge_deit.checkpoint.attention_heads import (
    check_stated_heads,
    heads_of_tensors,
    heads_of_timm,
)
from edge_deit.checkpoint.class_names import check_names, labels_from_config, labels_from_timm
from edge_deit.checkpoint.families import check_timm_fields, family_of_architecture
from edge_deit.checkpoint.folders import Folder, is_described, read_folder
from edge_deit.checkpoint.huggingface import config_from_json, decoder_stride, head_problem
from edge_deit.checkpoint.processors import spec_for_file, spec_from_folder
from edge_deit.checkpoint.reading import Contents, open_weights, read_model
from edge_deit.checkpoint.sources import locate
from edge_deit.checkpoint.tensor_names import (
    config_from_tensors,
    decoder_tensors,
    from_hugging_face,
    from_timm,
    is_hugging_face,
)
from edge_deit.checkpoint.trained import TrainedIntegers, split_trained
from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.common.files import hash_path
from edge_deit.common.strict_json import parse_json
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.config import DeiTConfig

__all__ = ["CONFIG_KEY", "LABELS_KEY", "PREPROCESS_KEY", "RawCheckpoint", "Wanted", "read_weights"]

CONFIG_KEY: Final = "edge_deit_config"
PREPROCESS_KEY: Final = "edge_deit_preprocess"
LABELS_KEY: Final = "edge_deit_labels"
"""Metadata of our own safetensors files: each holds JSON."""

FoundSpec = tuple[PreprocessSpec, tuple[str, ...]]


@dataclass(frozen=True)
class Wanted:
    """What the user says about weights: averaged ones, the number of heads, the variant and its name."""

    ema: bool = False
    num_heads: int | None = None
    expected: DeiTConfig | None = None
    model: str | None = None


@dataclass(frozen=True)
class RawCheckpoint:
    """Tensors under our own names, and what the files said about them.

    `find_spec` reads the preprocessing, for the size that the tensors have; it raises EdgeDeitError where
    nothing tells it. `head_problem` says why the classifier is none. `notes` are lines for the user.
    `decoder` has the tensors of a masked-image decoder of `decoder_stride`; the other tasks leave them out.
    `trained` are integers that were trained from these weights.
    """

    path: Path
    sha256: str
    state: dict[str, Tensor]
    config: DeiTConfig
    find_spec: Callable[[], FoundSpec]
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()
    head_problem: str | None = None
    new_heads: bool = False
    decoder: Mapping[str, Tensor] = field(default_factory=dict)
    decoder_stride: int = 0
    trained: TrainedIntegers | None = None


def read_weights(weights: str, wanted: Wanted, cache_dir: Path | None) -> RawCheckpoint:
    """Read `bundled`, a file, a folder, or `hub:ORG/NAME[@REVISION]`; nothing is checked against a model.

    Raises:
        EdgeDeitError: weights that are missing, cannot be read or fetched, or are no DeiT's.
    """
    if weights == "bundled":
        with assets.bundled_checkpoint() as path:
            if not path.is_file():
                raise EdgeDeitError(
                    "this installation has no bundled weights; name some, --weights"
                )
            return _read_file(path, wanted)
    path = locate(weights, cache_dir)
    return _read_folder(path, wanted) if path.is_dir() else _read_file(path, wanted)


# One file


def _read_file(path: Path, wanted: Wanted) -> RawCheckpoint:
    contents = open_weights(path)
    own = CONFIG_KEY in contents.metadata
    if is_described(path) and not own:
        return _read_folder(path.parent, wanted)
    trained = None
    if own:
        contents, trained = split_trained(contents)
    state, notes = read_model(contents, ema=wanted.ema)
    digest = hash_path(path)
    if own:
        return replace(_read_own(contents, digest, state, wanted), trained=trained)
    if is_hugging_face(set(state)):
        raise EdgeDeitError(
            f"{path} has Hugging Face's names; give its folder, so that config.json is read too"
        )
    state = from_timm(path, state)
    config, more = _config(path, state, wanted)
    find_spec = partial(
        spec_for_file,
        path,
        config.image_size,
        distilled=config.distilled,
        model=wanted.model,
        family=config.family if wanted.expected is None else wanted.expected.family,
    )
    return RawCheckpoint(path, digest, state, config, find_spec, (), (*notes, *more))


def _config(
    path: Path, state: dict[str, Tensor], wanted: Wanted, stated_heads: int | None = None
) -> tuple[DeiTConfig, tuple[str, ...]]:
    """The shape that the tensors tell, with the number of heads that something else tells."""
    config = config_from_tensors(path, state)
    if stated_heads is not None:
        check_stated_heads(path, stated_heads, wanted.num_heads)
        return replace(config, num_heads=stated_heads), ()
    heads, notes = heads_of_tensors(path, config.embed_dim, wanted.num_heads, wanted.expected)
    return replace(config, num_heads=heads), notes


def _read_own(
    contents: Contents, digest: str, state: dict[str, Tensor], wanted: Wanted
) -> RawCheckpoint:
    path, said = contents.path, contents.metadata
    try:
        fields, labels = parse_json(said[CONFIG_KEY]), parse_json(said[LABELS_KEY])
        if not isinstance(fields, dict) or not isinstance(labels, list):
            raise ValueError("a table and a list are expected")
        if unknown := sorted(fields.keys() - DeiTConfig.__dataclass_fields__.keys()):
            raise ValueError(f"its shape has the unknown {unknown[0]!r:.40}")
        config = DeiTConfig(**fields)
        spec = PreprocessSpec.from_json(parse_json(said[PREPROCESS_KEY]))
        names = check_names(path, "its labels", labels)
    except (KeyError, TypeError, ValueError, EdgeDeitError) as error:
        raise EdgeDeitError(f"{path} describes itself wrongly: {first_line(error)}") from error
    check_stated_heads(path, config.num_heads, wanted.num_heads)
    return RawCheckpoint(path, digest, state, config, lambda: (spec, ()), names)


# A folder


def _read_folder(path: Path, wanted: Wanted) -> RawCheckpoint:
    folder = read_folder(path, ema=wanted.ema)
    if "architecture" in folder.config:
        return _read_timm(path, folder, wanted)
    place = path / "config.json"
    shapes = {name: tuple(value.shape) for name, value in folder.state.items()}
    decoder = decoder_tensors(folder.state)
    config = config_from_json(place, folder.config, shapes)
    check_stated_heads(place, config.num_heads, wanted.num_heads)
    return RawCheckpoint(
        folder.weights,
        folder.sha256,
        from_hugging_face(folder.state),
        config,
        partial(spec_from_folder, path, folder.config, config.image_size),
        labels_from_config(place, folder.config, config.num_classes) if config.num_classes else (),
        folder.notes,
        head_problem(folder.config) if config.num_classes else None,
        decoder=decoder,
        decoder_stride=decoder_stride(place, folder.config) if decoder else 0,
    )


def _read_timm(path: Path, folder: Folder, wanted: Wanted) -> RawCheckpoint:
    place = path / "config.json"
    inner = folder.config.get("pretrained_cfg", {})
    if not isinstance(inner, dict):
        raise EdgeDeitError(f"{place}: pretrained_cfg is {inner!r:.40}, not an object")
    said = {**inner, **folder.config}
    check_timm_fields(place, said)
    family = family_of_architecture(place, str(said["architecture"]))
    state = from_timm(folder.weights, folder.state)
    width = state["cls_token"].shape[-1] if "cls_token" in state else 0
    stated = heads_of_timm(place, said, width) if width else None
    config, notes = _config(folder.weights, state, wanted, stated)
    return RawCheckpoint(
        folder.weights,
        folder.sha256,
        state,
        replace(config, family=family),
        partial(spec_from_folder, path, folder.config, config.image_size),
        labels_from_timm(place, said, config.num_classes) if config.num_classes else (),
        (*folder.notes, *notes),
    )
