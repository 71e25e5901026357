"""Files that reconstruct masked photos, against transformers' DeiTForMaskedImageModeling."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import CommandLine
from edge_deit.artefacts.artefact import read_artefact
from edge_deit.artefacts.runners import open_runner
from edge_deit.checkpoint.load import load_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.conversion.run import export_model
from edge_deit.exporters import TARGETS, target
from edge_deit.model.deploy import deploy
from shared import once
from weights_examples import randomise

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
transformers = pytest.importorskip("transformers", reason="transformers is the referee")
transformers.utils.logging.disable_progress_bar()

SETTINGS = {
    "image_size": 64,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
}
PATCHES = 16
PIXELS = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
MASKS = torch.stack(
    [
        torch.zeros(PATCHES),
        torch.ones(PATCHES),
        (torch.arange(PATCHES) % 3 == 0).float(),
        (torch.arange(PATCHES) < 5).float(),
    ]
)
FILES = [(name, precision) for name in TARGETS for precision in ("fp32", "fp16")]
FILES.append(("executorch/coreml", "fp16"))  # a target's other backend


def referee(name: str = "DeiTForMaskedImageModeling", **settings: Any) -> Any:
    """transformers' model with every parameter random, the mask token too."""
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    model = randomise(kind(kind.config_class(**SETTINGS | settings)).eval())
    assert any(key.endswith("mask_token") for key in model.state_dict())
    return model


def write(folder: Path, model: Any) -> None:
    """The folder as it lies on the hub."""
    model.save_pretrained(folder)
    processor = {"image_processor_type": "ViTImageProcessor", "size": 64}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


@pytest.fixture(scope="session")
def folder(shared: Path) -> Path:
    return once(shared / "masked-image-folder", lambda made: write(made, referee()))


@pytest.fixture(scope="session")
def masked_file(shared: Path, folder: Path) -> Callable[[str, str], Path]:
    def file(wanted: str, precision: str) -> Path:
        name, _, backend = wanted.partition("/")
        if missing := target(name).missing():
            pytest.skip(f"{', '.join(missing)} not installed")

        def export(made: Path) -> None:
            export_model(
                str(folder),
                targets=[name],
                precisions=[precision],  # type: ignore[list-item]
                backend=backend or None,
                task="masked-image",
                output=made,
                parity_images=3,
            )

        made = once(shared / f"masked_{name}{backend}_{precision}", export)
        (path,) = made.glob(f"*{target(name).suffix}")
        return path

    return file


