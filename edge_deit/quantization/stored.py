"""A conditioned form as one safetensors file: tensors, and the rest as JSON in its header.

Nothing in it is executed, and a hash of all of it stands beside it, so that a damaged file is known as one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.fields import STRICT
from edge_deit.common.strict_json import parse_json
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.config import DeiTConfig
from edge_deit.model.form import DeployDeiT
from edge_deit.quantization.condition import Conditioned
from edge_deit.quantization.narrow import scale_tokens, split_coarse, use_grey_levels
from edge_deit.quantization.pairs import PairedLayer
from edge_deit.quantization.pinning import Pinning
from edge_deit.quantization.scheme import LayerRanges, Range

__all__ = [
    "check_values",
    "conditioned_from_tensors",
    "conditioned_to_tensors",
    "fill",
    "read_conditioned",
    "read_text",
    "recipe",
    "tensors_hash",
    "write_conditioned",
]

_LAYOUT: Final = 2
"""Version of the file's layout, to be raised with it."""
_INTEGERS: Final = "paired.integers."
_BIAS: Final = "paired.bias."
_SOURCES: Final = ("edge_deit.quantization", "edge_deit.model")
_HEADER: Final = "edge_deit.conditioned"
_HASH: Final = "edge_deit.sha256"
_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class _Header:
    """What of `Conditioned` is no tensor."""

    __pydantic_config__ = STRICT

    coarse: bool
    ranges: dict[str, tuple[Range, Range]]
    exponents: dict[str, float]
    token_scaled: tuple[str, ...]
    methods: dict[str, tuple[str, str]]
    noise: dict[str, tuple[float, float]]
    pinning: dict[str, int | float | None] | None


def recipe() -> str:
    """Names what makes a conditioned form: this layout, our sources and PyTorch's version."""
    digest = hashlib.sha256(f"{_LAYOUT} {torch.__version__}".encode())
    for package in _SOURCES:
        for file in sorted(resources.files(package).iterdir(), key=lambda file: file.name):
            if file.name.endswith(".py"):
                digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of names, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)} ".encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def conditioned_to_tensors(found: Conditioned) -> tuple[str, dict[str, Tensor]]:
    """What of it is no tensor, as JSON, and its tensors by name."""
    header = _Header(
        coarse=found.form.coarse_embed is not None,
        ranges={name: (one.input, one.output) for name, one in found.ranges.items()},
        exponents=found.exponents,
        token_scaled=found.token_scaled,
        methods=found.methods,
        noise=found.noise,
        pinning=None if found.pinning is None else asdict(found.pinning),
    )
    return json.dumps(asdict(header)), _tensors(found)


def write_conditioned(found: Conditioned, path: Path) -> None:
    """Write the file in place.

    Raises:
        OSError: it cannot be written.
    """
    text, tensors = conditioned_to_tensors(found)
    metadata = {_HEADER: text, _HASH: _hash(text, tensors)}
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def read_conditioned(path: Path, config: DeiTConfig, spec: PreprocessSpec) -> Conditioned:
    """Read such a file for the model that it was made from.

    Raises:
        EdgeDeitError: it cannot be read, is damaged, or belongs to another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # no dict
        text = metadata[_HEADER]
        if metadata[_HASH] != _hash(text, tensors):
            raise ValueError("its hash is another")
        return conditioned_from_tensors(text, tensors, config, spec)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise EdgeDeitError(f"{path} is no conditioned model: {error}") from error


def conditioned_from_tensors(
    text: str, tensors: Mapping[str, Tensor], config: DeiTConfig, spec: PreprocessSpec
) -> Conditioned:
    """The reverse of `conditioned_to_tensors`.

    Raises:
        KeyError, ValueError, TypeError, RuntimeError: it is none, or belongs to another model.
    """
    header = read_text(_Header, text)
    form, unrounded = (
        _rebuilt(header, config, spec, tensors, part) for part in ("form", "unrounded")
    )
    pinning = None if header.pinning is None else _pinning(header.pinning)
    return Conditioned(
        form,
        unrounded,
        {name: LayerRanges(*ends) for name, ends in header.ranges.items()},
        header.exponents,
        header.token_scaled,
        header.methods,
        header.noise,
        pinning,
        _paired(tensors),
    )


def read_text(kind: type[_Kind], text: str) -> _Kind:
    """What a text of JSON holds, a dataclass of `kind`.

    Raises:
        ValueError: it is none; the message names its first wrong entry.
    """
    from pydantic import TypeAdapter, ValidationError

    parse_json(text)
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "its text"
        raise ValueError(f"{place:.60}: {first['msg']}") from error


def fill(form: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Put all of a form's values into it; float32, finite, and as many as it has.

    Raises:
        ValueError: a value that is missing, unknown, or none of these.
    """
    own = form.state_dict()
    for words, names in (
        ("missing", own.keys() - values.keys()),
        ("unknown", values.keys() - own.keys()),
    ):
        if names:
            raise ValueError(f"{min(names):.60} is {words}")
    for name, value in values.items():
        check_values(name, value, own[name].shape)
    form.load_state_dict(values)


def check_values(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse other values than finite ones in float32 of that shape.

    Raises:
        ValueError: one of these is not so.
    """
    if value.dtype != torch.float32 or value.shape != shape:
        raise ValueError(
            f"{name} is {value.dtype} {list(value.shape)}, not {torch.float32} {list(shape)}"
        )
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} holds NaN or infinity")


def _tensors(found: Conditioned) -> dict[str, Tensor]:
    parts = {"form": found.form, "unrounded": found.unrounded}
    tensors = {
        f"{part}.{name}": value.detach().contiguous()
        for part, form in parts.items()
        for name, value in form.state_dict().items()
    }
    for name, layer in found.paired.items():
        tensors |= {f"{_INTEGERS}{name}": layer.integers, f"{_BIAS}{name}": layer.bias}
    return tensors


def _paired(tensors: Mapping[str, Tensor]) -> dict[str, PairedLayer]:
    found = {}
    for name, value in tensors.items():
        if name.startswith(_INTEGERS):
            layer = name.removeprefix(_INTEGERS)
            if (bias := tensors.get(_BIAS + layer)) is None:
                raise ValueError(f"{_BIAS}{layer} is missing")
            found[layer] = PairedLayer(value, bias)
    return found


def _hash(text: str, tensors: Mapping[str, Tensor]) -> str:
    return hashlib.sha256(f"{text} {tensors_hash(tensors)}".encode()).hexdigest()


def _rebuilt(
    header: _Header,
    config: DeiTConfig,
    spec: PreprocessSpec,
    tensors: Mapping[str, Tensor],
    part: str,
) -> DeployDeiT:
    """The form with the modules that conditioning had added, in its order, and the stored values."""
    form = DeployDeiT(config)
    use_grey_levels(form, spec)
    if header.coarse:
        split_coarse(form)
    for name in header.token_scaled:
        scale_tokens(form, name)
    own = {n.removeprefix(f"{part}."): v for n, v in tensors.items() if n.startswith(f"{part}.")}
    fill(form, own)
    return form.eval()


def _pinning(entries: dict[str, Any]) -> Pinning:
    return Pinning(**entries)
