"""One strict loader: bundled, a file, a Hugging Face folder or a hub name -> a model and what belongs to it."""

from __future__ import annotations

import json
import math
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from edge_deit import assets
from edge_deit._hf import config_from_json, labels_from_json, spec_from_folder
from edge_deit._layouts import from_hugging_face, is_hugging_face
from edge_deit.config import VARIANTS, DeiTConfig, Task, variant
from edge_deit.errors import EdgeDeitError
from edge_deit.manifest import hash_path
from edge_deit.model import DeiT, interpolate_positions
from edge_deit.preprocess import PreprocessSpec, default_spec

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

_CONFIG: Final = "edge_deit_config"
_PREPROCESS: Final = "edge_deit_preprocess"
_LABELS: Final = "edge_deit_labels"
_HEADS: Final = ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model (eval, float32) with all that belongs to it.

    `labels` has one name a class (their numbers where the checkpoint names none); `source` is what the
    user typed, `sha256` that of the weights file, `name` the variant's or a descriptive one.
    """

    model: DeiT
    config: DeiTConfig
    preprocess: PreprocessSpec
    labels: tuple[str, ...]
    source: str
    sha256: str
    name: str


@dataclass(frozen=True)
class _Raw:
    """Tensors under our own names, and what the files said about them."""

    path: Path
    state: dict[str, Tensor]
    config: DeiTConfig
    preprocess: PreprocessSpec
    labels: tuple[str, ...]


def load_checkpoint(
    weights: str,
    model: str | None = None,
    *,
    image_size: int | None = None,
    task: Task | None = None,
    num_classes: int | None = None,
    allow_new_head: bool = False,
) -> Checkpoint:
    """Load `weights`: `bundled`, a `.safetensors` or `.pth` file, a Hugging Face folder, or
    `hub:ORG/NAME[@REVISION]`.

    `model` is the variant it must be; `image_size` another input size (positions are interpolated,
    preprocessing scales along); `task="features"` drops the classifiers. With `allow_new_head`, another
    `num_classes` gives new random heads, for fine-tuning.

    Raises:
        EdgeDeitError: anything missing, unreadable, incomplete, superfluous, of the wrong shape or not
            finite; one line that names it.
    """
    raw = _read(weights, model)
    if model is not None:
        _check_variant(raw, variant(model), model)
    raw = _other_task(raw, task)
    raw = _other_classes(raw, num_classes, allow_new_head)
    if image_size is not None and image_size != raw.config.image_size:
        raw = _resized(raw, image_size)
    if raw.preprocess.crop_size != raw.config.image_size:
        raise EdgeDeitError(
            f"{raw.path}: preprocessing makes {raw.preprocess.crop_size} pixels a side, the model takes "
            f"{raw.config.image_size}; correct preprocessor_config.json"
        )
    form = DeiT(raw.config)
    _load(form, raw, fresh=_HEADS if allow_new_head else ())
    digest = hash_path(raw.path) if raw.path.is_file() else ""
    return Checkpoint(
        model=form.eval(),
        config=raw.config,
        preprocess=raw.preprocess,
        labels=_all_labels(raw),
        source=weights,
        sha256=digest,
        name=_name(raw.config),
    )


def save_checkpoint(
    path: Path,
    model: DeiT,
    preprocess: PreprocessSpec,
    labels: tuple[str, ...],
    *,
    half: bool,
) -> None:
    """Write a single safetensors file that says everything about itself; float16 when `half`."""
    kind = torch.float16 if half else torch.float32
    state = {
        name: value.detach().to(kind).contiguous() for name, value in model.state_dict().items()
    }
    metadata = {
        _CONFIG: json.dumps(asdict(model.config)),
        _PREPROCESS: json.dumps(preprocess.to_json()),
        _LABELS: json.dumps(list(labels)),
    }
    partial = path.with_name(path.name + ".part")
    save_file(state, partial, metadata=metadata)
    os.replace(partial, path)


# Reading


def _read(weights: str, model: str | None) -> _Raw:
    if weights == "bundled":
        with assets.bundled_checkpoint() as path:
            return _read_file(path, model)
    path = _download(weights[4:]) if weights.startswith("hub:") else Path(weights)
    if path.is_dir():
        return _read_folder(path)
    return _read_file(path, model)


def _download(name: str) -> Path:
    """Fetch a repository of the Hugging Face hub; a revision (commit hash) pins what is fetched."""
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
    if match is None:
        raise EdgeDeitError(
            f"hub:{name} is no hub name; write hub:ORG/NAME or hub:ORG/NAME@REVISION"
        )
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise EdgeDeitError("hub: needs huggingface_hub: pip install 'edge-deit[hub]'") from error
    try:
        wanted = [
            "config.json",
            "preprocessor_config.json",
            "*.safetensors",
            "*.safetensors.index.json",
        ]
        folder = Path(snapshot_download(match[1], revision=match[2], allow_patterns=wanted))
        if not any(folder.glob("*.safetensors")):
            folder = Path(
                snapshot_download(
                    match[1], revision=match[2], allow_patterns=[*wanted, "pytorch_model.bin"]
                )
            )
        return folder
    except (
        errors.HfHubHTTPError,
        errors.LocalEntryNotFoundError,
        errors.HFValidationError,
    ) as error:
        raise EdgeDeitError(
            f"hub:{name} cannot be fetched: {str(error).splitlines()[0]}; check the name and the "
            "network, or download the folder and name it"
        ) from error
    except OSError as error:
        raise EdgeDeitError(f"hub:{name} cannot be fetched: {error}; check the network") from error


def _tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """State dict and safetensors metadata of one file; pickles only with `weights_only`."""
    if not path.is_file():
        raise EdgeDeitError(f"weights {path} do not exist")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        if path.suffix not in (".pth", ".pt", ".bin"):
            raise EdgeDeitError(f"weights {path}: .safetensors, .pth, .pt or .bin is expected")
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise EdgeDeitError(
            f"weights {path} cannot be read as plain tensors: {reason[:120]}; the file is cut short, "
            "of another format, or holds code, which is never run"
        ) from error
    return _state_dict(loaded, path), {}


def _state_dict(loaded: object, path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pth`, also where they are wrapped as the original's releases are."""
    for key in ("model", "state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise EdgeDeitError(f"weights {path} hold no state dict")
    if odd := [str(k) for k, v in loaded.items() if not isinstance(v, Tensor)]:
        raise EdgeDeitError(f"weights {path} hold something else than tensors under {odd[0]}")
    return {str(key).removeprefix("module."): value for key, value in loaded.items()}


def _read_file(path: Path, model: str | None) -> _Raw:
    state, metadata = _tensors(path)
    if is_hugging_face(set(state)):
        raise EdgeDeitError(
            f"{path} has Hugging Face's names; give its folder, so that config.json is read too"
        )
    if _CONFIG in metadata:
        try:
            config = DeiTConfig(**json.loads(metadata[_CONFIG]))
            spec = PreprocessSpec.from_json(json.loads(metadata[_PREPROCESS]))
            labels = tuple(str(label) for label in json.loads(metadata[_LABELS]))
        except (KeyError, TypeError, ValueError) as error:
            raise EdgeDeitError(f"{path} describes itself wrongly: {error}") from error
        return _Raw(path, state, config, spec, labels)
    config = _infer(path, state, model)
    ratio = 1.0 if config.image_size >= 384 else 0.9
    return _Raw(path, state, config, default_spec(config.image_size, ratio), ())


def _read_folder(folder: Path) -> _Raw:
    if not (folder / "config.json").is_file():
        raise EdgeDeitError(
            f"{folder} has no config.json; a Hugging Face folder or a file is expected"
        )
    path, state = _folder_state(folder)
    config = config_from_json(folder / "config.json", set(state))
    if is_hugging_face(set(state)):
        state = from_hugging_face(state)
    if not config.num_classes:
        state = {key: value for key, value in state.items() if key not in _HEADS}
    labels = labels_from_json(folder / "config.json", config.num_classes)
    return _Raw(path, state, config, spec_from_folder(folder, config.image_size), labels)


def _folder_state(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name, _tensors(folder / name)[0]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        raise EdgeDeitError(f"{folder} has neither model.safetensors nor pytorch_model.bin")
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (KeyError, ValueError, AttributeError) as error:
        raise EdgeDeitError(f"{index} is not readable: {error}") from error
    state: dict[str, Tensor] = {}
    for shard in shards:
        if Path(shard).name != shard:
            raise EdgeDeitError(f"{index} names {shard!r}, which lies outside its folder")
        state |= _tensors(folder / shard)[0]
    return index, state


def _infer(path: Path, state: dict[str, Tensor], model: str | None) -> DeiTConfig:
    """The shape that timm's and the original's tensors tell; heads have 64 values unless told."""
    for key in ("patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight", "cls_token"):
        if key not in state:
            first = ", ".join(sorted(state)[:3])
            raise EdgeDeitError(f"{path} is no DeiT: it lacks {key}; its first tensors are {first}")
    dim, channels, patch = state["patch_embed.proj.weight"].shape[:3]
    distilled = "dist_token" in state
    patches = state["pos_embed"].shape[1] - (2 if distilled else 1)
    numbers = [int(m[1]) for key in state if (m := re.match(r"blocks\.(\d+)\.", key))]
    heads = variant(model).num_heads if model else max(1, dim // 64)
    return DeiTConfig(
        image_size=patch * math.isqrt(max(1, patches)),
        patch_size=patch,
        in_channels=channels,
        embed_dim=dim,
        depth=1 + max(numbers),
        num_heads=heads,
        mlp_dim=state["blocks.0.mlp.fc1.weight"].shape[0],
        num_classes=state["head.weight"].shape[0] if "head.weight" in state else 0,
        distilled=distilled,
        distillation_head="head_dist.weight" in state,
        qkv_bias="blocks.0.attn.qkv.bias" in state,
    )


# Changing


def _check_variant(raw: _Raw, expected: DeiTConfig, name: str) -> None:
    """The checkpoint must be that variant, but for classes, image size and epsilon."""
    found = _name(raw.config)
    for field in ("distilled", "embed_dim", "depth", "num_heads", "mlp_dim", "patch_size"):
        want, have = getattr(expected, field), getattr(raw.config, field)
        if want == have:
            continue
        cause = f"it looks like {found}"
        if field == "distilled":
            cause = "it is a distilled checkpoint" if have else "it has no distillation token"
            cause += f"; use --model {found}"
        raise EdgeDeitError(
            f"{raw.path} does not fit {name}: {field} is {have}, {want} is expected ({cause})"
        )


def _other_task(raw: _Raw, task: Task | None) -> _Raw:
    if task is None or task == raw.config.task:
        return raw
    if task == "classification":
        raise EdgeDeitError(f"{raw.path} has no classifier; export it with --task features")
    state = {key: value for key, value in raw.state.items() if key not in _HEADS}
    return replace(raw, state=state, config=raw.config.without_head(), labels=())


def _other_classes(raw: _Raw, num_classes: int | None, allow: bool) -> _Raw:
    if num_classes is None or num_classes == raw.config.num_classes:
        return raw
    if not allow:
        raise EdgeDeitError(
            f"{raw.path} has {raw.config.num_classes} classes, {num_classes} are expected"
        )
    state = {key: value for key, value in raw.state.items() if key not in _HEADS}
    head = raw.config.distillation_head or (raw.config.distilled and not raw.config.num_classes)
    config = replace(raw.config, num_classes=num_classes, distillation_head=head)
    return replace(raw, state=state, config=config, labels=())


def _resized(raw: _Raw, image_size: int) -> _Raw:
    config = replace(raw.config, image_size=image_size)
    positions = raw.state.get("pos_embed")
    state = dict(raw.state)
    if positions is not None:
        state["pos_embed"] = interpolate_positions(
            positions.float(), config.num_prefix_tokens, config.grid_size
        )
    ratio = image_size / raw.config.image_size
    spec = replace(
        raw.preprocess,
        crop_size=image_size,
        resize_size=max(1, round(raw.preprocess.resize_size * ratio)),
    )
    return replace(raw, state=state, config=config, preprocess=spec)


def _load(model: nn.Module, raw: _Raw, fresh: tuple[str, ...]) -> None:
    """Strictly; `fresh` may be absent (new heads)."""
    expected = model.state_dict()
    absent = [key for key in expected if key not in raw.state and key not in fresh]
    extra = [key for key in raw.state if key not in expected]
    shapes = [k for k in expected if k in raw.state and raw.state[k].shape != expected[k].shape]
    problems = []
    if absent:
        problems.append(f"lacks {', '.join(absent[:3])} ({len(absent)} in all)")
    if extra:
        problems.append(f"has unknown {', '.join(extra[:3])} ({len(extra)} in all)")
    for key in shapes[:2]:
        have, want = tuple(raw.state[key].shape), tuple(expected[key].shape)
        problems.append(f"{key} has shape {have}, {want} is expected")
    if problems:
        raise EdgeDeitError(f"{raw.path} is not a whole {_name(raw.config)}: {'; '.join(problems)}")
    for key, value in raw.state.items():
        if not torch.isfinite(value).all():
            raise EdgeDeitError(f"{raw.path}: {key} holds NaN or infinite values")
    model.load_state_dict(raw.state, strict=not fresh)


def _name(config: DeiTConfig) -> str:
    """The variant with these widths, else a name that describes them."""
    for name, row in VARIANTS.items():
        same = (
            "image_size",
            "patch_size",
            "embed_dim",
            "depth",
            "num_heads",
            "mlp_dim",
            "distilled",
        )
        if all(getattr(row, field) == getattr(config, field) for field in same):
            return name
    kind = "_distilled" if config.distilled else ""
    return f"deit_d{config.embed_dim}_l{config.depth}_h{config.num_heads}_{config.image_size}{kind}"


def _all_labels(raw: _Raw) -> tuple[str, ...]:
    count = raw.config.num_classes
    if raw.labels and len(raw.labels) != count:
        raise EdgeDeitError(f"{raw.path} names {len(raw.labels)} labels for {count} classes")
    return raw.labels or tuple(str(index) for index in range(count))
