"""The output folder: one training at a time, not among the photos, nothing in it that is out of date."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.lock import claimed
from edge_deit.training.recipe import Recipe
from edge_deit.training.run import Finetuned, finetune_model

RECIPE = Recipe(epochs=1, batch_size=16, flip=False)


def tune(photos: Path, output: Path, weights: Path, **settings: object) -> Finetuned:
    settings = {"recipe": RECIPE, "device": "cpu", **settings}
    return finetune_model(photos, output, weights=str(weights), workers=0, **settings)  # type: ignore[arg-type]


def test_one_training_at_a_time(photos: Path, tiny_weights: Path, tmp_path: Path) -> None:
    with claimed(tmp_path, "training"), pytest.raises(EdgeDeitError, match="by another training"):
        tune(photos, tmp_path, tiny_weights)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inside", [".", "runs", "cat/out"])
def test_a_folder_among_the_classes_is_refused(
    inside: str, photos: Path, tiny_weights: Path
) -> None:
    before = sorted(photos.rglob("*"))
    with pytest.raises(EdgeDeitError, match="folders are classes"):
        tune(photos, photos / inside, tiny_weights)
    assert sorted(photos.rglob("*")) == before


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "metrics.csv", "training.html"])
def test_a_folder_in_a_files_place_is_refused_before_the_first_step(
    name: str, photos: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(EdgeDeitError, match=f"{name} is a folder"):
        tune(photos, tmp_path, tiny_weights)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_nothing_is_left_of_what_was_said_of_former_weights(
    photos: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    tune(photos, tmp_path, tiny_weights, val=photos)
    assert json.loads((tmp_path / "accuracy.json").read_text(encoding="utf-8"))["images"] == 16
    tune(photos, tmp_path, tiny_weights)
    assert not (tmp_path / "accuracy.json").exists()
    assert not (tmp_path / "last.safetensors").exists()


@pytest.mark.skipif(os.name != "posix", reason="a mask for new files is POSIX's")
def test_weights_may_be_read_by_whom_the_mask_allows(
    photos: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    before = os.umask(0o027)
    try:
        done = tune(photos, tmp_path, tiny_weights)
    finally:
        os.umask(before)
    for name in (done.path.name, "state.pt", "metrics.csv"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o640


def test_validation_photos_that_are_counted_have_to_be_there(
    photos: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgeDeitError, match="--val-images 3 needs --val"):
        tune(photos, tmp_path / "run", tiny_weights, val_images=3)


def test_any_seed_will_do(photos: Path, tiny_weights: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        epochs=2, batch_size=16, seed=2**63 - 1, patch_dropout=0.5, mixup=0.5,
        rand_augment=5, stochastic_depth=0.5, balanced=True,
    )  # fmt: skip
    assert tune(photos, tmp_path, tiny_weights, recipe=recipe).epoch == 2
