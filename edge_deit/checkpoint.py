"""One strict loader: bundled, a file, a Hugging Face folder or hub name -> a model and all it needs."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edge_deit import assets
from edge_deit._layouts import (
    config_from_json,
    config_from_tensors,
    from_hugging_face,
    is_hugging_face,
    labels_from_json,
    spec_from_folder,
)
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
_WIDTHS: Final = ("patch_size", "embed_dim", "depth", "num_heads", "mlp_dim", "qkv_bias")
_UNREADABLE: Final = (  # what the readers raise on files that are cut short or of another kind
    SafetensorError, pickle.UnpicklingError, struct.error, RuntimeError, EOFError, ValueError,
    LookupError, TypeError, AttributeError, AssertionError, OverflowError, OSError,
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model (eval, float32) with all that belongs to it.

    `labels` has one name a class (their numbers where the checkpoint names none, nothing for
    features); `source` is what the user typed, `sha256` that of the weights file (of several shards:
    of their names and hashes), `name` the variant's or a descriptive one.
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
    sha256: str
    state: dict[str, Tensor]
    config: DeiTConfig
    preprocess: PreprocessSpec
    labels: tuple[str, ...]
    new_heads: bool = False


def load_checkpoint(
    weights: str,
    model: str | None = None,
    *,
    image_size: int | None = None,
    task: Task | None = None,
    num_classes: int | None = None,
    allow_new_head: bool = False,
    cache_dir: Path | None = None,
) -> Checkpoint:
    """Load `weights`: `bundled`, a `.safetensors` or `.pth` file, a Hugging Face folder, or
    `hub:ORG/NAME[@REVISION]`, where a commit hash as REVISION pins what is downloaded.

    `model` is the variant it must be, classes aside. `image_size` (or else the variant's) is the input
    size: positions are interpolated and preprocessing scales along. `task="features"` drops the
    classifiers. With `allow_new_head`, another `num_classes` gives new random heads, for fine-tuning.

    Raises:
        EdgeDeitError: anything missing, unreadable, incomplete, superfluous, of the wrong shape or not
            finite; one line that names it.
    """
    expected = variant(model) if model else None
    raw = _read(weights, expected, cache_dir)
    _check_tensors(raw)
    if raw.preprocess.crop_size != raw.config.image_size:
        raise EdgeDeitError(
            f"{raw.path}: preprocessing makes {raw.preprocess.crop_size} pixels a side, the model takes "
            f"{raw.config.image_size}; correct preprocessor_config.json"
        )
    raw = _other_task(raw, task)
    if expected and model:
        _check_variant(raw, expected, model)
    raw = _other_classes(raw, num_classes, allow_new_head)
    if image_size is None:
        image_size = (expected or raw.config).image_size
    raw = _resized(raw, image_size)
    form = _build(raw)
    return Checkpoint(
        model=form.eval(),
        config=raw.config,
        preprocess=raw.preprocess,
        labels=_all_labels(raw),
        source=weights,
        sha256=raw.sha256,
        name=_name(raw.config),
    )


def save_checkpoint(
    path: Path,
    model: DeiT,
    preprocess: PreprocessSpec,
    labels: tuple[str, ...],
    *,
    half: bool,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write one safetensors file that says everything about itself; stored as float16 when `half`.

    Raises:
        EdgeDeitError: labels that do not fit the classes, a value beyond the stored format, or a file
            that cannot be written; a former file of that name then stays as it was.
    """
    if labels and len(labels) != model.config.num_classes:
        raise EdgeDeitError(f"{len(labels)} labels for {model.config.num_classes} classes")
    own = {
        _CONFIG: json.dumps(asdict(model.config)),
        _PREPROCESS: json.dumps(preprocess.to_json()),
        _LABELS: json.dumps(list(labels)),
    }
    if taken := own.keys() & (metadata or {}).keys():
        raise EdgeDeitError(f"metadata {', '.join(sorted(taken))} is written by save_checkpoint")
    kind = torch.float16 if half else torch.float32
    state = {
        name: value.detach().to("cpu", kind).contiguous()
        for name, value in model.state_dict().items()
    }
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise EdgeDeitError(f"{name} holds values that {kind} cannot store; {path} not written")
    partial = path.with_name(path.name + ".part")
    try:
        save_file(state, partial, metadata={**(metadata or {}), **own})
        os.replace(partial, path)
    except SafetensorError as error:
        raise EdgeDeitError(f"{path} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


# Reading


def _read(weights: str, expected: DeiTConfig | None, cache_dir: Path | None) -> _Raw:
    if weights == "bundled":
        with assets.bundled_checkpoint() as path:
            if not path.is_file():
                raise EdgeDeitError(
                    "this installation has no bundled weights; name some, --weights"
                )
            return _read_file(path, expected)
    hub = weights.startswith("hub:")
    path = _download(weights[4:], cache_dir) if hub else Path(weights)
    return _read_folder(path) if path.is_dir() else _read_file(path, expected)


def _download(name: str, cache_dir: Path | None) -> Path:
    """Folder of a Hugging Face repository, from the cache where it is there already."""
    match = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", name)
    if match is None:
        raise EdgeDeitError(
            f"hub:{name} is no hub name; write hub:ORG/NAME or hub:ORG/NAME@REVISION "
            "(a commit hash as REVISION pins the download)"
        )
    try:
        from huggingface_hub import errors, snapshot_download
        from huggingface_hub.utils import (  # type: ignore[attr-defined] # a lazy re-export
            are_progress_bars_disabled,
            disable_progress_bars,
            enable_progress_bars,
        )
    except ImportError as error:
        raise EdgeDeitError("hub: needs huggingface_hub: pip install 'edge-deit[hub]'") from error
    wanted = [
        "config.json",
        "preprocessor_config.json",
        "*.safetensors",
        "*.safetensors.index.json",
    ]
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        for patterns in (wanted, [*wanted, "pytorch_model.bin"]):
            folder = Path(
                snapshot_download(
                    match[1], revision=match[2], allow_patterns=patterns, cache_dir=cache_dir
                )
            )
            if any(folder.glob("*.safetensors")):
                break
        return folder
    except (errors.HFValidationError, OSError) as error:
        reason = f"not in the cache, and not reachable: {_first_line(error)}"
        if isinstance(error, errors.RevisionNotFoundError):
            reason = f"it has no revision {match[2]}"
        elif isinstance(error, errors.RepositoryNotFoundError):
            reason = "there is no such repository, or it is private"
        elif isinstance(error, errors.HFValidationError):
            reason = f"no valid name: {_first_line(error)}"
        raise EdgeDeitError(
            f"hub:{name} cannot be fetched: {reason}; check name, revision and network, or download "
            "the folder and name it"
        ) from error
    finally:
        if shown:
            enable_progress_bars()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def _tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """State dict and safetensors metadata of one file; pickles only with `weights_only`."""
    if not path.is_file():
        raise EdgeDeitError(
            f"weights {path} do not exist; give a file, a folder, hub:ORG/NAME or bundled"
        )
    if path.suffix not in (".safetensors", ".pth", ".pt", ".bin"):
        raise EdgeDeitError(f"weights {path}: .safetensors, .pth, .pt or .bin is expected")
    metadata: dict[str, str] = {}
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                loaded: object = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                metadata = file.metadata() or {}
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise EdgeDeitError(
            f"weights {path} cannot be read as plain tensors: {_first_line(error)}; the file is cut "
            "short, of another format than its name says, or holds code, which is never run"
        ) from error
    return _state_dict(loaded, path), metadata


def _state_dict(loaded: object, path: Path) -> dict[str, Tensor]:
    """Float tensors by name, also where they are wrapped as the original's releases are."""
    for key in ("model", "state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise EdgeDeitError(f"weights {path} hold no state dict")
    state = {}
    for key, value in loaded.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_meta:
            raise EdgeDeitError(
                f"weights {path} hold something else than a plain tensor under {key}"
            )
        if not value.is_floating_point():
            raise EdgeDeitError(f"weights {path}: {key} is {value.dtype}; float is expected")
        state[str(key).removeprefix("module.")] = value.detach().to(
            torch.float32, copy=True, memory_format=torch.contiguous_format
        )
    return state


def _read_file(path: Path, expected: DeiTConfig | None) -> _Raw:
    state, metadata = _tensors(path)
    digest = hash_path(path)
    if is_hugging_face(set(state)):
        raise EdgeDeitError(
            f"{path} has Hugging Face's names; give its folder, so that config.json is read too"
        )
    if _CONFIG in metadata:
        try:
            config = DeiTConfig(**json.loads(metadata[_CONFIG]))
            spec = PreprocessSpec.from_json(json.loads(metadata[_PREPROCESS]))
            labels = tuple(str(label) for label in json.loads(metadata[_LABELS]))
        except (KeyError, TypeError, ValueError, EdgeDeitError) as error:
            raise EdgeDeitError(f"{path} describes itself wrongly: {error}") from error
        return _Raw(path, digest, state, config, spec, labels)
    config = config_from_tensors(path, state, expected)
    ratio = 1.0 if config.image_size == 384 else 0.9
    return _Raw(path, digest, state, config, default_spec(config.image_size, ratio), ())


def _read_folder(folder: Path) -> _Raw:
    if not (folder / "config.json").is_file():
        raise EdgeDeitError(
            f"{folder} has no config.json; a Hugging Face folder or a file is expected"
        )
    path, digest, state = _folder_state(folder)
    config = config_from_json(folder / "config.json", set(state))
    labels = labels_from_json(folder / "config.json", config.num_classes)
    spec = spec_from_folder(folder, config.image_size)
    return _Raw(path, digest, from_hugging_face(state), config, spec, labels)


def _folder_state(folder: Path) -> tuple[Path, str, dict[str, Tensor]]:
    index = folder / "model.safetensors.index.json"
    for name in ("model.safetensors", index.name, "pytorch_model.bin"):
        path = folder / name
        if path.is_file() and path != index:
            return path, hash_path(path), _tensors(path)[0]
        if path.is_file():
            break
    else:
        raise EdgeDeitError(f"{folder} has neither model.safetensors nor pytorch_model.bin")
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise EdgeDeitError(f"{index} is not readable: {error}") from error
    state: dict[str, Tensor] = {}
    digest = hashlib.sha256()
    for shard in shards:
        if Path(str(shard)).name != shard:
            raise EdgeDeitError(f"{index} names {shard!r}, which lies outside its folder")
        state |= _tensors(folder / shard)[0]
        digest.update(f"{shard} {hash_path(folder / shard)}\n".encode())
    return index, digest.hexdigest(), state


# Checking


def _check_tensors(raw: _Raw) -> None:
    """Every tensor that the shape asks for, no other, all finite."""
    with torch.device("meta"):
        expected = DeiT(raw.config).state_dict()
    absent = [key for key in expected if key not in raw.state]
    extra = [key for key in raw.state if key not in expected]
    odd = [k for k in expected if k in raw.state and raw.state[k].shape != expected[k].shape]
    problems = []
    if absent:
        wants = [f"{key} {tuple(expected[key].shape)}" for key in absent[:3]]
        problems.append(f"lacks {', '.join(wants)} ({len(absent)} in all)")
    if extra:
        has = [f"{key} {tuple(raw.state[key].shape)}" for key in extra[:3]]
        problems.append(f"has unknown {', '.join(has)} ({len(extra)} in all)")
    for key in odd[:2]:
        have, want = tuple(raw.state[key].shape), tuple(expected[key].shape)
        problems.append(f"{key} has shape {have}, {want} is expected ({len(odd)} in all)")
    if problems:
        cause = _likely_cause(raw, {*absent, *odd}, set(extra))
        raise EdgeDeitError(
            f"{raw.path} is not a whole {_name(raw.config)}: {'; '.join(problems)}{cause}"
        )
    for key, value in raw.state.items():
        if not torch.isfinite(value).all():
            raise EdgeDeitError(f"{raw.path}: {key} holds NaN or infinite values")


def _likely_cause(raw: _Raw, wrong: set[str], extra: set[str]) -> str:
    distilled = {"dist_token", "head_dist.weight"}
    dim = raw.state["cls_token"].shape[-1] if "cls_token" in raw.state else raw.config.embed_dim
    if dim != raw.config.embed_dim:
        names = [name for name, row in VARIANTS.items() if row.embed_dim == dim]
        return f"; its widths are those of {names[0]}" if names else f"; its width is {dim}"
    if extra & distilled:
        return "; it looks like a distilled checkpoint described as a plain one"
    if wrong & distilled:
        return "; it looks like a plain checkpoint described as a distilled one"
    if wrong and wrong <= set(_HEADS):
        return f"; its classifier is not one of {raw.config.num_classes} classes"
    if wrong == {"pos_embed"}:
        return "; its positions are no square of patches after the class (and distillation) token"
    return ""


def _check_variant(raw: _Raw, expected: DeiTConfig, name: str) -> None:
    """The checkpoint must be that variant, but for classes, image size and epsilon."""
    heads = ("distillation_head",) if raw.config.num_classes else ()
    for field in ("distilled", *_WIDTHS, *heads):
        want, have = getattr(expected, field), getattr(raw.config, field)
        if want == have:
            continue
        cause = f"it looks like {_name(raw.config)}"
        if field == "distilled":
            cause = f"it is a {'distilled' if have else 'plain'} checkpoint, {cause[3:]}"
        raise EdgeDeitError(
            f"{raw.path} does not fit {name}: {field} is {have}, {want} is expected; {cause}; name "
            "another --model, or none"
        )


# Changing


def _build(raw: _Raw) -> DeiT:
    """The model around its tensors; only new heads cost an initialisation."""
    if raw.new_heads:
        form = DeiT(raw.config)
        form.load_state_dict(raw.state, strict=False)
        return form
    with torch.device("meta"):
        form = DeiT(raw.config)
    form.load_state_dict(raw.state, assign=True)
    return form


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
    return replace(raw, state=state, config=config, labels=(), new_heads=True)


def _resized(raw: _Raw, image_size: int) -> _Raw:
    if image_size == raw.config.image_size:
        return raw
    config = replace(raw.config, image_size=image_size)
    positions = interpolate_positions(
        raw.state["pos_embed"], config.num_prefix_tokens, config.grid_size
    )
    ratio = image_size / raw.config.image_size
    spec = replace(
        raw.preprocess,
        crop_size=image_size,
        resize_size=max(1, round(raw.preprocess.resize_size * ratio)),
    )
    return replace(raw, state={**raw.state, "pos_embed": positions}, config=config, preprocess=spec)


def _name(config: DeiTConfig) -> str:
    """The variant with these widths, else a name that describes them."""
    same = ("image_size", "distilled", *_WIDTHS)
    for name, row in VARIANTS.items():
        if all(getattr(row, field) == getattr(config, field) for field in same):
            return name
    kind = "_distilled" if config.distilled else ""
    return f"deit_d{config.embed_dim}_l{config.depth}_h{config.num_heads}_{config.image_size}{kind}"


def _all_labels(raw: _Raw) -> tuple[str, ...]:
    count = raw.config.num_classes
    if raw.labels and len(raw.labels) != count:
        raise EdgeDeitError(f"{raw.path} names {len(raw.labels)} labels for {count} classes")
    return raw.labels or tuple(str(index) for index in range(count))
