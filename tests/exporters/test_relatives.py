"""Relatives of DeiT through every target but Core AI, which has them in its own test file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import save_file

from conftest import TINY, random_model
from edge_deit.artefacts.manifest import read_manifest
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.conversion.run import export_model
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.exporters import TARGETS
from edge_deit.exporters.tflite.integer_form import IntegerDeiT
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deploy import deploy
from edge_deit.quantization.narrow import (
    scale_tokens,
    split_coarse,
    token_scalable,
    use_grey_levels,
)
from model_examples import configs

SPEC = PreprocessSpec(resize_size=72, crop_size=64)
LAYERS = 6 * TINY.depth + 1  # of the blocks, and the patch embedding


@settings(max_examples=20, deadline=None, derandomize=True)
@given(config=configs())
def test_integer_form_is_the_float_model(config: DeiTConfig) -> None:
    """With registers, LayerScale and any patch size, and what conditioning adds folded back."""
    model = random_model(config)
    form = deploy(model)
    use_grey_levels(form, SPEC)
    split_coarse(form)
    for name in token_scalable(form):
        scale_tokens(form, name)
    pixels = torch.randn(1, 3, config.image_size, config.image_size)
    with torch.inference_mode():
        expected = model(pixels)
        torch.testing.assert_close(IntegerDeiT(form)(pixels), expected, rtol=1e-3, atol=1e-3)


def deit3(folder: Path) -> Path:
    """The original release's file: LayerScale as gamma_1 and gamma_2, no position for the class token."""
    state = random_model(replace(TINY, num_heads=1, layer_scale=True)).state_dict()
    state = {
        key.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): value
        for key, value in state.items()
    }
    state["pos_embed"] = state["pos_embed"][:, 1:].contiguous()
    save_file(state, folder / "deit3.safetensors")
    return folder / "deit3.safetensors"


def dinov2(folder: Path) -> Path:
    """Our own file of a DINOv2 with registers: 14-pixel patches, no classifier."""
    config = replace(
        TINY,
        image_size=56,
        patch_size=14,
        num_classes=0,
        layer_scale=True,
        register_tokens=4,
        family="dinov2",
    )
    path = folder / "dinov2.safetensors"
    spec = PreprocessSpec(resize_size=64, crop_size=56)
    save_checkpoint(path, random_model(config), spec, (), half=False)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "name", "shape", "layers"),
    [
        (deit3, "deit3_d64_l2_h1_64", [1, 10], LAYERS + 1),
        (dinov2, "dinov2_d64_l2_h2_56_registers", [1, 1 + 4 + 16, 64], LAYERS),
    ],
)
def test_all_targets(
    make: Callable[[Path], Path],
    name: str,
    shape: list[int],
    layers: int,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(TARGETS, "coreai")  # test_coreai.py has such a model
    export_model(
        str(make(tmp_path)),
        precisions=["fp32", "int8", "int8-full"],
        calibration=photos,
        output=tmp_path / "out",
    )
    seen = []
    for path in sorted((tmp_path / "out").iterdir()):
        if path.suffix == ".json":
            continue
        manifest = read_manifest(path)
        seen.append((manifest.target, manifest.precision))
        assert manifest.model == name
        assert manifest.output["shape"] == shape
        config = json.loads(json.dumps(manifest.config))
        assert (config["layer_scale"], config["family"]) == (True, name.split("_")[0])
        if manifest.precision == "fp32":
            assert manifest.parity["max_abs"] < 1e-4
        else:
            assert manifest.parity["cosine"] > 0.99
            assert len(manifest.scheme["layers"]) == layers
    expected = [(target, kind) for target in TARGETS for kind in ("fp32", "int8")]
    assert sorted(seen) == sorted([*expected, ("tflite", "int8-full")])
