"""The float model: published sizes, shapes, positions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from conftest import TINY, random_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.config import VARIANTS, DeiTConfig, variant
from edge_deit.model.deit import DeiT, interpolate_positions

PUBLISHED_PARAMETERS = {
    "deit_tiny": 5_717_416,
    "deit_tiny_distilled": 5_910_800,
    "deit_small": 22_050_664,
    "deit_small_distilled": 22_436_432,
    "deit_base": 86_567_656,
    "deit_base_distilled": 87_338_192,
    "deit_base_384": 86_859_496,
    "deit_base_384_distilled": 87_630_032,
}


@pytest.mark.parametrize("name", VARIANTS)
def test_parameter_count_is_the_published_one(name: str) -> None:
    with torch.device("meta"):
        model = DeiT(variant(name))
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED_PARAMETERS[name]


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
    ],
)
def test_impossible_configurations_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(EdgeDeitError, match=message):
        DeiTConfig(**change)  # type: ignore[arg-type]


def test_unknown_variant_lists_the_known() -> None:
    with pytest.raises(EdgeDeitError, match="deit_tiny_distilled"):
        variant("deit_huge")
