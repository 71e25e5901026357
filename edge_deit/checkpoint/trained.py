"""Integers that were trained, as a checkpoint of ours carries them beside its float model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
from torch import Tensor

from edge_deit.checkpoint.reading import Contents
from edge_deit.checkpoint.stored import StoredTensor, check_total
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.strict_json import parse_json

__all__ = ["TRAINED_KEY", "TrainedIntegers", "split_trained"]

TRAINED_KEY: Final = "edge_deit_trained"
_PREFIX: Final = "trained."
_TYPES: Final = (torch.float32, torch.int8)
_PRECISIONS: Final = ("int8", "int4")
_MOST_TEXT: Final = 1 << 22  # characters; a thousand blocks have fewer


@dataclass(frozen=True)
class TrainedIntegers:
    """What files of `precision` are made of: tensors by name, and a text that says the rest of it.

    `seed` drew the rotation of their form. What they mean is `quantization.trained`'s business.
    """

    precision: Literal["int8", "int4"]
    text: str
    tensors: Mapping[str, Tensor]
    seed: int = 0

    def metadata(self) -> dict[str, str]:
        """Their entry in the header of a safetensors file."""
        said = {"precision": self.precision, "text": self.text, "seed": self.seed}
        return {TRAINED_KEY: json.dumps(said)}

    def stored(self) -> dict[str, Tensor]:
        """Their tensors under the names that a file has."""
        return {f"{_PREFIX}{name}": value.contiguous() for name, value in self.tensors.items()}


def split_trained(contents: Contents) -> tuple[Contents, TrainedIntegers | None]:
    """A file's contents without trained integers, and these; None where there are none.

    Raises:
        EdgeDeitError: it has some that cannot be read, or that nothing describes.
    """
    if not isinstance(contents.loaded, dict):
        return contents, None
    if TRAINED_KEY not in contents.metadata:
        if named := sorted(n for n in contents.loaded if n.startswith(_PREFIX)):
            raise EdgeDeitError(
                f"{contents.path}: it has {named[0]:.60}, and no entry {TRAINED_KEY} that says what it is; "
                "save it again with its metadata"
            )
        return contents, None
    own: dict[str, StoredTensor] = {
        name.removeprefix(_PREFIX): contents.loaded[name]
        for name in contents.loaded
        if name.startswith(_PREFIX)
    }
    rest = {n: one for n, one in contents.loaded.items() if not n.startswith(_PREFIX)}
    try:
        said = parse_json(contents.metadata[TRAINED_KEY])
        if not isinstance(said, dict) or said.get("precision") not in _PRECISIONS:
            raise ValueError("they have no precision that is known")
        text, seed = said.get("text"), said.get("seed", 0)
        if not isinstance(text, str) or len(text) > _MOST_TEXT:
            raise ValueError("they have no text, or one that is too long")
        if type(seed) is not int or seed < 0:
            raise ValueError(f"their seed is {seed!r:.40}, no whole number from 0 on")
        for name, one in own.items():
            if one.dtype not in _TYPES or one.count > one.stored:
                raise ValueError(f"{name} is no plain tensor of float32 or int8")
        check_total(contents.path, own.values())
        tensors = {name: one.read().contiguous().clone() for name, one in own.items()}
    except (ValueError, RuntimeError, OSError) as error:
        raise EdgeDeitError(
            f"{contents.path}: its trained integers cannot be read: {error}"
        ) from error
    return replace(contents, loaded=rest), TrainedIntegers(said["precision"], text, tensors, seed)
