"""Teachers that transformers builds: their outputs are its own, and no folder runs code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from conftest import ROOT, TINY, CommandLine, random_model
from edge_deit.checkpoint.load import load_model
from edge_deit.checkpoint.pixel_form import form_from_folder
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Silent
from edge_deit.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, PreprocessSpec, preprocess
from edge_deit.training.recipe import Recipe
from edge_deit.training.run import finetune_model
from edge_deit.training.teacher import Guide, checkpoint_teacher
from stand_in_hub import COMMIT, serving

transformers = pytest.importorskip("transformers", reason="transformers builds these teachers")
from classifier_examples import KINDS, NAMES, edit_json, write_classifier  # noqa: E402

SPEC = PreprocessSpec(resize="exact", resize_size=64, crop_size=64)


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def photo(width: int = 90, height: int = 70) -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (7, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def logits(guide: Guide, spec: PreprocessSpec = SPEC, image: Image.Image | None = None) -> Tensor:
    pixels = torch.from_numpy(preprocess(image or photo(), spec))
    guide.check(pixels.repeat(2, 1, 1, 1), 3)
    with torch.no_grad():
        return guide(pixels)


def own(model: torch.nn.Module, processor: object, image: Image.Image | None = None) -> Tensor:
    """What transformers alone makes of a photo."""
    pixels = processor(image or photo(), return_tensors="pt")["pixel_values"]  # type: ignore[operator]
    with torch.no_grad():
        return torch.as_tensor(model(pixel_values=pixels).logits)


GEOMETRY = {
    "ConvNext": replace(
        SPEC, resize="shortest", resize_size=int(64 / 0.875), crop_rounding="floor"
    ),
    "Bit": replace(SPEC, resize="shortest", crop_rounding="floor"),
    "MobileNetV2": replace(SPEC, resize="shortest", crop_rounding="floor"),
    "Beit": SPEC,
    "ViT": replace(SPEC, resample="bilinear"),
}
"""How each processor cuts a photo, with the student's mean and deviation."""


@pytest.mark.parametrize("kind", KINDS)
def test_equals_transformers(kind: str, tmp_path: Path) -> None:
    model, processor = write_classifier(tmp_path, kind)
    spec = GEOMETRY[KINDS[kind][2]]
    if kind == "MobileNetV2":
        spec = replace(spec, resample="bilinear")
    heard = Heard()
    found = logits(checkpoint_teacher(str(tmp_path), spec, NAMES, heard), spec)
    torch.testing.assert_close(found, own(model, processor), rtol=1e-4, atol=1e-4)
    lines = (
        ["MobileNetV2ImageProcessor does nothing to pixels but what"]
        if kind == "MobileNetV2"
        else []
    )
    assert len(heard.lines) == len(lines)
    assert all(wanted in line for wanted, line in zip(lines, heard.lines, strict=True))
    assert found.std() > 0.01, "a teacher that says the same of all"


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    model, processor = write_classifier(tmp_path, names=("fox", "Dog", "sea_lion", "cat"))
    spec, heard = GEOMETRY["ConvNext"], Heard()
    guide = checkpoint_teacher(str(tmp_path), spec, ("cat", "dog", "sea lion"), heard)
    torch.testing.assert_close(
        logits(guide, spec), own(model, processor)[:, [3, 1, 2]], rtol=1e-4, atol=1e-4
    )
    assert heard.lines == [
        f"teacher {tmp_path}: its classes are matched by name, whatever its case and separators, in "
        "another order than its own",
        f"teacher {tmp_path} has 4 classes; 1, which the student has not, are left out",
    ]


def test_a_folder_without_names_is_taken_in_order(tmp_path: Path) -> None:
    write_classifier(tmp_path, names=("LABEL_0", "LABEL_1"))
    assert "id2label" not in json.loads((tmp_path / "config.json").read_text())
    heard = Heard()
    guide = checkpoint_teacher(str(tmp_path), SPEC, ("cat", "dog"), heard)
    guide.check(torch.zeros(2, 3, 64, 64), 2)
    assert [line for line in heard.lines if "names no classes" in line] == heard.lines
    assert (
        "so the teacher's 2 outputs are the student's classes in order (cat, dog)" in heard.lines[0]
    )
    with pytest.raises(EdgeDeitError, match="the teacher has 2, the student 3"):
        checkpoint_teacher(str(tmp_path), SPEC, NAMES)


