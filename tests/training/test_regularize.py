"""DeiT's recipe, part by part: what is drawn, also by a resumed run, and which weights learn how fast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from conftest import TINY
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.labels import match_labels
from edge_deit.data.listing import Photo
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.deit import DeiT
from edge_deit.training.augment import Order, TrainingPhotos
from edge_deit.training.rand_augment import OPERATIONS, rand_augment
from edge_deit.training.recipe import RECIPES, Recipe, learning_rate, parameter_groups
from edge_deit.training.regularize import left_out, mixed
from edge_deit.training.state import RunKey
from edge_deit.training.train import train

SPEC = PreprocessSpec(resize_size=64, crop_size=64)
KEY = RunKey(("cat", "dog"), "photos", 64, "none", "none", SPEC.to_json())
SMALL = replace(TINY, num_classes=2, distilled=False, distillation_head=False)
EVERYTHING = Recipe.named(
    "scratch", {"epochs": 4, "batch_size": 4, "learning_rate": 1e-3, "layer_decay": 0.7}
)


def labelled(folder: Path) -> list[Photo]:
    return list(match_labels(list_photos(folder), ("cat", "dog")).photos)


def fresh() -> DeiT:
    torch.manual_seed(0)
    return DeiT(SMALL)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, 64, 64, generator=generator), torch.tensor([0, 1, 0, 1, 1, 0])


def test_a_resumed_run_with_everything_equals_an_uninterrupted_one(
    photos: Path, tmp_path: Path
) -> None:
    found, whole, again = labelled(photos), fresh(), fresh()
    assert EVERYTHING.average
    train(whole, found, SPEC, EVERYTHING, KEY, state_path=tmp_path / "whole.pt", workers=0)

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    state: dict[str, Any] = {"state_path": tmp_path / "part.pt", "workers": 0}
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), found, SPEC, EVERYTHING, KEY, **state, on_step=stop)
    train(again, found, SPEC, EVERYTHING, KEY, **state, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_the_averages_are_those_of_the_steps(photos: Path, tmp_path: Path) -> None:
    """The mean by hand, of weights that plain training has after each step."""
    plain = Recipe(epochs=1, batch_size=4, flip=False)
    model, steps = fresh(), []
    start = model.head.weight.detach().clone()
    train(
        model, labelled(photos), SPEC, plain, KEY, state_path=tmp_path / "plain.pt", workers=0,
        on_step=lambda *_: steps.append(model.head.weight.detach().clone()),
    )  # fmt: skip
    mean = start
    for count, weight in enumerate(steps, 1):
        decay = min(0.9, (1 + count) / (10 + count))
        mean = decay * mean + (1 - decay) * weight
    averaged, recipe = fresh(), replace(plain, average=0.9)
    train(averaged, labelled(photos), SPEC, recipe, KEY, state_path=tmp_path / "a.pt", workers=0)
    torch.testing.assert_close(averaged.head.weight.detach(), mean)
    assert not torch.allclose(model.head.weight, mean, atol=1e-5)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_are_mixed_as_photos_are(kind: str) -> None:
    pixels, labels = batch()
    recipe = Recipe(**{kind: 1.0})  # type: ignore[arg-type]
    for step in range(8):
        found, targets = mixed(pixels, labels, 2, recipe, step)
        own = F.one_hot(labels, 2).float()
        torch.testing.assert_close(targets.sum(1), torch.ones(6))
        if kind == "cutmix":
            share = float((found == pixels).all(1).float().mean((1, 2))[0])
        else:
            share = float(((found[0] - pixels[5]) / (pixels[0] - pixels[5])).median())
        torch.testing.assert_close(
            targets, share * own + (1 - share) * own.flip(0), atol=1e-4, rtol=0
        )
        assert torch.equal(found, mixed(pixels, labels, 2, recipe, step)[0])


def test_both_ways_of_mixing_come_and_none_changes_the_batch_that_was_given() -> None:
    pixels, labels = batch()
    before, kinds = pixels.clone(), set()
    for step in range(20):
        found, _ = mixed(pixels, labels, 2, Recipe(mixup=0.8, cutmix=1.0), step)
        kinds.add(bool(((found == pixels) | (found == pixels.flip(0))).all()))
    assert kinds == {True, False}
    assert torch.equal(pixels, before)
    assert mixed(pixels, labels, 2, Recipe(), 0) == (pixels, labels)


def test_branches_are_left_out_more_often_the_later_they_come() -> None:
    torch.manual_seed(0)
    model = DeiT(replace(SMALL, depth=3))
    pixels = torch.randn(400, 3, 64, 64)[:, :, :1, :1].expand(-1, -1, 64, 64)
    shares = []

    def watch(module: Any, inputs: Any, output: torch.Tensor) -> None:
        shares.append(float((output.abs().amax((1, 2)) == 0).float().mean()))

    with torch.no_grad(), left_out(model, Recipe(stochastic_depth=0.6), 0):
        for block in model.blocks:
            block.ls1.register_forward_hook(watch)
        model(pixels)
    assert shares == pytest.approx([0, 0.3, 0.6], abs=0.08)
    clean = model(pixels[:2])
    torch.testing.assert_close(model(pixels[:2]), clean)


def test_repeats_take_fewer_photos_more_often_and_see_each_otherwise(photos: Path) -> None:
    found = labelled(photos)
    recipe = Recipe(batch_size=4, repeats=3, rand_augment=9, random_erasing=0.5)
    keys = [
        key for one in Order(found, recipe, 0, recipe.steps_per_epoch(len(found))) for key in one
    ]
    assert len(keys) == len(found)
    assert len({index for _, index, _ in keys}) == -(-len(found) // 3)
    seen = TrainingPhotos(found, SPEC, recipe)
    first, second = (seen[(0, keys[0][1], draw)] for draw in (0, 1))
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert not torch.equal(first[0], second[0])
    again = seen[(0, keys[0][1], 0)]
    assert isinstance(again, tuple)
    assert torch.equal(first[0], again[0])
    with pytest.raises(EdgeDeitError, match="give --repeats 1"):
        Recipe(repeats=2, balanced=True)


def test_erasing_leaves_noise_where_the_photo_was(photos: Path) -> None:
    found = labelled(photos)
    plain, erased = (
        TrainingPhotos(found, SPEC, Recipe(random_erasing=share))[(0, 0, 0)] for share in (0.0, 1.0)
    )
    assert isinstance(plain, tuple)
    assert isinstance(erased, tuple)
    changed = (plain[0] != erased[0]).all(0)
    rows, columns = changed.any(1), changed.any(0)
    assert 0.01 < float(changed.float().mean()) < 0.4
    assert int(changed.sum()) == int(rows.sum()) * int(columns.sum())
    assert float(erased[0][:, changed].std()) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_of_rand_augment(name: str) -> None:
    """It keeps size and mode, and at full strength it changes a photo; most do nothing at none."""
    from PIL import Image

    values = np.random.default_rng(0).integers(20, 220, (24, 32, 3), np.uint8)
    image = Image.fromarray(values)
    strong = OPERATIONS[name](image, 1.0, -1.0, (9, 9, 9))
    assert (strong.size, strong.mode) == (image.size, "RGB")
    assert not np.array_equal(np.asarray(strong), values)
    if name not in ("autocontrast", "equalize", "invert"):
        np.testing.assert_array_equal(
            np.asarray(OPERATIONS[name](image, 0.0, 1.0, (9, 9, 9))), values
        )


def test_rand_augment_is_drawn_from_the_generator_alone() -> None:
    values = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    first, second, other = (
        rand_augment(values, 9, (9, 9, 9), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_earlier_layers_learn_slower() -> None:
    model = fresh()
    scales = {}
    for group in parameter_groups(model, 0.05, 0.5):
        for parameter in group["params"]:
            (name,) = (n for n, p in model.named_parameters() if p is parameter)
            scales[name] = group["scale"]
            assert (group["weight_decay"] > 0) == (parameter.ndim in (2, 4)), name
    depth = SMALL.depth
    assert scales.keys() == dict(model.named_parameters()).keys()
    assert scales["head.weight"] == scales["norm.bias"] == 1
    assert scales["pos_embed"] == scales["patch_embed.proj.weight"] == 0.5 ** (depth + 1)
    assert [scales[f"blocks.{i}.mlp.fc1.weight"] for i in range(depth)] == [
        0.5 ** (depth - i) for i in range(depth)
    ]
    assert [len(parameter_groups(model, 0.05)), parameter_groups(model, 0.05)[0]["scale"]] == [2, 1]


def test_recipes_by_name() -> None:
    assert Recipe.named("finetune") == Recipe()
    assert Recipe.named("distil", {"epochs": 2.0, "mixup": None}).distillation == "hard"
    assert Recipe.named("scratch", {"mixup": 0.0}) == replace(Recipe.named("scratch"), mixup=0.0)
    assert learning_rate(0, 300, Recipe.named("scratch")) == pytest.approx(2.5e-4 / 5)
    with pytest.raises(EdgeDeitError, match=f"choose one of: {', '.join(RECIPES)}"):
        Recipe.named("fast")
