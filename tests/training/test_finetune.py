"""Fine-tuning: it learns, a resumed run equals an uninterrupted one, teachers are heard."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from conftest import TINY, CommandLine, random_model
from edge_deit.checkpoint.load import load_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.labels import match_labels
from edge_deit.data.listing import Photo
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.deit import DeiT
from edge_deit.training.measure import measure
from edge_deit.training.recipe import Recipe, training_loss
from edge_deit.training.state import RunKey
from edge_deit.training.teacher import file_teacher
from edge_deit.training.train import train

SPEC = PreprocessSpec(resize_size=64, crop_size=64)
RECIPE = Recipe(epochs=4, batch_size=4, learning_rate=1e-3, flip=False)
DISTILLED = replace(TINY, num_classes=2, distilled=True, distillation_head=True)


KEY = RunKey(("cat", "dog"), "photos", 64, "none", "none", SPEC.to_json())


def labelled(folder: Path) -> list[Photo]:
    return list(match_labels(list_photos(folder), ("cat", "dog")).photos)


def fresh(seed: int = 0) -> DeiT:
    torch.manual_seed(seed)
    return DeiT(DISTILLED)


def test_learns_the_training_photos(photos: Path, tmp_path: Path) -> None:
    model = fresh()
    found = labelled(photos)
    recipe = replace(RECIPE, epochs=40, min_crop_area=0.95, label_smoothing=0.0)
    train(model, found, SPEC, recipe, KEY, state_path=tmp_path / "state.pt", workers=0)
    assert measure(model, found, SPEC).top1 == 1.0


@pytest.mark.parametrize("patch_dropout", [0.0, 0.5])
def test_resumed_run_equals_an_uninterrupted_one(
    patch_dropout: float, photos: Path, tmp_path: Path
) -> None:
    found = labelled(photos)
    recipe = replace(RECIPE, patch_dropout=patch_dropout)
    whole = fresh()
    train(whole, found, SPEC, recipe, KEY, state_path=tmp_path / "whole.pt", workers=0)

    def interrupt(step: int, steps: int, loss: float) -> None:
        if step == 7:
            raise KeyboardInterrupt

    state = tmp_path / "parts.pt"
    first = fresh()
    with pytest.raises(KeyboardInterrupt):
        train(first, found, SPEC, recipe, KEY, state_path=state, workers=0, on_step=interrupt)
    second = fresh(seed=9)
    train(second, found, SPEC, recipe, KEY, state_path=state, resume=True, workers=0)
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def test_patch_dropout_keeps_the_tokens_and_drops_patches(photos: Path, tmp_path: Path) -> None:
    model, seen = fresh(), []
    handle = model.blocks[1].register_forward_pre_hook(lambda _, x: seen.append(x[0].shape[1]))
    recipe = replace(RECIPE, epochs=1, patch_dropout=0.75)
    train(model, labelled(photos), SPEC, recipe, KEY, state_path=tmp_path / "state.pt", workers=0)
    handle.remove()
    patches = model.config.num_tokens - 2
    assert set(seen) == {2 + round(patches / 4)}
    with pytest.raises(EdgeDeitError, match="patch_dropout is 1"):
        replace(RECIPE, patch_dropout=1.0)


def test_resume_refuses_another_recipe(photos: Path, tmp_path: Path) -> None:
    found, state = labelled(photos), tmp_path / "state.pt"
    train(fresh(), found, SPEC, replace(RECIPE, epochs=1), KEY, state_path=state, workers=0)
    with pytest.raises(EdgeDeitError, match="a run with epochs 1, this one has 4"):
        train(
            fresh(), found, SPEC, replace(RECIPE, learning_rate=1e-4), KEY, state_path=state,
            resume=True, workers=0,
        )  # fmt: skip


class Constant(nn.Module):
    """A teacher that always says class 1."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        says = torch.tensor([-4.0, 4.0]) + 0 * pixels.mean()
        return says.expand(pixels.shape[0], 2)


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("suffix", [".pt2", ".pt"])
def test_distillation_head_follows_the_teacher(
    kind: str, suffix: str, photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"teacher{suffix}"
    if suffix == ".pt2":
        dims = ({0: torch.export.Dim("batch", max=64)},)
        example = (torch.zeros(2, 3, 64, 64),)
        torch.export.save(torch.export.export(Constant(), example, dynamic_shapes=dims), path)
    else:
        torch.jit.trace(Constant(), torch.zeros(2, 3, 64, 64)).save(path)
    model = fresh()
    recipe = replace(RECIPE, epochs=10, distillation=kind)
    train(
        model, labelled(photos), SPEC, recipe, KEY, teacher=file_teacher(path, trusted=True),
        state_path=tmp_path / "state.pt", workers=0,
    )  # fmt: skip
    with torch.inference_mode():
        _, dist_logits = model.heads(torch.randn(4, 3, 64, 64))
    assert (dist_logits.argmax(1) == 1).all()


def test_one_head_has_hintons_loss() -> None:
    """arXiv 1503.02531: both softened classes, worked out in NumPy."""
    model = random_model(replace(TINY, num_classes=3))
    pixels, labels = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 1])
    taught = torch.tensor([[1.0, 2, 3], [4, 0, 1], [0, 0, 0], [-2, 5, 1]])
    recipe = Recipe(
        distillation="classic", distillation_weight=0.3, temperature=4.0, label_smoothing=0.0
    )
    loss = training_loss(model, pixels, labels, lambda _: taught, recipe)
    with torch.no_grad():
        logits = model(pixels).double().numpy()

    def shares(values: np.ndarray) -> np.ndarray:
        powers = np.exp(values)
        return powers / powers.sum(1, keepdims=True)

    student, teacher = shares(logits / 4), shares(taught.double().numpy() / 4)
    hard = -np.log(shares(logits)[range(4), labels.numpy()]).mean()
    soft = (teacher * np.log(teacher / student)).sum(1).mean()
    assert float(loss.detach()) == pytest.approx(0.7 * hard + 0.3 * 16 * soft, rel=1e-5)
    loss.backward()
    assert all(one.grad is not None for one in model.parameters())


