"""Where in a training checkpoint the model's tensors are, and what else lies beside them.

Trainers nest tensors (`state_dict`, `model`, `model_ema`, ...) and put prefixes before their names
(`module.`, `_orig_mod.`, `backbone.`, ...). Neither is looked up in a list of names: a model is where its
patch embedding is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_deit.checkpoint.pickles import Inert
from edge_deit.checkpoint.stored import StoredTensor
from edge_deit.common.errors import EdgeDeitError

__all__ = ["find_model"]

_PATCHES: Final = re.compile(
    r"^(?P<root>(?:.*?\.)??)"
    r"(?:patch_embed\.proj|(?:(?:deit|vit|dinov2|dinov2_with_registers)\.)?embeddings\.patch_embeddings\.projection)\.weight$"
)
_AVERAGED: Final = re.compile(r"(^|[._])(ema|swa|averaged?|shadow|polyak)([._]|$)", re.IGNORECASE)
_TEACHER: Final = re.compile(r"(^|[._])(teacher|momentum|target)([._]|$)", re.IGNORECASE)
_TRAINING: Final = re.compile(  # tensors that training leaves beside a model's own
    r"(^|[._])(n_averaged|num_batches_tracked|ema|teacher|momentum|criterion|loss|center|queue|optimizer|"
    r"metrics?)([._]|$)"
    r"|(^|\.)((proj(ection)?_head|projector|predictor|prototypes)\.|head\.(mlp\.|last_layer))"
)
_ADAPTER: Final = re.compile(
    r"(^|[._])(lora|loha|hada|lokr|vera|ia3|oft|boft|adapter|adapters|base_layer|prompt_encoder)([._]|$)",
    re.IGNORECASE,
)
_DEEPEST: Final = 5
_NAMED: Final = 8  # names in a message


@dataclass(frozen=True)
class _Root:
    """A place where a model is: `keys` lead to its mapping, `prefix` is before its tensors' names."""

    keys: tuple[str, ...]
    prefix: str
    tensors: Mapping[str, StoredTensor]

    @property
    def name(self) -> str:
        """The place in words; empty for the top level."""
        return ".".join((*self.keys, self.prefix)).strip(".")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape by name."""
        return {name: one.shape for name, one in self.tensors.items()}


def find_model(
    path: Path, loaded: object, *, ema: bool = False
) -> tuple[dict[str, StoredTensor], tuple[str, ...]]:
    """The model's tensors without prefix, and a line that says which were taken where others are too.

    `ema` asks for averaged weights.

    Raises:
        EdgeDeitError: no tensors, several models of which none is asked for, an adapter without its
            base, or tensors beside the model that training does not leave.
    """
    if isinstance(loaded, Inert) and not loaded:
        raise EdgeDeitError(
            f"weights {path} hold an object of class {loaded.origin:.60} instead of tensors; save "
            "model.state_dict() and give that"
        )
    if not isinstance(loaded, Mapping) or not loaded:
        raise EdgeDeitError(f"weights {path} hold no state dict")
    roots = _roots(loaded)
    if not roots:
        return _without_root(path, loaded), ()
    taken = _choose(path, roots, ema=ema)
    _refuse_adapter(path, taken.tensors)
    left = [
        f"{one.name or 'the top level'}{' (--ema takes it)' if _averaged(one, roots) else ''}"
        for one in roots
        if one is not taken
    ]
    left += _beside(path, loaded, taken, roots)
    if not left:
        return dict(taken.tensors), ()
    named = ", ".join(f"{name:.60}" for name in left[:_NAMED])
    more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
    where = f"the weights under {taken.name!r}" if taken.name else "the weights at the top level"
    return dict(taken.tensors), (f"taken: {where} of {path.name}; left out: {named}{more}",)


def _roots(loaded: Mapping[object, object]) -> list[_Root]:
    """Every place with a patch embedding, the same tensors once."""
    roots: list[_Root] = []
    seen: set[int] = set()
    levels: list[tuple[tuple[str, ...], Mapping[object, object]]] = [((), loaded)]
    for keys, level in levels:
        if id(level) in seen or len(keys) > _DEEPEST:
            continue
        seen.add(id(level))
        for root in _roots_of_level(keys, level):
            same = [set(map(id, one.tensors.values())) for one in roots]
            if set(map(id, root.tensors.values())) not in same:
                roots.append(root)
        levels += [
            ((*keys, key), value)
            for key, value in level.items()
            if isinstance(key, str) and isinstance(value, Mapping)
        ]
    return roots


def _roots_of_level(keys: tuple[str, ...], level: Mapping[object, object]) -> list[_Root]:
    tensors = {k: v for k, v in level.items() if isinstance(k, str) and isinstance(v, StoredTensor)}
    prefixes = sorted({match["root"] for name in tensors if (match := _PATCHES.match(name))})
    roots = []
    for prefix in prefixes:
        inner = tuple(one for one in prefixes if one != prefix and one.startswith(prefix))
        own = {
            name.removeprefix(prefix): one
            for name, one in tensors.items()
            if name.startswith(prefix)
            and not name.startswith(inner)
            and not _TRAINING.search(name.removeprefix(prefix))
        }
        if own:
            roots.append(_Root(keys, prefix, own))
    return roots


def _averaged(root: _Root, roots: list[_Root]) -> bool:
    """Whether these are averages of another model's weights; so is a teacher that is the student's twin."""
    if _AVERAGED.search(root.name):
        return True
    twins = [one for one in roots if one is not root and one.shapes == root.shapes]
    return bool(_TEACHER.search(root.name)) and bool(twins)


def _choose(path: Path, roots: list[_Root], *, ema: bool) -> _Root:
    averaged = [one for one in roots if _averaged(one, roots)]
    plain = [one for one in roots if one not in averaged]
    plain = [one for one in plain if not _TEACHER.search(one.name)] or plain
    if ema and not averaged:
        raise EdgeDeitError(f"weights {path} hold no averaged weights (EMA); leave --ema out")
    some = averaged if ema or not plain else plain
    if len(some) > 1:
        names = ", ".join(repr(one.name or "the top level") for one in some[:_NAMED])
        raise EdgeDeitError(
            f"weights {path} hold {len(some)} models: {names}; save the one that is meant to a file of "
            "its own"
        )
    return some[0]


def _beside(
    path: Path, loaded: Mapping[object, object], taken: _Root, roots: list[_Root]
) -> list[str]:
    """Names of what is no model's; a tensor among them has to be one that training leaves."""
    names: list[str] = []
    level: Mapping[object, object] = loaded
    for depth, key in enumerate(taken.keys):
        above = taken.keys[:depth]
        names += [str(one) for one in level if one != key and not _leads(above, one, roots)]
        inner = level[key]
        assert isinstance(inner, Mapping)
        level = inner
    models = {
        f"{one.prefix}{name}" for one in roots if one.keys == taken.keys for name in one.tensors
    }
    unknown: list[str] = []
    for one, value in level.items():
        if one in models or _leads(taken.keys, one, roots):
            continue
        strange = isinstance(value, StoredTensor) and not _TRAINING.search(str(one))
        (unknown if strange else names).append(str(one))
    if unknown:
        raise EdgeDeitError(
            f"weights {path} have {', '.join(unknown[:3])} ({len(unknown)} in all) beside the model under "
            f"{taken.prefix!r}; give all its tensors that prefix, and leave others out"
        )
    return sorted(dict.fromkeys(names))


def _leads(above: tuple[str, ...], key: object, roots: list[_Root]) -> bool:
    """Whether a model, which is named by itself, is below that key."""
    return any(one.keys[: len(above) + 1] == (*above, key) for one in roots)


def _without_root(path: Path, loaded: Mapping[object, object]) -> dict[str, StoredTensor]:
    """Tensors of what is no model that we know, for the message that says so."""
    for value in (loaded, *loaded.values()):
        if isinstance(value, Mapping):
            tensors = {str(k): v for k, v in value.items() if isinstance(v, StoredTensor)}
            if tensors:
                _refuse_adapter(path, tensors)
                return tensors
    raise EdgeDeitError(f"weights {path} hold no state dict")


def _refuse_adapter(path: Path, tensors: Mapping[str, object]) -> None:
    if odd := [name for name in tensors if _ADAPTER.search(name)]:
        raise EdgeDeitError(
            f"weights {path} hold an adapter ({odd[0]:.60}) instead of whole layers; merge it into "
            "its base first (peft: model.merge_and_unload()), and save that"
        )
