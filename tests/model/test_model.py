"""The float model: published sizes, shapes, positions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from conftest import TINY, random_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.config import VARIANTS, DeiTConfig, variant
from edge_deit.model.deit import DeiT, interpolate_positions

pytestmark = pytest.mark.newest

PUBLISHED_PARAMETERS = {  # millions, as timm's tables have them
    "deit_tiny": 5.717416,
    "deit_tiny_distilled": 5.910800,
    "deit_small": 22.050664,
    "deit_small_distilled": 22.436432,
    "deit_base": 86.567656,
    "deit_base_distilled": 87.338192,
    "deit_base_384": 86.859496,
    "deit_base_384_distilled": 87.630032,
    "vit_tiny": 5.72,
    "vit_tiny_384": 5.79,
    "vit_small": 22.05,
    "vit_small_384": 22.20,
    "vit_small_patch32": 22.88,
    "vit_base": 86.57,
    "vit_base_384": 86.86,
    "vit_base_patch8": 86.58,
    "vit_base_patch32": 88.22,
    "vit_large": 304.33,
    "dino_small": 21.67,
    "dino_small_patch8": 21.67,
    "dino_base": 85.80,
    "dino_base_patch8": 85.81,
    "deit3_small": 22.06,
    "deit3_small_384": 22.21,
    "deit3_medium": 38.85,
    "deit3_base": 86.59,
    "deit3_base_384": 86.88,
    "deit3_large": 304.37,
    "deit3_large_384": 304.76,
    "deit3_huge": 632.13,
    "dinov2_small": 22.06,
    "dinov2_small_registers": 22.06,
    "dinov2_base": 86.58,
    "dinov2_base_registers": 86.58,
    "dinov2_large": 304.37,
    "dinov2_large_registers": 304.37,
}


@pytest.mark.parametrize("name", VARIANTS)
def test_parameter_count_is_the_published_one(name: str) -> None:
    row = variant(name)
    with torch.device("meta"):
        model = DeiT(row)
    tokens = 1 if row.family == "deit3" else row.register_tokens  # rows of zeros, which count here
    found = sum(p.numel() for p in model.parameters()) - tokens * row.embed_dim
    exact = name.startswith("deit_")
    assert found / 1e6 == pytest.approx(PUBLISHED_PARAMETERS[name], abs=1e-9 if exact else 0.006)


def test_distilled_logits_are_the_mean_of_both_heads() -> None:
    model = random_model(replace(TINY, distilled=True, distillation_head=True))
    pixels = torch.randn(2, 3, 64, 64)
    cls_logits, dist_logits = model.heads(pixels)
    torch.testing.assert_close(model(pixels), (cls_logits + dist_logits) / 2)
    assert (cls_logits - dist_logits).abs().max() > 0.1


def test_features_are_all_normalised_tokens() -> None:
    model = random_model(TINY.without_head())
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, 17, 64)


def test_positions_keep_prefix_and_a_constant_field() -> None:
    positions = torch.cat([torch.randn(1, 2, 8), torch.full((1, 16, 8), 3.0)], dim=1)
    resized = interpolate_positions(positions, 2, 7)
    assert resized.shape == (1, 2 + 49, 8)
    assert torch.equal(resized[:, :2], positions[:, :2])
    torch.testing.assert_close(resized[:, 2:], torch.full((1, 49, 8), 3.0))


def test_layer_scale_multiplies_each_branch() -> None:
    model = random_model(replace(TINY, layer_scale=True))
    plain = random_model(TINY)
    plain.load_state_dict(model.state_dict(), strict=False)
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for block in model.blocks:
            block.ls1.gamma.fill_(1.0)
            block.ls2.gamma.fill_(1.0)
        torch.testing.assert_close(model(pixels), plain(pixels))
        for block in model.blocks:
            block.ls1.gamma.zero_()
            block.ls2.gamma.zero_()
        token = model.norm(model.cls_token[:, 0] + model.pos_embed[:, 0])
        torch.testing.assert_close(model(pixels), model.head(token))


def test_registers_stand_behind_the_class_token() -> None:
    config = replace(TINY.without_head(), register_tokens=2, distilled=True)
    model = random_model(config)
    seen: list[torch.Tensor] = []
    model.blocks[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 4 + 16, 64)
    expected = torch.cat([model.cls_token, model.dist_token, model.reg_token], dim=1)
    torch.testing.assert_close(seen[0][:, :4], expected + model.pos_embed[:, :4])


def test_positions_of_the_same_size_are_untouched() -> None:
    positions = torch.randn(1, 17, 8)
    assert interpolate_positions(positions, 1, 4) is positions


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 100}, "multiple of patch_size"),
        ({"num_heads": 5}, "multiple of num_heads"),
        ({"distillation_head": True}, "distillation token"),
        ({"depth": 0}, "depth"),
        ({"in_channels": 1}, "RGB"),
        ({"layer_norm_eps": 0.0}, "positive"),
        ({"register_tokens": -1}, "register_tokens is -1"),
        ({"family": "swin"}, "family is 'swin'; one of: deit, vit, dino"),
    ],
)
def test_impossible_configurations_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(EdgeDeitError, match=message):
        DeiTConfig(**change)  # type: ignore[arg-type]


def test_unknown_variant_lists_the_known() -> None:
    with pytest.raises(EdgeDeitError, match="deit_tiny_distilled"):
        variant("deit_huge")