def test_tensors_without_a_place_are_said(tmp_path: Path) -> None:
    write_classifier(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file({**state, "more": torch.zeros(3)}, tmp_path / "model.safetensors", {"format": "pt"})
    heard = Heard()
    checkpoint_teacher(str(tmp_path), SPEC, NAMES, heard)
    assert heard.lines == [
        f"teacher {tmp_path}: tensors without a place in the model are left out: more"
    ]


def test_another_size_is_resized_as_pillow_does(tmp_path: Path) -> None:
    """The crop scaled on tensors and on bytes: the same but for rounding to bytes."""
    model, _ = write_classifier(tmp_path, side=96)
    spec, heard = replace(SPEC, mean=IMAGENET_MEAN, std=IMAGENET_STD), Heard()
    found = logits(checkpoint_teacher(str(tmp_path), spec, NAMES, heard), spec, photo(64, 64))
    larger = photo(64, 64).resize((96, 96), Image.Resampling.BICUBIC)
    form, _ = form_from_folder(tmp_path, {})
    wanted = preprocess(
        larger, replace(SPEC, resize="none", crop_size=96, mean=form.mean, std=form.std)
    )
    with torch.no_grad():
        expected = model(pixel_values=torch.from_numpy(wanted)).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)
    assert (found - expected).abs().max() < 0.05 * found.std()
    assert len(heard.lines) == 1
    assert "scaled from 64 to 96 pixels a side (bicubic, antialiased)" in heard.lines[0]


def test_half_precision_and_shards_and_the_file_itself(tmp_path: Path) -> None:
    model, processor = write_classifier(tmp_path / "whole")
    model.half().save_pretrained(tmp_path / "parts", max_shard_size="4KB")
    shutil.copy(tmp_path / "whole/preprocessor_config.json", tmp_path / "parts")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    spec, expected = GEOMETRY["ConvNext"], own(model.float(), processor)
    for name in ("parts", "whole/model.safetensors"):
        guide = checkpoint_teacher(str(tmp_path / name), spec, NAMES)
        torch.testing.assert_close(logits(guide, spec), expected, rtol=1e-2, atol=1e-2)
        assert logits(guide, spec).dtype == torch.float32


def test_the_key_is_of_weights_names_and_pixels(tmp_path: Path) -> None:
    write_classifier(tmp_path)
    keys = [checkpoint_teacher(str(tmp_path), SPEC, NAMES).key for _ in range(2)]
    keys.append(checkpoint_teacher(str(tmp_path), SPEC, NAMES[::-1]).key)
    edit_json(tmp_path / "preprocessor_config.json", image_mean=[0.1, 0.1, 0.1])
    keys.append(checkpoint_teacher(str(tmp_path), SPEC, NAMES).key)
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert all(len(key) == 64 for key in keys)


def test_all_of_it_moves_to_the_device(tmp_path: Path) -> None:
    """PyTorch's meta device computes nothing, and refuses tensors of two devices."""
    write_classifier(tmp_path, side=96, names=("a", "b", "c", "d"))
    guide = checkpoint_teacher(str(tmp_path), SPEC, ("d", "a"), device=torch.device("meta"))
    found = guide(torch.zeros(2, 3, 64, 64, device="meta"))
    assert (found.device.type, found.shape) == ("meta", (2, 2))


def test_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants", reason="hub: needs it")
    model, processor = write_classifier(tmp_path / "repository", "RegNet")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        "huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "cache")
    )
    with serving(tmp_path / "repository") as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        guide = checkpoint_teacher(f"hub:org/name@{COMMIT}", GEOMETRY["ConvNext"], NAMES)
        with pytest.raises(EdgeDeitError, match=r"^teacher: hub:org/other"):
            checkpoint_teacher("hub:org/other", SPEC, NAMES)
    found = logits(guide, GEOMETRY["ConvNext"])
    torch.testing.assert_close(found, own(model, processor), rtol=1e-4, atol=1e-4)