def test_one_head_follows_the_teacher(photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DeiT(replace(TINY, num_classes=2))
    recipe = replace(RECIPE, epochs=10, distillation="classic", distillation_weight=1.0)
    train(
        model, labelled(photos), SPEC, recipe, KEY, teacher=Constant(),
        state_path=tmp_path / "state.pt", workers=0,
    )  # fmt: skip
    with torch.inference_mode():
        found = model(torch.randn(4, 3, 64, 64)).softmax(1)
    torch.testing.assert_close(found[:, 1], torch.full((4,), 0.99966), rtol=0, atol=0.02)


def test_teacher_of_other_classes_is_refused(photos: Path, tmp_path: Path) -> None:
    teacher = random_model(replace(TINY, num_classes=5))
    with pytest.raises(EdgeDeitError, match="both need the same classes"):
        train(
            fresh(), labelled(photos), SPEC, replace(RECIPE, distillation="hard"), KEY,
            teacher=teacher, state_path=tmp_path / "state.pt", workers=0,
        )  # fmt: skip


def test_unreadable_teacher(tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    path.write_bytes(b"nothing")
    with pytest.raises(EdgeDeitError, match="neither an ExportedProgram"):
        file_teacher(path, trusted=True)


@pytest.mark.slow
def test_command_adapts_a_checkpoint_to_new_classes(
    photos: Path, tiny_weights: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    result = command_line(
        "finetune", "--data", photos, "--val", photos, "--weights", tiny_weights,
        "--output", tmp_path, "--epochs", 1.5, "--batch-size", 4, "--workers", 0,
        "--distillation", "none",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    tuned = load_model(str(tmp_path / "model.safetensors"))
    assert tuned.labels == ("cat", "dog")
    assert tuned.config.num_classes == 2
    figures = json.loads((tmp_path / "accuracy.json").read_text(encoding="utf-8"))
    assert figures["images"] == 16
    assert f"top-1 {100 * figures['top1']:.2f} %" in result.stdout
