"""Checkpoints as trainers leave them: prefixes, wrappers, averages, and what lies beside the tensors."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edge_deit.checkpoint.load import load_model
from weights_examples import State, plain_state, refused, same

PREFIXES = [
    "module.", "_orig_mod.", "model.", "backbone.", "student.", "encoder.vit.", "module._orig_mod.model.",
    "net.0.",
]  # fmt: skip
SUFFIXES = [".pth", ".pt", ".bin", ".ckpt", ".pth.tar", ".PTH"]


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


def taken(path: Path, state: State, **options: Any) -> str:
    """The line that says what was taken, empty where there was no choice; the tensors are `state`."""
    loaded = load_model(str(path), **options)
    assert same(loaded, state)
    lines = [line for line in loaded.assumptions if line.startswith("taken: ")]
    assert len(lines) < 2
    return "".join(lines)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes(prefix: str, tmp_path: Path) -> None:
    state = plain_state()
    torch.save({"state_dict": prefixed(state, prefix)}, tmp_path / "a.pth")
    save_file(prefixed(state, prefix), tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        assert taken(tmp_path / name, state) == ""


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("legacy", [False, True])
def test_suffixes_and_layouts(suffix: str, legacy: bool, tmp_path: Path) -> None:
    state, path = plain_state(), tmp_path / f"weights{suffix}"
    torch.save({"model": state}, path, _use_new_zipfile_serialization=not legacy)
    assert taken(path, state) == ""


@pytest.mark.parametrize(
    "keys", [(), ("model",), ("state_dict",), ("model_state_dict",), ("net",), ("a", "b", "c")]
)
def test_wrappers(keys: tuple[str, ...], tmp_path: Path) -> None:
    state = plain_state()
    value: Any = collections.OrderedDict(state)
    for key in reversed(keys):
        value = {key: value}
    torch.save(value, tmp_path / "a.pth")
    assert taken(tmp_path / "a.pth", state) == ""


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types(kind: torch.dtype, tmp_path: Path) -> None:
    state = {name: value.to(kind) for name, value in plain_state().items()}
    torch.save(state, tmp_path / "a.pth")
    assert same(load_model(str(tmp_path / "a.pth")), {k: v.float() for k, v in state.items()})


def test_parameters_views_and_one_flat_storage(tmp_path: Path) -> None:
    state = plain_state()
    flat = torch.cat([value.flatten() for value in state.values()])
    views, start = {}, 0
    for name, value in state.items():
        views[name] = flat[start : start + value.numel()].view(value.shape)
        start += value.numel()
    views["head.weight"] = torch.nn.Parameter(state["head.weight"].t().contiguous()).t()
    views["norm.weight"] = torch.nn.Parameter(state["norm.weight"])
    for legacy in (False, True):
        torch.save(views, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
        assert taken(tmp_path / "a.pth", state) == ""


# Averages


def averages(plain: State, mean: State) -> dict[str, dict[str, Any]]:
    """Checkpoints with weights and their averages, as trainers write both."""
    lightning = {**prefixed(plain, "model."), **prefixed(mean, "ema_model.module.")}
    projection = {
        "module.head.mlp.0.weight": torch.ones(3, 3),
        "module.head.last_layer.weight_v": torch.ones(2),
    }
    return {
        "timm": {"state_dict": plain, "state_dict_ema": mean, "epoch": 1},
        "deit": {"model": plain, "model_ema": mean},
        "nested": {"model": plain, "ema": {"module": mean, "decay": 0.999}},
        "shadow": {"net": plain, "ema": {"shadow": mean}},
        "lightning": {"state_dict": lightning},
        "flat": {**plain, **prefixed(mean, "ema.")},
        "swa": {
            "model": plain,
            "swa_model": {"n_averaged": torch.tensor(3), **prefixed(mean, "module.")},
        },
        "dino": {
            "student": {**prefixed(plain, "module.backbone."), **projection},
            "teacher": {**prefixed(mean, "backbone."), "head.mlp.0.weight": torch.ones(3, 3)},
        },
    }


@pytest.mark.parametrize("kind", averages({}, {}))
def test_averages_are_taken_when_asked_for(kind: str, tmp_path: Path) -> None:
    plain, mean = plain_state(), plain_state(seed=1)
    path = tmp_path / "both.pth"
    torch.save(averages(plain, mean)[kind], path)
    said = taken(path, plain)
    assert "of both.pth; left out: " in said
    assert "(--ema takes it)" in said
    said = taken(path, mean, ema=True)
    assert said.startswith("taken: the weights under ")
    assert "--ema" not in said


def test_averages_alone_and_none(tmp_path: Path) -> None:
    mean = plain_state()
    torch.save({"n_averaged": torch.tensor(3), **prefixed(mean, "module.")}, tmp_path / "swa.pth")
    assert taken(tmp_path / "swa.pth", mean) == (
        "taken: the weights under 'module' of swa.pth; left out: n_averaged"
    )
    torch.save({"model_ema": mean}, tmp_path / "ema.pth")
    assert taken(tmp_path / "ema.pth", mean) == taken(tmp_path / "ema.pth", mean, ema=True) == ""
    torch.save(mean, tmp_path / "plain.pth")
    assert "hold no averaged weights (EMA); leave --ema out" in refused(
        tmp_path / "plain.pth", ema=True
    )


def test_a_teacher_of_another_shape_is_no_average(tmp_path: Path) -> None:
    state = plain_state()
    teacher = prefixed(state, "") | {"blocks.2.norm1.weight": torch.ones(64)}
    torch.save({"model": state, "teacher": teacher}, tmp_path / "a.pth")
    assert taken(tmp_path / "a.pth", state).endswith("left out: teacher")
    assert "hold no averaged weights" in refused(tmp_path / "a.pth", ema=True)


def test_several_models_are_refused(tmp_path: Path) -> None:
    one, other = plain_state(), plain_state(seed=1)
    torch.save({"first": one, "second": other}, tmp_path / "a.pth")
    assert "hold 2 models: 'first', 'second'; save the one that is meant" in refused(
        tmp_path / "a.pth"
    )
    torch.save({"model": one, "state_dict": one}, tmp_path / "same.pth")
    assert taken(tmp_path / "same.pth", one)
    torch.save({"ema_a": one, "ema_b": other}, tmp_path / "means.pth")
    assert "hold 2 models" in refused(tmp_path / "means.pth", ema=True)


# What lies beside


class Colour(enum.Enum):
    RED = 1


class Config:
    def __init__(self) -> None:
        self.lr, self.inner = 0.1, argparse.Namespace(a=[1, 2])


class Node(dict[str, Any]):
    """A dictionary of another name, as yacs, EasyDict and mmengine have."""


class Slots:
    __slots__ = ("x",)

    def __init__(self) -> None:
        self.x = 3


class Items(list[int]):
    pass


def beside() -> dict[str, Any]:
    """What training leaves."""
    return {
        "args": argparse.Namespace(lr=1e-3, output=Path("runs"), when=datetime.datetime.now()),
        "epoch": 3,
        "optimizer": {
            "state": {0: {"exp_avg": torch.ones(3), "step": torch.tensor(1)}},
            "param_groups": [{}],
        },
        "scheduler": {
            "milestones": collections.Counter([3, 3]),
            "step": functools.partial(int, "3"),
        },
        "best": np.float64(0.7),
        "history": np.arange(4, dtype=np.float32),
        "config": Node(a=Node(b=1)),
        "object": Config(),
        "slots": Slots(),
        "items": Items([1, 2]),
        "colour": Colour.RED,
        "default": collections.defaultdict(list, {"a": [1]}),
        "queue_of_losses": collections.deque([1.0]),
        "set": {1, 2},
        "keys": {Path("a"): 1, Colour.RED: 2, (1, Path("b")): 3},
        "bytes": b"abc",
        "complex": 1j,
    }


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_objects_beside_the_tensors(legacy: bool, protocol: int, tmp_path: Path) -> None:
    state, path = plain_state(), tmp_path / "checkpoint.pth.tar"
    value = {"model": Node(state), **beside()}
    torch.save(value, path, _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
    said = taken(path, state)
    names = said.split("left out: ")[1].split(" and ")[0].split(", ")
    assert names == sorted(beside())[:8]
    assert said.endswith(f" and {len(beside()) - 8} more")


def test_one_thing_beside(tmp_path: Path) -> None:
    state = plain_state()
    for name, value in beside().items():
        torch.save({"state_dict": state, name: value}, tmp_path / "a.pth")
        assert taken(tmp_path / "a.pth", state).endswith(f"left out: {name}")


def test_unknown_tensors_beside_are_refused(tmp_path: Path) -> None:
    state = plain_state()
    for prefix in ("", "backbone."):
        torch.save(prefixed(state, prefix) | {"extra.weight": torch.ones(2)}, tmp_path / "a.pth")
        assert "extra.weight" in refused(tmp_path / "a.pth")
    head = {"head.weight": state.pop("head.weight"), "head.bias": state.pop("head.bias")}
    torch.save(prefixed(state, "backbone.") | head, tmp_path / "a.pth")
    message = refused(tmp_path / "a.pth")
    assert "have head.weight, head.bias (2 in all) beside the model under 'backbone.'" in message


def whole_model(state: State) -> object:
    class_of_its_own = torch.nn.Linear(2, 2)
    return class_of_its_own


@pytest.mark.parametrize("make", [whole_model, lambda _: Config()])
def test_a_pickled_model_is_no_state_dict(make: Callable[[State], object], tmp_path: Path) -> None:
    torch.save(make({}), tmp_path / "a.pth")
    message = refused(tmp_path / "a.pth")
    assert "instead of tensors; save model.state_dict()" in message


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.blocks.0.attn.qkv.lora_A.default.weight", "blocks.0.attn.qkv.lora_A.weight",
        "blocks.0.attn.qkv.base_layer.weight", "base_model.model.x.ia3_l", "x.hada_w1_a", "x.lokr_w1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("base", [False, True])
def test_adapters_have_to_be_merged(name: str, base: bool, tmp_path: Path) -> None:
    state = (plain_state() if base else {}) | {name: torch.ones(2, 2)}
    save_file(state, tmp_path / "a.safetensors")
    message = refused(tmp_path / "a.safetensors")
    assert "hold an adapter" in message
    assert "merge it into its base first" in message
