"""`finetune --quantize`: a float model and, beside it, integers that an export takes as they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from conftest import TINY, CommandLine, random_model
from edge_deit.artefacts.artefact import read_artefact
from edge_deit.artefacts.runners import open_runner
from edge_deit.checkpoint.load import load_model
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Silent
from edge_deit.conversion.run import ExportResult, export_model
from edge_deit.data.labels import match_labels
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import PreprocessSpec, load_pixels
from edge_deit.quantization.trained import simulated, trained_from_tensors
from edge_deit.training.measure import measure
from edge_deit.training.recipe import Recipe
from edge_deit.training.run import Finetuned, finetune_model
from shared import once

RECIPE = Recipe.named("finetune", {"epochs": 2, "batch_size": 6, "flip": False}, quantized=True)
LABELS = ("cat", "dog")


class Heard(Silent):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="session")
def cats_and_dogs(shared: Path) -> Path:
    """A distilled 64-pixel model of the two classes that the photos have, in float32."""

    def write(path: Path) -> None:
        config = replace(TINY, distilled=True, distillation_head=True, num_classes=2)
        spec = PreprocessSpec(resize_size=72, crop_size=64)
        save_checkpoint(path, random_model(config), spec, LABELS, half=False)

    return once(shared / "cats_and_dogs.safetensors", write)


@pytest.fixture(scope="session")
def runs(shared: Path, photos: Path, cats_and_dogs: Path) -> Path:
    """A training of each precision: int8/, int4/."""

    def write(folder: Path) -> None:
        for precision in ("int8", "int4"):
            learn(photos, folder / precision, cats_and_dogs, quantize=precision, test=photos)

    return once(shared / "quantized", write)


def learn(photos: Path, output: Path, weights: Path, **settings: object) -> Finetuned:
    settings = {"recipe": RECIPE, "val": photos, "device": "cpu", **settings}
    return finetune_model(photos, output, weights=str(weights), workers=0, **settings)  # type: ignore[arg-type]


def computes(path: Path) -> torch.nn.Module:
    """What the integers of a checkpoint compute."""
    found = load_model(str(path))
    assert found.trained is not None
    one = found.trained
    return simulated(
        trained_from_tensors(one.precision, one.text, one.tensors, found.config, found.preprocess)
    )


def pixels_of(photos: Path, weights: Path) -> np.ndarray:
    spec = load_model(str(weights)).preprocess
    return np.concatenate([load_pixels(one, spec) for one in sorted(photos.rglob("*.png"))])


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_the_float_model_stays_and_the_integers_lie_beside_it(
    precision: str, runs: Path, photos: Path, cats_and_dogs: Path
) -> None:
    path = runs / precision / "model.safetensors"
    before, after = load_file(cats_and_dogs), load_file(path)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert {name for name in after if name not in before} == {
        name for name in after if name.startswith("trained.")
    }
    found = load_model(str(path))
    assert found.trained is not None
    assert found.trained.precision == precision
    assert (found.labels, found.assumptions) == (LABELS, ())
    said = json.loads((runs / precision / "accuracy.json").read_text())
    labelled = list(match_labels(list_photos(photos), LABELS).photos)
    form = computes(path)
    assert measure(form, labelled, found.preprocess).top1 == said["top1"] == said["test_top1"]  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_an_interrupted_training_goes_on_to_the_same_integers(
    precision: str, runs: Path, photos: Path, cats_and_dogs: Path, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    class Stops(Silent):
        def note(self, line: str) -> None:
            if line.startswith("epoch 1"):
                raise Stopped

    run = tmp_path / "run"
    with pytest.raises(Stopped):
        learn(photos, run, cats_and_dogs, quantize=precision, test=photos, progress=Stops())
    learn(photos, run, cats_and_dogs, quantize=precision, test=photos, resume=True)
    one, other = (load_file(p / "last.safetensors") for p in (run, runs / precision))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], value) for name, value in other.items())
    other_one = "int4" if precision == "int8" else "int8"
    with pytest.raises(EdgeDeitError, match="quantize"):
        learn(photos, run, cats_and_dogs, quantize=other_one, test=photos, resume=True)


def exported(
    weights: Path, output: Path, target: str, precision: str, **more: object
) -> ExportResult:
    return export_model(
        str(weights),
        targets=[target],
        precisions=[precision],
        output=output,
        **more,  # type: ignore[arg-type, list-item]
    )


def answers(path: Path, pixels: np.ndarray) -> np.ndarray:
    """A file's logits for pixels (N, 3, H, W)."""
    with open_runner(read_artefact(path), 1) as runner:
        return np.concatenate([runner(photo[None]) for photo in pixels])