def expected_of(model: Any, pixels: torch.Tensor, masks: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        found = model(pixels, bool_masked_pos=masks.bool()).reconstruction
    return np.asarray(found.numpy())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("DeiTForMaskedImageModeling", {}),
        ("DeiTForMaskedImageModeling", {"patch_size": 8, "encoder_stride": 8}),
        ("ViTForMaskedImageModeling", {}),
    ],
)
def test_the_model_and_its_form_are_transformers(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    model = referee(name, **settings)
    write(tmp_path, model)
    loaded = load_model(str(tmp_path), task="masked-image")
    assert loaded.config.task == "masked-image"
    masks = torch.rand(4, loaded.config.num_patches, generator=torch.Generator().manual_seed(2))
    masks = (masks > 0.5).float()
    expected = expected_of(model, PIXELS, masks)
    form = deploy(loaded.model)
    with torch.no_grad():
        plain = loaded.model(PIXELS, masks).numpy()
        assert plain.shape == expected.shape
        assert np.abs(plain - expected).max() < 1e-4
        whole = expected_of(model, PIXELS, torch.zeros_like(masks))
        assert np.abs(loaded.model(PIXELS).numpy() - whole).max() < 1e-4
        assert np.abs(whole - expected).max() > 0.1
        for flat in (False, True):
            form.flat_stream = flat
            single = [form(p, m) for p, m in zip(PIXELS.split(1), masks.split(1), strict=True)]
            assert np.abs(torch.cat(single).numpy() - expected).max() < 1e-4


@pytest.mark.parametrize(("name", "precision"), FILES)
def test_files_reconstruct_as_transformers(
    name: str, precision: str, masked_file: Callable[[str, str], Path]
) -> None:
    path = masked_file(name, precision)
    manifest = read_artefact(path).manifest
    assert manifest.task == "masked-image"
    assert manifest.input["name"] == "pixels"
    assert manifest.mask == {"name": "mask", "shape": [1, PATCHES], "dtype": "float32"}
    assert manifest.output["name"] == "reconstruction"
    assert manifest.output["shape"] == [1, 3, 64, 64]
    least = 60 if precision == "fp32" else 40
    assert isinstance(snr := manifest.parity["snr_db"], float)
    assert snr > least
    expected = expected_of(referee(), PIXELS, MASKS)
    with open_runner(path, 1) as runner:
        pairs = zip(PIXELS.numpy(), MASKS.numpy(), strict=True)
        found = np.concatenate([runner(pixels[None], mask[None]) for pixels, mask in pairs])
        with pytest.raises(EdgeDeitError, match=r"takes a mask \(1, 16\) beside the pixels"):
            runner(PIXELS[:1].numpy())
    near = 1e-4 if precision == "fp32" else 0.02 * np.abs(expected).max()
    assert np.abs(found - expected).max() < near


def test_other_programs_see_both_inputs(masked_file: Callable[[str, str], Path]) -> None:
    """ONNX Runtime and LiteRT as a user calls them, without this project's runners."""
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    expected = expected_of(referee(), PIXELS[2:3], MASKS[2:3])
    feed = {"pixels": PIXELS[2:3].numpy(), "mask": MASKS[2:3].numpy()}
    session = onnxruntime.InferenceSession(masked_file("onnx", "fp32"))
    (found,) = session.run(["reconstruction"], feed)
    assert np.abs(found - expected).max() < 1e-4
    lite = Interpreter(model_path=str(masked_file("tflite", "fp32")))
    answer = lite.get_signature_runner()(**feed)["reconstruction"]
    assert np.abs(answer - expected).max() < 1e-4


def test_without_the_option_the_encoder_is_taken(folder: Path) -> None:
    loaded = load_model(str(folder))
    assert loaded.config.task == "features"
    assert "--task masked-image takes the decoder" in " ".join(loaded.assumptions)
    assert not load_model(str(folder), task="features").config.decoder_stride


@pytest.mark.parametrize("command", ["predict", "validate", "golden", "bundle", "arm64"])
def test_commands_that_need_classes_refuse_it(
    command: str,
    masked_file: Callable[[str, str], Path],
    photos: Path,
    command_line: CommandLine,
    tmp_path: Path,
) -> None:
    path = masked_file("tflite", "fp32")
    more: dict[str, list[object]] = {
        "predict": [next(photos.rglob("*.png"))],
        "validate": ["--data", photos, "--output", tmp_path / "report"],
        "golden": ["--output", tmp_path / "golden"],
        "bundle": ["--android", tmp_path / "app"],
        "arm64": ["--output", tmp_path / "arm64"],
    }
    result = command_line(command, path, *more[command])
    assert result.returncode == 2, result.stderr
    assert "reconstructs masked photos and has no classes" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "--task masked-image has no int8: .* give --precision fp32 or fp16"),
        ({"precisions": ["fp32"], "batch": 2}, "one photo and its mask at a time"),
        ({"precisions": ["fp32"], "dynamic_batch": True}, "one photo and its mask at a time"),
        ({"precisions": ["fp32"], "input_kind": "image"}, "leave --input out"),
        ({"precisions": ["fp32"], "returns": "logits"}, "returns neither; leave it out"),
        ({"layout": "huggingface"}, "is for classifiers"),
    ],
)
def test_what_it_cannot_be_is_refused(
    settings: dict[str, Any], message: str, folder: Path, photos: Path, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"targets": ["onnx"], "calibration": photos, **settings}
    with pytest.raises(EdgeDeitError, match=message):
        export_model(str(folder), task="masked-image", output=tmp_path / "out", **asked)
    assert not list(tmp_path.rglob("*.onnx"))


def test_checkpoints_without_a_decoder_are_refused(tiny_weights: Path) -> None:
    with pytest.raises(EdgeDeitError, match="no masked-image decoder; --task masked-image is for"):
        load_model(str(tiny_weights), task="masked-image")


@pytest.mark.parametrize("lost", ["deit.embeddings.mask_token", "decoder.0.bias"])
def test_every_tensor_of_the_decoder_counts(lost: str, folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    state = load_file(weights)
    del state[lost]
    save_file(state, weights)
    with pytest.raises(EdgeDeitError, match="is not a whole"):
        load_model(str(tmp_path), task="masked-image")
