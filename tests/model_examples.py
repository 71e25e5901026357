"""Configurations of every shape that the deployment form must hold for."""

from __future__ import annotations

from hypothesis import strategies as st

from edge_deit.model.config import DeiTConfig

__all__ = ["configs"]


@st.composite
def configs(draw: st.DrawFn) -> DeiTConfig:
    """Small configurations: any patch, head, token, bias, scale and epsilon that a checkpoint may have."""
    heads = draw(st.integers(1, 4))
    classes = draw(st.sampled_from([0, 1, 2, 10, 37]))
    distilled = draw(st.booleans())
    patch = draw(st.sampled_from([4, 7, 8, 14, 16]))
    return DeiTConfig(
        image_size=patch * draw(st.integers(1, 5)),
        patch_size=patch,
        embed_dim=heads * draw(st.sampled_from([8, 16, 32])),
        depth=draw(st.integers(1, 4)),
        num_heads=heads,
        mlp_dim=draw(st.sampled_from([16, 48, 96])),
        num_classes=classes,
        distilled=distilled,
        distillation_head=bool(distilled and classes and draw(st.booleans())),
        qkv_bias=draw(st.booleans()),
        layer_norm_eps=draw(st.sampled_from([1e-12, 1e-6, 1e-5])),
        layer_scale=draw(st.booleans()),
        register_tokens=draw(st.sampled_from([0, 0, 1, 4])),
    )