def snr_db(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(10 * np.log10((wanted**2).sum() / ((found - wanted) ** 2).sum()))


@pytest.mark.parametrize(
    ("target", "precision"),
    [("onnx", "int8"), ("tflite", "int8"), ("tflite", "int4"), ("onnx", "int4")],
)
def test_files_compute_what_was_trained(
    target: str, precision: str, runs: Path, photos: Path, tmp_path: Path
) -> None:
    """Without calibration photos, and nearer to the trained integers than those are to the float model."""
    weights = runs / precision / "model.safetensors"
    heard = Heard()
    (one,) = exported(weights, tmp_path, target, precision, progress=heard).artefacts
    assert "taken: the integers that were trained with these weights" in heard.lines
    assert one.manifest.scheme["trained"] is True
    assert one.manifest.calibration is None
    pixels = pixels_of(photos, weights)
    found = answers(one.path, pixels)
    with torch.inference_mode():
        trained = computes(weights)(torch.from_numpy(pixels)).numpy()
        plain = load_model(str(weights)).model(torch.from_numpy(pixels)).numpy()
    assert snr_db(found, trained) > max(15, snr_db(trained, plain) - 3)
    assert not np.array_equal(found, plain)


def test_float_files_are_those_of_the_float_model(
    runs: Path, cats_and_dogs: Path, tmp_path: Path
) -> None:
    names = []
    for place, weights in (("plain", cats_and_dogs), ("run", runs / "int8" / "model.safetensors")):
        (one,) = exported(weights, tmp_path / place, "onnx", "fp32").artefacts
        assert "trained" not in one.manifest.scheme
        names.append(one.path)
    photo = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    one_file, other = (answers(path, photo) for path in names)
    assert np.array_equal(one_file, other)


@pytest.mark.parametrize(
    ("precision", "settings", "message"),
    [
        ("int8", {"precisions": ["int4"]}, "trained for int8, not for int4"),
        ("int4", {"precisions": ["int8"]}, "trained for int4, not for int8"),
        ("int8", {"precisions": ["int8"], "max_drop": 1.0}, "choose layers"),
        ("int4", {"precisions": ["int4"], "max_size": 1.0}, "choose layers"),
        ("int8", {"precisions": ["int8"], "keep_float": ["head"]}, "--keep-float"),
        ("int8", {"precisions": ["int8-full"]}, "needs photos like those"),
    ],
)
def test_what_would_choose_anew_is_refused(
    precision: str,
    settings: dict[str, object],
    message: str,
    runs: Path,
    photos: Path,
    tmp_path: Path,
) -> None:
    weights = runs / precision / "model.safetensors"
    if "max_drop" in settings or "max_size" in settings:
        settings = {**settings, "calibration": photos}
    with pytest.raises(EdgeDeitError, match=message):
        export_model(str(weights), targets=["tflite"], output=tmp_path / "out", **settings)  # type: ignore[arg-type]
    assert not list(tmp_path.rglob("*.tflite"))


def test_another_size_takes_the_float_model_alone(runs: Path) -> None:
    found = load_model(str(runs / "int8" / "model.safetensors"), image_size=96)
    assert found.trained is None
    assert any("the float model alone" in line for line in found.assumptions)


def test_damaged_integers_are_named(runs: Path, tmp_path: Path) -> None:
    found = load_model(str(runs / "int8" / "model.safetensors"))
    assert found.trained is not None
    tensors = dict(found.trained.tensors)
    tensors["form.head.weight"] = tensors["form.head.weight"][:, :3]
    broken = replace(found.trained, tensors=tensors)
    path = tmp_path / "broken.safetensors"
    save_checkpoint(path, found.model, found.preprocess, found.labels, half=False, trained=broken)
    with pytest.raises(EdgeDeitError, match="trained integers are damaged"):
        exported(path, tmp_path / "out", "onnx", "int8")
    with pytest.raises(EdgeDeitError, match="trained integers are damaged"):
        exported(path, tmp_path / "out", "onnx", "fp32")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--quantize", "int9"), "choose one of: int8, int4"),
        (("--quantize", "int8", "--weights", "none", "--model", "deit_tiny"), "not none"),
        (("--quantize", "int8", "--recipe", "scratch"), "--recipe scratch is not for --quantize"),
        (("--quantize", "int8", "--stochastic-depth", "0.1"), "--stochastic-depth is not for"),
        (("--quantize", "int4", "--layer-decay", "0.7"), "--layer-decay is not for"),
        (("--quantize", "int8", "--distillation", "hard"), "needs two heads"),
        (("--quantize", "int8", "--precision", "bfloat16"), "computes in float32"),
        (("--quantize", "int8", "--weights", "bundled"), "cat"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(
    arguments: tuple[str, ...],
    message: str,
    photos: Path,
    tmp_path: Path,
    command_line: CommandLine,
) -> None:
    result = command_line("finetune", "--data", photos, "--output", tmp_path / "run", *arguments)
    assert result.returncode == 2, result.stderr
    (line,) = [one for one in result.stderr.splitlines() if one.startswith("error")]
    assert message in " ".join(result.stderr.split())
    assert line
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_the_float_model_teaches(photos: Path, cats_and_dogs: Path, tmp_path: Path) -> None:
    """Labels that are wrong on purpose change nothing where the teacher counts alone."""
    upside = tmp_path / "upside"
    for label, other in (("cat", "dog"), ("dog", "cat")):
        (upside / label).mkdir(parents=True)
        for file in (photos / other).iterdir():
            Image.open(file).save(upside / label / file.name)
    answers = []
    for weight in (1.0, 0.0):
        recipe = replace(RECIPE, distillation_weight=weight, epochs=6, learning_rate=1e-3)
        done = learn(
            upside, tmp_path / f"{weight}", cats_and_dogs, recipe=recipe, quantize="int8", val=None
        )
        pixels = torch.from_numpy(pixels_of(photos, done.path))
        with torch.inference_mode():
            wanted = load_model(str(done.path)).model(pixels).softmax(1)
            answers.append(float((computes(done.path)(pixels).softmax(1) - wanted).abs().mean()))
    assert answers[0] < answers[1] / 2
