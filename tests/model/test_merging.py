"""Token merging in a phone's operators: the same as with sort and scatter, and nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from conftest import TINY, random_model
from edge_deit.model import merging
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deploy import deploy
from edge_deit.model.form import DeployDeiT
from edge_deit.model.merging import TokenMerging, even_schedule, merged_form, most_merged

CONFIGS = {
    "plain": replace(TINY, depth=4, image_size=96),
    "two special tokens": replace(TINY, depth=4, distilled=True, distillation_head=True),
    "an odd number of patches": replace(TINY, depth=4, image_size=112),
}


def _merged(
    x: Tensor, queries: Tensor, keys: Tensor, sizes: Tensor, count: int, config: DeiTConfig
) -> list[Tensor]:
    """With a sort, a gather and a scatter: tokens (N, D) and sizes (N, 1)."""
    front = config.num_prefix_tokens
    metric = keys.view(len(keys), config.num_heads, -1).mean(1)[front:]
    metric = metric / metric.norm(dim=-1, keepdim=True)
    pairs = (len(metric) // 2) * 2
    in_a = torch.zeros(len(metric), dtype=torch.bool)
    in_a[:pairs:2] = True
    best, partner = (metric[in_a] @ metric[~in_a].mT).max(-1)
    split = [
        values.view(len(values), config.num_heads, -1).transpose(0, 1) for values in (queries, keys)
    ]
    attention = (split[0][:, :1] @ split[1].mT).softmax(-1).mean(0)[0]  # the scale is inside q
    best = best - (0.05 * attention * len(x)).clamp(max=1)[front:][in_a]
    order = best.argsort(descending=True)
    found = []
    for values in (x * sizes, sizes):
        a, b = values[front:][in_a], values[front:][~in_a].clone()
        b.index_add_(0, partner[order[:count]], a[order[:count]])
        found.append(torch.cat([values[:front], a[order[count:]], b]))
    return [found[0] / found[1], found[1]]


def _reference(form: DeployDeiT, schedule: Sequence[int], pixels: Tensor) -> Tensor:
    x = form.embed(pixels)
    sizes = torch.ones(x.shape[1], 1)
    for block, count in zip(form.blocks, schedule, strict=True):
        normed = block.norm1(x)
        queries, keys, readers = block.attn.q(normed), block.attn.k(normed), normed
        if block.read_tokens is not None:
            x, readers = x[:, : block.read_tokens], normed[:, : block.read_tokens]
        x = x + block.attn(
            normed, readers, (block.attn.q(readers), keys, sizes.log().view(1, 1, -1))
        )
        if count:
            tokens, sizes = _merged(x[0], queries[0], keys[0], sizes, count, form.config)
            x = tokens[None]
        x = x + block.mlp(block.norm2(x))
    return form.read(x)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("flat", [False, True])
def test_the_same_as_with_sort_and_scatter(
    kind: str, flat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "_STEEP", 2.0**24)  # random keys may be alike to five digits
    form, schedule = deploy(random_model(CONFIGS[kind])), (3, 2, 2, 0)
    pixels = torch.randn(1, 3, form.config.image_size, form.config.image_size)
    made = merged_form(form, schedule)
    with torch.inference_mode():
        expected = _reference(form, schedule, pixels)
        made.flat_stream = flat
        torch.testing.assert_close(made(pixels), expected, rtol=1e-3, atol=1e-3)
        made.flat_stream = False
        assert (expected - form(pixels)).abs().max() > 1e-3  # it merged something


def test_nothing_merged_is_the_form_itself() -> None:
    form = deploy(random_model(TINY))
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(merged_form(form, (0, 0))(pixels), form(pixels))


@pytest.mark.parametrize("alike", [False, True])
def test_what_tokens_stand_for_is_kept(alike: bool) -> None:
    """Weighted sums over all tokens stay; where all tokens are the same, ranks have ties only."""
    one = TokenMerging(tokens=30, prefix=1, merged=9, heads=2, head_dim=8)
    queries = torch.randn(1, 30, 16)
    x, keys = torch.randn(1, 30, 4), torch.randn(1, 1 if alike else 30, 16).expand(1, 30, 16)
    sizes = torch.randint(1, 5, (1, 30, 1)).float()
    for before in (None, sizes):
        tokens, after = one(x, queries, keys, before)
        weight = torch.ones(1, 30, 1) if before is None else before
        assert tokens.shape == (1, 21, 4)
        assert torch.equal(tokens[:, 0], x[:, 0])
        torch.testing.assert_close(
            (tokens * after).sum(1), (x * weight).sum(1), rtol=1e-4, atol=1e-4
        )
        assert float(after.sum()) == pytest.approx(float(weight.sum()), rel=1e-5)


def test_schedule() -> None:
    assert even_schedule(DeiTConfig(), 79) == (0, 0, 0, 0, 27, 0, 26, 0, 26, 0, 0, 0)
    for depth in (2, 3, 5, 24):
        config = replace(TINY, depth=depth)
        schedule = even_schedule(config, most_merged(config))
        assert sum(schedule) == most_merged(config) == 7
        assert len(schedule) == depth
        assert schedule[-1] == 0
    assert most_merged(replace(TINY, depth=1)) == 0
