"""Where training computes. Here runs the processor; moves are tried on torch's meta device, no GPU is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from conftest import TINY, CommandLine, random_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.labels import match_labels
from edge_deit.data.listing import Photo
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.deit import DeiT
from edge_deit.training.device import (
    CPU,
    Compute,
    choose_compute,
    choose_device,
    choose_format,
    devices_here,
    on_cpu,
)
from edge_deit.training.recipe import Recipe, training_loss
from edge_deit.training.regularize import left_out
from edge_deit.training.state import RunKey, restore_state, save_state
from edge_deit.training.teacher import file_teacher
from edge_deit.training.train import train

SPEC = PreprocessSpec(resize_size=64, crop_size=64)
RECIPE = Recipe(epochs=2, batch_size=4, learning_rate=1e-3, flip=False)
KEY = RunKey(("cat", "dog"), "photos", 64, "none", "none", SPEC.to_json())
DISTILLED = replace(TINY, num_classes=2, distilled=True, distillation_head=True)


def labelled(folder: Path) -> list[Photo]:
    return list(match_labels(list_photos(folder), ("cat", "dog")).photos)


def trained(photos: Path, state: Path, compute: Compute) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = DeiT(DISTILLED)
    train(model, labelled(photos), SPEC, RECIPE, KEY, state_path=state, workers=0, compute=compute)
    return dict(model.state_dict())


@pytest.mark.parametrize(
    ("here", "taken"),
    [(("cuda", "cpu"), "cuda"), (("mps", "cpu"), "mps"), (("cpu",), "cpu")],
)
def test_auto_takes_what_is_fastest(here: tuple[str, ...], taken: str) -> None:
    assert choose_device("auto", here) == taken
    assert choose_device("cpu", here) == "cpu"


def test_a_device_that_is_not_here_is_refused_with_those_that_are() -> None:
    with pytest.raises(EdgeDeitError, match=r"--device cuda: .*here: mps, cpu"):
        choose_device("cuda", ("mps", "cpu"))


@pytest.mark.parametrize(
    ("wanted", "device", "bfloat16", "taken"),
    [
        ("auto", "cuda", True, torch.bfloat16),
        ("auto", "cuda", False, torch.float16),
        ("auto", "mps", True, torch.float32),
        ("auto", "cpu", True, torch.float32),
        ("float32", "cuda", True, torch.float32),
        ("bfloat16", "cpu", True, torch.bfloat16),
        ("float16", "cuda", True, torch.float16),
    ],
)
def test_formats(wanted: str, device: str, bfloat16: bool, taken: torch.dtype) -> None:
    assert choose_format(wanted, device, bfloat16=bfloat16) is taken  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "device", "bfloat16", "why"),
    [
        ("float16", "cpu", True, "needs a CUDA device"),
        ("float16", "mps", True, "needs a CUDA device"),
        ("bfloat16", "cuda", False, "this CUDA device has none"),
    ],
)
def test_formats_that_are_refused(wanted: str, device: str, bfloat16: bool, why: str) -> None:
    with pytest.raises(EdgeDeitError, match=why):
        choose_format(wanted, device, bfloat16=bfloat16)  # type: ignore[arg-type]


def test_this_machine() -> None:
    assert devices_here()[-1] == "cpu"
    assert choose_compute("cpu", "auto") == CPU
    assert choose_compute("cpu", "bfloat16").words() == "cpu, bfloat16"


def test_bfloat16_trains_weights_that_stay_float32(photos: Path, tmp_path: Path) -> None:
    full = trained(photos, tmp_path / "a.pt", CPU)
    mixed = trained(photos, tmp_path / "b.pt", replace(CPU, format=torch.bfloat16))
    assert {value.dtype for value in mixed.values()} == {torch.float32}
    assert not torch.equal(full["blocks.0.attn.qkv.weight"], mixed["blocks.0.attn.qkv.weight"])
    for name, value in full.items():
        torch.testing.assert_close(mixed[name], value, rtol=0, atol=0.02)


@dataclass(frozen=True)
class Scaled(Compute):
    """The processor with losses scaled as on CUDA in float16."""

    def scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler("cpu", init_scale=1024.0)


def test_scaled_losses_teach_the_same_and_the_scale_is_kept(photos: Path, tmp_path: Path) -> None:
    full = trained(photos, tmp_path / "a.pt", CPU)
    scaled = trained(photos, tmp_path / "b.pt", Scaled(torch.device("cpu")))
    for name, value in full.items():
        torch.testing.assert_close(scaled[name], value)
    model = DeiT(DISTILLED)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    optimizer = torch.optim.AdamW(model.parameters())
    save = tmp_path / "c.pt"
    save_state(save, model, optimizer, RECIPE, KEY, 3, torch.amp.GradScaler("cpu", init_scale=64.0))
    assert restore_state(save, model, optimizer, RECIPE, KEY, scaler) == 3
    assert scaler.get_scale() == 64.0
    save_state(save, model, optimizer, RECIPE, KEY, 3, CPU.scaler())  # float32: it has no scale
    restore_state(save, model, optimizer, RECIPE, KEY, scaler)
    assert scaler.get_scale() == 64.0


def test_a_state_holds_plain_tensors_of_the_processor() -> None:
    odd = torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    found = on_cpu({"a": odd, "b": [(odd.mT, 1.5)], "c": "text"})
    assert found["a"].is_contiguous()
    assert found["b"][0][0].is_contiguous()
    assert (found["b"][0][1], found["c"]) == (1.5, "text")


class Twice(torch.nn.Module):
    """A teacher with a constant of its own."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean((2, 3))[:, :2] + torch.ones(2)


def test_model_batch_and_teacher_meet_on_one_device(tmp_path: Path) -> None:
    """On meta nothing is computed, but operands of two devices are refused."""
    path = tmp_path / "teacher.pt2"
    example = torch.zeros(2, 3, 64, 64)
    torch.export.save(torch.export.export(Twice(), (example,)), path)
    compute = Compute(torch.device("meta"))
    model = compute.place(random_model(DISTILLED))
    assert {one.device.type for one in model.parameters()} == {"meta"}
    teacher = file_teacher(path, trusted=False, device=compute.device)
    recipe = replace(RECIPE, distillation="soft", patch_dropout=0.5)
    pixels, labels = compute.pixels(example), compute.labels(torch.tensor([0, 1]))
    with left_out(model, recipe, 0):
        loss = training_loss(model, pixels, labels, teacher, recipe)
    assert loss.device.type == "meta"


def test_the_command_names_what_is_here(
    photos: Path, tiny_weights: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    absent = next(name for name in ("mps", "cuda") if name not in devices_here())
    common = ("--data", photos, "--weights", tiny_weights, "--output", tmp_path / "out")
    done = command_line("finetune", *common, "--device", absent)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"--device {absent}" in done.stderr
    assert f"here: {', '.join(devices_here())}" in done.stderr
    done = command_line("finetune", *common, "--device", "tpu")
    assert done.returncode == 2
    assert "choose one of: auto, cpu, cuda, mps" in done.stderr
    assert not (tmp_path / "out").exists()
