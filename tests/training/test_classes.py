"""Classes come from the training photos; validation is matched to them; uneven ones may be drawn evenly."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Silent
from edge_deit.data.listing import Photo
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.training.augment import Order, TrainingPhotos
from edge_deit.training.classes import judging_photos, training_photos, uneven
from edge_deit.training.recipe import Recipe
from edge_deit.training.run import finetune_model

RECIPE = Recipe(epochs=3, batch_size=8, balanced=True)


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def folders(root: Path, **counts: int) -> Path:
    generator = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def test_classes_are_those_of_training_alone(tmp_path: Path) -> None:
    heard = Heard()
    names, _ = training_photos(folders(tmp_path / "train", bee=2, ant=3, fly=2), heard)
    assert names == ("ant", "bee", "fly")
    val = judging_photos(folders(tmp_path / "val", FLY=2, bee=1), "validation", names, 0, heard)
    assert Counter(photo.label for photo in val) == {2: 2, 1: 1}
    assert heard.lines == [f"{tmp_path / 'val'} has no photo of ant"]


def test_a_class_that_is_not_trained_is_named_with_its_photos(tmp_path: Path) -> None:
    val = folders(tmp_path / "val", ant=2, wasp=3, moth=1)
    with pytest.raises(EdgeDeitError, match=r"2 of 3 .*: moth, wasp; .*3 of wasp, 1 of moth\)$"):
        judging_photos(val, "validation", ("ant", "bee"), 0, Silent())


def test_splits_of_one_table(tmp_path: Path) -> None:
    root = folders(tmp_path / "all", a=4, b=4)
    splits = ["train", "train", "validation", "test"]
    rows = [f"{c}/{i}.png,{c},{splits[i]}" for c in "ab" for i in range(4)]
    rows += ["a/0.png,a,train"]
    (root / "labels.csv").write_text("\n".join(["file,label,split", *rows]), encoding="utf-8")
    names, photos = training_photos(root, Silent())
    assert [photo.path.name for photo in photos] == ["0.png", "1.png"] * 2
    for use, file in (("validation", "2.png"), ("test", "3.png")):
        found = judging_photos(root, use, names, 0, Silent())  # type: ignore[arg-type]
        assert [(photo.path.name, photo.label) for photo in found] == [(file, 0), (file, 1)]


@pytest.mark.parametrize("balanced", [False, True])
def test_uneven_classes_are_said(balanced: bool, tmp_path: Path) -> None:
    heard = Heard()
    training_photos(folders(tmp_path / "d", ant=6, bee=2, fly=3), heard, balanced=balanced)
    end = "drawn evenly (--balanced)" if balanced else "--balanced draws them evenly"
    line = "classes are uneven: from 2 photos (bee) to 6 (ant), 3 times as many"
    assert heard.lines == [f"{line}; {end}"]
    assert uneven(("a", "b"), {0: 19, 1: 10}) == ""


def lopsided(count: int = 900) -> list[Photo]:
    """Eight of nine photos are of class 0."""
    return [Photo(Path(f"{index}.png"), int(index % 9 == 0)) for index in range(count)]


def test_balanced_draws_are_even_and_as_the_weighted_sampler_draws() -> None:
    photos = lopsided()
    keys = Order(photos, RECIPE, 0, 1).of_epoch(2)
    assert len(keys) == len(photos)
    share = sum(photos[index].label == 1 for _, index, _ in keys) / len(keys)
    assert 0.45 < share < 0.55
    weights = [1 / 100 if photo.label else 1 / 800 for photo in photos]
    sampler = torch.utils.data.WeightedRandomSampler(
        weights, len(photos), generator=torch.Generator().manual_seed(RECIPE.seed + 2)
    )
    assert [index for _, index, _ in keys] == list(sampler)
    assert len(set(keys)) == len(keys), "a photo that comes again is another item"


@pytest.mark.parametrize("balanced", [False, True])
def test_an_order_that_goes_on_is_the_rest_of_the_whole(balanced: bool) -> None:
    photos = lopsided(45)
    recipe = replace(RECIPE, balanced=balanced)
    steps = recipe.steps(len(photos))
    whole = list(Order(photos, recipe, 0, steps))
    assert len(whole) == steps == 18
    for first in (1, 5, 6, 11):
        assert list(Order(photos, recipe, first, steps)) == whole[first:]
    assert whole[0] != whole[6], "every epoch has its own order"


def test_a_photo_that_comes_again_is_augmented_anew(tmp_path: Path) -> None:
    root = folders(tmp_path / "d", a=1, b=1)
    _, photos = training_photos(root, Silent())
    items = TrainingPhotos(photos, PreprocessSpec(resize_size=16, crop_size=16), RECIPE)
    first, again, other = (items[0, 0, draw][0] for draw in (0, 0, 1))  # type: ignore[index]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_balance_is_part_of_the_run(tiny_weights: Path, tmp_path: Path) -> None:
    data = folders(tmp_path / "d", a=6, b=2)
    settings = {"weights": str(tiny_weights), "workers": 0}
    finetune_model(data, tmp_path / "run", recipe=replace(RECIPE, epochs=1), **settings)  # type: ignore[arg-type]
    with pytest.raises(EdgeDeitError, match="balanced True, this one has False"):
        finetune_model(
            data, tmp_path / "run", recipe=Recipe(epochs=1, batch_size=8), resume=True,
            **settings,  # type: ignore[arg-type]
        )  # fmt: skip
