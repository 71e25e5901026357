"""Integers that were trained, in files of strangers and in what an export does with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from conftest import TINY, random_model
from edge_deit.artefacts.artefact import read_artefact
from edge_deit.checkpoint.load import Checkpoint, load_model
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.checkpoint.trained import TRAINED_KEY
from edge_deit.common.errors import EdgeDeitError
from edge_deit.conversion.run import export_model
from edge_deit.conversion.trained import trained_of
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.training.recipe import Recipe
from edge_deit.training.run import finetune_model
from shared import once

Tensors = dict[str, Tensor]
SEED = 2**63 - 1
"""The greatest that there is: files have to hold it."""
SPEC = PreprocessSpec(resize_size=72, crop_size=64)


@pytest.fixture(scope="session")
def files(shared: Path, photos: Path) -> Path:
    """A checkpoint with trained integers of each precision: int8/, int4/."""

    def write(folder: Path) -> None:
        start = folder / "start.safetensors"
        folder.mkdir()
        config = replace(TINY, num_classes=2, depth=1)
        save_checkpoint(start, random_model(config), SPEC, ("cat", "dog"), half=False)
        for precision in ("int8", "int4"):
            learn(photos, folder / precision, start, precision)

    return once(shared / "trained_integers", write)


def learn(photos: Path, output: Path, start: Path | str, precision: str, **given: Any) -> None:
    own = ("crop_ratio",)
    recipe = {"epochs": 1, "batch_size": 8, "seed": SEED}
    recipe |= {name: value for name, value in given.items() if name not in own}
    finetune_model(
        photos,
        output,
        weights=str(start),
        recipe=Recipe.named("finetune", recipe, quantized=True),
        quantize=precision,  # type: ignore[arg-type]
        device="cpu",
        workers=0,
        **{name: given[name] for name in own if name in given},
    )


def changed(
    files: Path,
    path: Path,
    precision: str,
    change: Callable[[Tensors], None] = lambda _: None,
    said: Callable[[dict[str, Any]], None] = lambda _: None,
    **metadata: str,
) -> Path:
    """A copy of a checkpoint with other trained tensors, or other words about them."""
    source = files / precision / "model.safetensors"
    found = load_model(str(source))
    assert found.trained is not None
    trained = {f"trained.{name}": value for name, value in found.trained.tensors.items()}
    change(trained)
    tensors = {n: v for n, v in load_file(source).items() if not n.startswith("trained.")}
    own = json.loads(found.trained.metadata()[TRAINED_KEY])
    said(own)
    header = header_of(source) | {TRAINED_KEY: json.dumps(own)} | metadata
    save_file(tensors | trained, path, metadata=header)
    return path


def header_of(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    found: dict[str, str] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])[
        "__metadata__"
    ]
    return found


def read(path: Path) -> Checkpoint:
    found = load_model(str(path))
    trained_of(found)
    return found


def change(name: str, make: Callable[[Tensor], Tensor]) -> Callable[[Tensors], None]:
    def apply(tensors: Tensors) -> None:
        tensors[f"trained.{name}"] = make(tensors.get(f"trained.{name}", torch.zeros(3)))

    return apply


def remove(name: str) -> Callable[[Tensors], None]:
    def apply(tensors: Tensors) -> None:
        del tensors[f"trained.{name}"]

    return apply


PROJ = "blocks.0.attn.proj"
DAMAGES: list[tuple[str, Callable[[Tensors], None], str]] = [
    ("int8", change("unrounded.token_table", lambda x: x * torch.nan), "token_table holds NaN"),
    ("int4", change("form.token_table", lambda x: x * torch.nan), "token_table holds NaN"),
    ("int8", change(f"unrounded.{PROJ}.bias", lambda x: x.char()), "bias is torch.int8"),
    ("int4", change(f"form.{PROJ}.bias", lambda x: x.char()), "bias is torch.int8"),
    ("int8", change(f"paired.bias.{PROJ}", lambda x: x.char()), "bias.*is torch.int8"),
    ("int8", remove(f"form.{PROJ}.bias"), f"{PROJ}.bias is missing"),
    ("int8", remove(f"paired.bias.{PROJ}"), f"paired.bias.{PROJ} is missing"),
    ("int4", remove(f"integers.{PROJ}"), f"scales of {PROJ} are missing"),
    ("int4", change("nonsense", lambda x: x), "nonsense is unknown"),
    ("int8", change("paired.bias.nonsense", lambda x: x), "paired.bias.nonsense is unknown"),
    ("int4", change("form.nonsense", lambda x: x), "nonsense is unknown"),
    ("int4", change(f"integers.{PROJ}", lambda x: x[:0]), "another type or shape"),
    ("int4", change(f"scales.{PROJ}", lambda x: x[:, :1].clone()), f"scales.{PROJ} is"),
    ("int4", change("scales.blocks.0.mlp.fc2", lambda x: x * 1.0001), "more digits than files"),
]  # fmt: skip


@pytest.mark.parametrize(("precision", "damage", "message"), DAMAGES)
def test_damaged_tensors_are_refused_by_name(
    precision: str,
    damage: Callable[[Tensors], None],
    message: str,
    files: Path,
    tmp_path: Path,
) -> None:
    path = changed(files, tmp_path / "one.safetensors", precision, damage)
    with pytest.raises(EdgeDeitError, match=message):
        read(path)


def in_text(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], None]:
    def apply(said: dict[str, Any]) -> None:
        text = json.loads(said["text"])
        change(text)
        said["text"] = json.dumps(text)

    return apply


WORDS: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("int4", in_text(lambda text: text["bits"].update(patch_embed=4)), "cannot be in 4 bits"),
    ("int8", in_text(lambda text: text.update(hello=1)), "hello: "),
    ("int8", in_text(lambda text: text.update(exponents={"hello": 1.0})), "another model's"),
    ("int8", in_text(lambda text: text["methods"].update(head=["\x1b", "a"])), "has no name"),
    ("int8", lambda said: said.update(text="a" * (1 << 23)), "too long"),
    ("int8", lambda said: said.update(seed=-1), "their seed is -1"),
]  # fmt: skip


@pytest.mark.parametrize(("precision", "said", "message"), WORDS)
def test_wrong_words_about_them_are_refused(
    precision: str,
    said: Callable[[dict[str, Any]], None],
    message: str,
    files: Path,
    tmp_path: Path,
) -> None:
    path = changed(files, tmp_path / "one.safetensors", precision, said=said)
    with pytest.raises(EdgeDeitError, match=message):
        read(path)


def test_one_tensor_under_many_names_does_not_fill_the_memory(files: Path, tmp_path: Path) -> None:
    names = {f"trained.x{index}": "trained.form.token_table" for index in range(1000)}
    path = changed(files, tmp_path / "one.safetensors", "int8", **names)
    with pytest.raises(EdgeDeitError, match="its tensors ask for"):
        read(path)


def test_tensors_that_nothing_describes_are_named(files: Path, tmp_path: Path) -> None:
    source, path = files / "int8" / "model.safetensors", tmp_path / "one.safetensors"
    header = {name: said for name, said in header_of(source).items() if name != TRAINED_KEY}
    save_file(load_file(source), path, metadata=header)
    with pytest.raises(EdgeDeitError, match="no entry edge_deit_trained"):
        load_model(str(path))


def test_a_file_says_the_seed_of_its_training(files: Path, tmp_path: Path) -> None:
    """The basis that its layers are compared in follows from it."""
    weights = files / "int8" / "model.safetensors"
    (one,) = export_model(
        str(weights), targets=["onnx"], precisions=["int8"], output=tmp_path
    ).artefacts
    assert read_artefact(one.path).manifest.scheme["seed"] == SEED


def test_a_folder_for_hugging_face_takes_them_too(files: Path, tmp_path: Path) -> None:
    weights = files / "int8" / "model.safetensors"
    (one,) = export_model(
        str(weights), precisions=["int8"], output=tmp_path / "out", layout="huggingface"
    ).artefacts
    assert one.manifest.scheme["trained"] is True
    assert one.manifest.calibration is None


def test_int4_of_a_model_without_whole_groups_is_refused_first(
    photos: Path, tmp_path: Path
) -> None:
    config = replace(TINY, num_classes=2, depth=1, embed_dim=33, num_heads=3, mlp_dim=77)
    start = tmp_path / "start.safetensors"
    save_checkpoint(start, random_model(config), SPEC, ("cat", "dog"), half=False)
    with pytest.raises(EdgeDeitError, match="take --quantize int8"):
        learn(photos, tmp_path / "run", start, "int4")
    assert not (tmp_path / "run" / "state.pt").exists()


def test_a_training_that_runs_away_ends_with_a_line(
    files: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgeDeitError, match="lower --learning-rate"):
        learn(photos, tmp_path, files / "start.safetensors", "int8", learning_rate=10.0, epochs=3)


def test_a_crop_that_no_checkpoint_may_have_is_refused_first(
    files: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgeDeitError, match="--crop-ratio scales photos to 6400"):
        learn(photos, tmp_path / "run", files / "start.safetensors", "int8", crop_ratio=0.01)
    assert not (tmp_path / "run").exists()
