"""Classifiers whose softmax means nothing, tied ones, and models that answer every photo alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model

from conftest import random_model
from edge_deit.checkpoint.load import load_model
from weights_examples import SHAPE, plain_state, refused, same, vit_folder

DISTILLED = replace(SHAPE, distilled=True, distillation_head=True)


def test_one_logit(tmp_path: Path) -> None:
    state = plain_state(replace(SHAPE, num_classes=1))
    path = tmp_path / "one.safetensors"
    save_file(state, path)
    folder = vit_folder(tmp_path / "one", state)
    for weights in (path, folder):
        message = refused(weights)
        assert "has one logit, as for a sigmoid" in message
        assert "--task features" in message
        assert load_model(str(weights), task="features").config.num_classes == 0
        loaded = load_model(str(weights), num_classes=2, allow_new_head=True)
        assert loaded.config.num_classes == 2


def test_what_the_message_about_one_logit_says_is_true(tmp_path: Path) -> None:
    one = random_model(replace(SHAPE, num_classes=1))
    state = dict(one.state_dict())
    for name in ("head.weight", "head.bias"):
        state[name] = torch.cat([torch.zeros_like(state[name]), state[name]])
    save_file(state, tmp_path / "two.safetensors")
    loaded = load_model(str(tmp_path / "two.safetensors"))
    pixels = torch.randn(2, 3, 32, 32)
    shares = loaded.model(pixels).softmax(-1)[:, 1]
    torch.testing.assert_close(shares, one(pixels).sigmoid()[:, 0])


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_outputs_that_are_no_classes(kind: str, tmp_path: Path) -> None:
    folder = vit_folder(tmp_path / "a", problem_type=kind)
    assert f"problem_type is '{kind}'" in refused(folder)
    assert load_model(str(folder), task="features").config.num_classes == 0
    assert load_model(str(folder), num_classes=2, allow_new_head=True).config.num_classes == 2


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("distilled", [False, True])
def test_the_same_logits_for_every_photo(value: float, distilled: bool, tmp_path: Path) -> None:
    config = DISTILLED if distilled else SHAPE
    state, path = plain_state(config), tmp_path / "a.safetensors"
    for name in ("head.weight", "head_dist.weight")[: 1 + distilled]:
        state[name] = torch.full_like(state[name], value)
    save_file(state, path)
    message = refused(path)
    assert "answers every photo with the same logits" in message
    assert ("are zero" in message) == (value == 0)
    assert load_model(str(path), task="features").config.task == "features"
    start = load_model(str(path), num_classes=4, allow_new_head=True)
    assert start.config.num_classes == 4


def test_one_of_two_classifiers_may_be_zero(tmp_path: Path) -> None:
    state = plain_state(DISTILLED)
    state["head_dist.weight"].zero_()
    save_file(state, tmp_path / "a.safetensors")
    assert same(load_model(str(tmp_path / "a.safetensors")), state)


@pytest.mark.parametrize("name", ["norm.weight", "patch_embed.proj.weight"])
def test_other_weights_that_make_every_answer_the_same(name: str, tmp_path: Path) -> None:
    state = plain_state()
    state[name].zero_()
    save_file(state, tmp_path / "a.safetensors")
    message = refused(tmp_path / "a.safetensors")
    assert f"answers every photo with the same output: {name} is all zero" in message
    assert name in refused(tmp_path / "a.safetensors", task="features")


# Tied tensors


def test_tied_classifiers_and_layers_by_metadata(tmp_path: Path) -> None:
    state, path = plain_state(DISTILLED), tmp_path / "tied.safetensors"
    ties = {"head_dist.weight": "head.weight", "head_dist.bias": "head.bias"}
    ties |= {name: name.replace(".1.", ".0.") for name in state if name.startswith("blocks.1.mlp.")}
    whole = {name: state[ties.get(name, name)] for name in state}
    kept = {name: value for name, value in state.items() if name not in ties}
    save_file(kept, path, metadata=ties)
    assert same(load_model(str(path)), whole)
    chain = {**ties, "head_dist.bias": "head_dist.other", "head_dist.other": "head.bias"}
    save_file(kept, path, metadata=chain)
    assert "has unknown head_dist.other" in refused(path)
    circle = {**ties, "head_dist.bias": "a", "a": "head_dist.bias"}
    save_file(kept, path, metadata=circle)
    assert "lacks head_dist.bias" in refused(path)


def test_tied_by_safetensors_own_writer(tmp_path: Path) -> None:
    model = random_model(DISTILLED)
    model.head_dist = model.head
    save_model(model, str(tmp_path / "a.safetensors"))
    assert same(load_model(str(tmp_path / "a.safetensors")), dict(model.state_dict()))


def test_tied_in_a_pickle(tmp_path: Path) -> None:
    model = random_model(DISTILLED)
    model.head_dist = model.head
    model.blocks[1] = model.blocks[0]
    torch.save(model.state_dict(), tmp_path / "a.pth")
    assert same(load_model(str(tmp_path / "a.pth")), dict(model.state_dict()))


def test_tied_behind_a_prefix(tmp_path: Path) -> None:
    state = {f"module.{name}": value for name, value in plain_state(DISTILLED).items()}
    ties = {f"module.head_dist.{kind}": f"module.head.{kind}" for kind in ("weight", "bias")}
    kept = {name: value for name, value in state.items() if name not in ties}
    save_file(kept, tmp_path / "a.safetensors", metadata=ties)
    loaded = load_model(str(tmp_path / "a.safetensors"))
    assert torch.equal(loaded.model.head_dist.weight, state["module.head.weight"])
