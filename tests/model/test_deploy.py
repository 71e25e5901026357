"""The deployment form equals the float model, whatever its shape."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from conftest import TINY, random_model
from edge_deit.checkpoint.load import load_model
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import load_pixels
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deploy import deploy
from edge_deit.model.form import quantizable_layers
from model_examples import configs


@given(config=configs(), seed=st.integers(0, 1000))
def test_equal_to_the_float_model(config: DeiTConfig, seed: int) -> None:
    model = random_model(config, seed)
    pixels = torch.randn(1, 3, config.image_size, config.image_size)
    with torch.inference_mode():
        torch.testing.assert_close(deploy(model)(pixels), model(pixels), rtol=1e-4, atol=1e-4)


@given(config=configs(), seed=st.integers(0, 1000))
def test_tokens_without_a_position(config: DeiTConfig, seed: int) -> None:
    """Their row of the token table is the token alone, but for its mean."""
    model, count = random_model(config, seed), config.num_prefix_tokens
    with torch.no_grad():
        model.pos_embed[:, :count] = 0
    tokens = model.prefix()
    expected = tokens - tokens.mean(dim=-1, keepdim=True)
    torch.testing.assert_close(deploy(model).token_table[:, :count], expected)
    pixels = torch.randn(1, 3, config.image_size, config.image_size)
    with torch.inference_mode():
        torch.testing.assert_close(deploy(model)(pixels), model(pixels), rtol=1e-4, atol=1e-4)


def test_equal_on_real_photos(real: Path) -> None:
    checkpoint = load_model(str(real / "deit_tiny_patch16_224" / "model.safetensors"))
    form = deploy(checkpoint.model)
    for photo in list_photos(real / "imagenet400", "validation").photos[:10]:
        pixels = torch.from_numpy(load_pixels(photo.path, checkpoint.preprocess))
        with torch.inference_mode():
            difference = (form(pixels) - checkpoint.model(pixels)).abs().max()
        assert difference <= 1e-3


def test_argument_is_not_changed() -> None:
    model = random_model(TINY)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    deploy(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_residual_stream_has_mean_zero() -> None:
    form = deploy(random_model(TINY))
    seen: list[torch.Tensor] = []
    for block in form.blocks:
        block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    form(torch.randn(1, 3, 64, 64))
    assert len(seen) == TINY.depth
    assert all(tokens.mean(dim=-1).abs().max() < 1e-5 for tokens in seen)


def test_norms_are_not_among_the_layers_to_quantize() -> None:
    form = deploy(random_model(TINY))
    layers = quantizable_layers(form)
    assert layers[0] == "patch_embed"
    assert layers[-1] == "head"
    assert len(layers) == 2 + 6 * TINY.depth
    assert not any("norm" in name for name in layers)


def test_no_tensor_has_more_than_four_dimensions() -> None:
    form = deploy(random_model(TINY))
    program = torch.export.export(form, (torch.randn(1, 3, 64, 64),))
    ranks = [n.meta["val"].dim() for n in program.graph.nodes if "val" in n.meta]
    assert max(ranks) == 4


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.MultiheadAttention])
def test_no_module_that_backends_split_is_left(kind: type[nn.Module]) -> None:
    assert not any(isinstance(module, kind) for module in deploy(random_model(TINY)).modules())
