"""A checkpoint as a folder for Hugging Face's tools: transformers computes the same, and it comes back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import TINY, random_model
from edge_deit.checkpoint.huggingface_folder import processor_json, rounding_matters, store_folder
from edge_deit.checkpoint.load import Checkpoint, load_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import PreprocessSpec, preprocess
from edge_deit.model.config import DeiTConfig

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

CONFIGS = {
    "ViTForImageClassification": TINY,
    "DeiTForImageClassification": replace(TINY, distilled=True),
    "DeiTForImageClassificationWithTeacher": replace(TINY, distilled=True, distillation_head=True),
}
LABELS = tuple(f"class {index}" for index in range(10))
FLOOR = PreprocessSpec(resize_size=72, crop_size=64, crop_rounding="floor")


def checkpoint_of(config: DeiTConfig, spec: PreprocessSpec = FLOOR) -> Checkpoint:
    labels = LABELS if config.num_classes else ()
    return Checkpoint(random_model(config), config, spec, labels, "mine.pth", "0" * 64, "deit_tiny")


def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("architecture", CONFIGS)
def test_transformers_computes_the_same(tmp_path: Path, architecture: str) -> None:
    """The class that config.json names, with every weight found and none left over."""
    checkpoint = checkpoint_of(CONFIGS[architecture])
    store_folder(checkpoint, tmp_path)
    kind = getattr(transformers, architecture)
    model, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.inference_mode():
        found = model.eval()(pixels()).logits
        wanted = checkpoint.model(pixels())
    assert torch.allclose(found, wanted, atol=1e-4, rtol=1e-4)
    assert model.config.architectures == [architecture]
    assert model.config.id2label == dict(enumerate(LABELS))


@pytest.mark.parametrize("config", [*CONFIGS.values(), replace(TINY, qkv_bias=False)])
def test_the_folder_comes_back_as_it_was(tmp_path: Path, config: DeiTConfig) -> None:
    checkpoint = checkpoint_of(config)
    stored = store_folder(checkpoint, tmp_path)
    again = load_model(str(tmp_path))
    assert again.config == replace(config, family=again.config.family)
    assert stored.config == config
    assert (again.preprocess, again.labels) == (FLOOR, LABELS)
    assert again.sha256 == stored.sha256
    for name, value in checkpoint.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name
    assert stored.assumptions == ()


def test_layer_scale_is_folded(tmp_path: Path) -> None:
    config = replace(TINY, layer_scale=True, family="deit3")
    checkpoint = checkpoint_of(config)
    stored = store_folder(checkpoint, tmp_path)
    assert not stored.config.layer_scale
    with torch.inference_mode():
        found, wanted = stored.model(pixels()), checkpoint.model(pixels())
    assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize(
    "spec",
    [
        FLOOR,
        replace(FLOOR, resize="exact", resize_size=64),
        replace(FLOOR, resize="exact", resize_size=75, resample="bilinear", mean=(0.5, 0.4, 0.3)),
        replace(FLOOR, resize="none", resize_size=64),
        replace(FLOOR, resample="lanczos", std=(0.1, 0.2, 0.3)),
    ],
)
def test_transformers_makes_the_same_pixels(tmp_path: Path, spec: PreprocessSpec) -> None:
    """Of photos wide, high and odd."""
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor_json(spec)))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    generator = np.random.default_rng(0)
    for width, height in ((90, 70), (71, 133), (80, 80)):
        photo = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        found = np.asarray(processor(photo, return_tensors="np")["pixel_values"])
        assert np.abs(found - preprocess(photo, spec)).max() <= 1e-5


def test_a_crop_rounded_to_even_is_said(tmp_path: Path) -> None:
    even = replace(FLOOR, crop_rounding="half-even")
    assert rounding_matters(even)
    assert not rounding_matters(replace(even, resize="exact", resize_size=64))
    assert rounding_matters(replace(even, resize="exact", resize_size=67))
    stored = store_folder(checkpoint_of(TINY, even), tmp_path)
    assert stored.preprocess == FLOOR
    assert any("rounded down" in line for line in stored.assumptions)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(TINY, num_classes=0), "for classifiers"),
        (replace(TINY, register_tokens=4, layer_scale=True), "register tokens"),
    ],
)
def test_models_that_transformers_lacks_are_refused(
    tmp_path: Path, config: DeiTConfig, message: str
) -> None:
    with pytest.raises(EdgeDeitError, match=message):
        store_folder(checkpoint_of(config), tmp_path)
    assert not list(tmp_path.iterdir())
