"""What `--resume` goes on from, what it refuses, and what the data must be before the first step."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from edge_deit.common.errors import EdgeDeitError
from edge_deit.training.recipe import Recipe
from edge_deit.training.run import Finetuned, finetune_model

RECIPE = Recipe(epochs=1, batch_size=8, flip=False)


def make(folder: Path, classes: tuple[str, ...], each: int = 4) -> Path:
    generator = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(each):
            pixels = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture
def four(tmp_path: Path) -> Path:
    return make(tmp_path / "d4", ("a", "b", "c", "d"))


def tune(data: Path, output: Path, weights: Path, **settings: object) -> Finetuned:
    return finetune_model(
        data,
        output,
        weights=str(weights),
        recipe=RECIPE,
        workers=0,
        **settings,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("classes", [("a", "b", "c", "x"), ("a", "b", "c", "d", "e"), ("a", "b")])
def test_other_classes_are_refused_by_name(
    classes: tuple[str, ...], four: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    done = tune(four, tmp_path / "run", tiny_weights)
    before = done.path.read_bytes()
    other = make(tmp_path / "other", classes)
    with pytest.raises(
        EdgeDeitError, match=f"classes a, b, c, d, this one has {', '.join(classes)}"
    ):
        tune(other, tmp_path / "run", tiny_weights, resume=True)
    assert done.path.read_bytes() == before


def test_other_photos_sizes_and_weights_are_refused(
    four: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    tune(four, tmp_path / "run", tiny_weights)
    with pytest.raises(EdgeDeitError, match="image size 64, this one has 32"):
        tune(four, tmp_path / "run", tiny_weights, resume=True, image_size=32)
    (four / "a" / "0.png").rename(four / "a" / "9.png")
    with pytest.raises(EdgeDeitError, match="training photos"):
        tune(four, tmp_path / "run", tiny_weights, resume=True)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "another program's", "one bit"])
def test_a_damaged_state_is_one_line(
    damage: str, four: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    tune(four, tmp_path / "run", tiny_weights)
    state = tmp_path / "run" / "state.pt"
    content = state.read_bytes()
    if damage == "another program's":
        torch.save({"model": {}}, state)
    else:
        middle = len(content) // 2
        changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        damaged = {"cut": content[:middle], "empty": b"", "text": b"x", "one bit": changed}
        state.write_bytes(damaged[damage])
    with pytest.raises(EdgeDeitError, match=r"state\.pt is no whole training state"):
        tune(four, tmp_path / "run", tiny_weights, resume=True)


def test_resuming_what_was_finished_changes_nothing(
    four: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    first = load_file(tune(four, tmp_path / "run", tiny_weights).path)
    again = load_file(tune(four, tmp_path / "run", tiny_weights, resume=True).path)
    assert first.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in first.items())


# Before the first step


def test_one_class_is_no_task(tiny_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeDeitError, match="one class only, 'a'"):
        tune(make(tmp_path / "d", ("a",)), tmp_path / "run", tiny_weights)


def test_sets_are_no_classes(four: Path, tiny_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    for name in ("train", "val"):
        shutil.copytree(four / "a", tmp_path / "all" / name)
    with pytest.raises(EdgeDeitError, match="sets of photos, not classes"):
        tune(tmp_path / "all", tmp_path / "run", tiny_weights)


def test_validation_needs_labels(four: Path, tiny_weights: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    shutil.copytree(four / "a", loose)
    with pytest.raises(EdgeDeitError, match="no labels"):
        tune(four, tmp_path / "run", tiny_weights, val=loose)
    assert not (tmp_path / "run").exists()


def test_validation_matches_by_name(four: Path, tiny_weights: Path, tmp_path: Path) -> None:
    val = tmp_path / "val"
    for name in ("b", "d"):
        shutil.copytree(four / name, val / name)
    assert tune(four, tmp_path / "run", tiny_weights, val=val).images == 8
    shutil.copytree(four / "a", val / "wasp")
    with pytest.raises(EdgeDeitError, match="wasp"):
        tune(four, tmp_path / "run2", tiny_weights, val=val)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_photo_is_named(
    workers: int, four: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    photo = four / "b" / "2.png"
    photo.write_bytes(photo.read_bytes()[:200])
    with pytest.raises(EdgeDeitError, match=r"2\.png cannot be read.*repair or remove it"):
        finetune_model(
            four, tmp_path / "run", weights=str(tiny_weights), recipe=RECIPE, workers=workers
        )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("epochs", float("nan")), ("epochs", 0.0), ("epochs", -1.0), ("batch_size", 0)),
        *(("seed", -1), ("label_smoothing", 2.0), ("weight_decay", -1.0), ("learning_rate", 0.0)),
        *(("min_crop_area", 0.0), ("patch_dropout", 1.0), ("distillation", "warm")),
        *(("learning_rate", float("inf")), ("temperature", 0.0)),
        *(
            ("rand_augment", 11.0),
            ("random_erasing", 1.1),
            ("mixup", -1.0),
            ("cutmix", float("nan")),
        ),
        *(("repeats", 0), ("stochastic_depth", 1.0), ("average", 1.0), ("layer_decay", 0.0)),
    ],
)
def test_odd_numbers_are_refused(field: str, value: float | str) -> None:
    with pytest.raises(EdgeDeitError, match=field):
        Recipe(**{field: value})  # type: ignore[arg-type]