# Refusals

PROCESSOR = "preprocessor_config.json"


def _base_model(folder: Path) -> None:
    stem, settings, _ = KINDS["ResNet"]
    config = getattr(transformers, f"{stem}Config")(**settings)
    getattr(transformers, f"{stem}Model")(config).save_pretrained(folder)


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "kept")
    torch.save({}, folder / "pytorch_model.bin")


def _outside(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.rename(folder.parent / "outside.safetensors")
    table = {"weight_map": {"a": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(table))


def _truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def config(**changes: object) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "config.json", **changes)


def processor(**changes: object) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / PROCESSOR, **changes)


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "code": (config(auto_map={"AutoModel": "m.M"}), "auto_map is set: its model is code of its own"),
    "code further down": (config(text_config={"auto_map": "x"}), "auto_map is set"),
    "a kernel from elsewhere": (config(attn_implementation="evil/kernel"), "only eager and sdpa"),
    "quantized": (config(quantization_config={"a": 1}), "its weights are quantized"),
    "another file": (config(transformers_weights="../x.safetensors"), "transformers_weights is set"),
    "several labels": (config(problem_type="multi_label_classification"), "do not exclude"),
    "no image classifier": (config(model_type="bert"), "does not take for an image classifier"),
    "no model at all": (config(model_type="rubbish"), "its model_type is 'rubbish'"),
    "no model_type": (config(model_type=None), "model_type is None"),
    "timm": (config(architecture="resnet50"), "architecture is 'resnet50'.*give a .pt2 file"),
    "impossible": (config(layer_type="rubbish"), "cannot be built by transformers: .*rubbish"),
    "wrong type": (config(hidden_sizes="rubbish"), "cannot be built by transformers: "),
    "a million layers": (config(depths=[1, 10**6]), "but the weights have [0-9]+ tensors"),
    "other weights": (config(embedding_size=16), r"is \(8, .* is expected from .*config\.json"),
    "two classes": (
        config(id2label={"0": "fox", "1": "dog"}, label2id=None), r"is \(3,\), \(2,\) is expected"
    ),
    "names with a gap": (config(id2label={"0": "fox", "1": "dog", "7": "cat"}), "lacks class 2"),
    "one name twice": (config(id2label={"0": "a", "1": "a", "2": "cat"}, label2id=None), "2 classes 'a'"),
    "no classifier": (_base_model, "its weights lack classifier"),
    "pickles alone": (_pickled, r"no model.safetensors, only pytorch_model.bin, which is not read"),
    "a shard outside": (_outside, "lies outside its folder"),
    "truncated": (_truncated, "cannot be read as plain tensors"),
    "an adapter": (lambda f: (f / "adapter_config.json").touch() or None, "holds an adapter"),
    "no config": (lambda f: (f / "config.json").unlink(), r"has no config\.json"),
    "config of junk": (lambda f: (f / "config.json").write_text("{") and None, "is not readable"),
    "no processor": (lambda f: (f / PROCESSOR).unlink(), "does not say which pixels it takes"),
    "flipped channels": (
        processor(image_processor_type="MobileViTImageProcessor", do_flip_channel_order=True),
        "do_flip_channel_order is True",
    ),
    "normalised twice": (
        processor(image_processor_type="EfficientNetImageProcessor", include_top=True),
        "include_top is True",
    ),
    "no square": (
        processor(image_processor_type="OtherImageProcessor", size={"height": 64, "width": 32}),
        "the side of a square",
    ),
    "no mean": (processor(image_processor_type="OtherImageProcessor", image_mean="x"), "three numbers"),
    "nothing there": (lambda f: shutil.rmtree(f), "do not exist"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_a_line(case: str, tmp_path: Path) -> None:
    spoil, message = REFUSED[case]
    folder = tmp_path / "teacher"
    write_classifier(folder)
    spoil(folder)
    with pytest.raises(EdgeDeitError, match=message) as refusal:
        checkpoint_teacher(str(folder), SPEC, NAMES)
    assert str(refusal.value).startswith("teacher")
    assert "\n" not in str(refusal.value)


def test_a_size_that_the_model_does_not_take(tmp_path: Path) -> None:
    write_classifier(tmp_path, "ConvNeXT", side=2)
    guide = checkpoint_teacher(str(tmp_path), SPEC, NAMES)
    with pytest.raises(
        EdgeDeitError, match=r"does not take photos of .*its files say that it takes"
    ):
        guide.check(torch.zeros(2, 3, 64, 64), 3)


def test_without_transformers_a_line_says_what_to_install(tmp_path: Path) -> None:
    write_classifier(tmp_path)
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "from edge_deit.training.teacher import checkpoint_teacher as t\n"
        "from edge_deit.data.preprocess import PreprocessSpec as P\n"
        f"t({str(tmp_path)!r}, P(crop_size=64), {NAMES!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert "which transformers builds: pip install 'edge-deit[teacher]'" in done.stderr


# The command


@pytest.mark.slow
def test_command_learns_from_a_folder(
    photos: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    """One head learns classically from a ResNet of another size, with more classes in another order."""
    write_classifier(tmp_path / "teacher", side=96)
    save_checkpoint(tmp_path / "s.safetensors", random_model(TINY), SPEC, (), half=False)
    done = command_line(
        "finetune", "--data", photos, "--weights", tmp_path / "s.safetensors", "--epochs", 1,
        "--teacher-weights", tmp_path / "teacher", "--output", tmp_path / "out",
        "--batch-size", 8, "--workers", 0, "--distillation", "classic",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert "scaled from 64 to 96 pixels" in said
    assert "3 classes; 1, which the student has not" in said
    for noise in ("it/s", "orchao", "Warning", "WARNING", "Traceback"):
        assert noise not in done.stderr + done.stdout
    assert load_model(str(tmp_path / "out/model.safetensors")).labels == ("cat", "dog")


def test_resuming_asks_for_the_same_teacher(photos: Path, tmp_path: Path) -> None:
    write_classifier(tmp_path / "teacher")
    save_checkpoint(tmp_path / "s.safetensors", random_model(TINY), SPEC, (), half=False)

    def finetune(*, resume: bool) -> None:
        finetune_model(
            photos,
            tmp_path / "out",
            weights=str(tmp_path / "s.safetensors"),
            recipe=Recipe(epochs=1, batch_size=8, distillation="classic"),
            teacher_weights=str(tmp_path / "teacher"),
            resume=resume,
            workers=0,
        )

    finetune(resume=False)
    finetune(resume=True)
    edit_json(tmp_path / "teacher" / PROCESSOR, image_mean=[0.1, 0.1, 0.1])
    with pytest.raises(EdgeDeitError, match=r"is of a run with teacher [0-9a-f]{12}"):
        finetune(resume=True)


@pytest.mark.parametrize(
    ("kind", "two", "message"),
    [
        ("hard", False, "has one head, say --distillation classic"),
        ("soft", False, "has one head, say --distillation classic"),
        ("classic", True, "say --distillation hard or soft"),
    ],
)
def test_heads_and_distillation_fit(
    kind: str, two: bool, message: str, photos: Path, tmp_path: Path
) -> None:
    model = random_model(replace(TINY, distilled=two, distillation_head=two))
    save_checkpoint(tmp_path / "s.safetensors", model, SPEC, (), half=False)
    with pytest.raises(EdgeDeitError, match=message):
        finetune_model(
            photos,
            tmp_path / "out",
            weights=str(tmp_path / "s.safetensors"),
            recipe=Recipe(distillation=kind),  # type: ignore[arg-type]
            teacher_weights="nowhere",
        )
    assert not (tmp_path / "out").exists()
