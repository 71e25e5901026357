"""Which layers half precision holds, and a form of two precisions."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from condition_examples import grey_photos
from conftest import TINY, random_model
from edge_deit.model.deploy import deploy
from edge_deit.model.form import DeployDeiT
from edge_deit.model.mixed import MODEL, MixedForm
from edge_deit.quantization.half import beyond_half

NORMS = ["blocks.0.norm1", "blocks.0.norm2", "blocks.1.norm1", "blocks.1.norm2", "norm"]


def photos(count: int) -> list[tuple[Tensor, ...]]:
    return [(photo,) for photo in grey_photos(count)]


def form() -> DeployDeiT:
    """All tokens of it are large enough for half precision's norms."""
    made = deploy(random_model(TINY))
    with torch.no_grad():
        made.token_table.copy_(torch.randn_like(made.token_table))
    return made


def stream_times(factor: float) -> Callable[[DeployDeiT], None]:
    def change(made: DeployDeiT) -> None:
        for tensor in (made.patch_embed.weight, made.patch_embed.bias, made.token_table):
            assert tensor is not None
            tensor.mul_(factor)

    return change


def layer_times(name: str, factor: float) -> Callable[[DeployDeiT], None]:
    def change(made: DeployDeiT) -> None:
        for tensor in made.get_submodule(name).parameters():
            tensor.mul_(factor)

    return change


def changed(change: Callable[[DeployDeiT], object]) -> DeployDeiT:
    made = form()
    with torch.no_grad():
        change(made)
    return made


def test_a_plain_model_fits() -> None:
    assert beyond_half(form(), photos(3)) == {}


@pytest.mark.parametrize(
    ("change", "layers", "reason"),
    [
        (stream_times(1e3), NORMS, "values reach"),
        (stream_times(1e-2), NORMS[:1], "dB"),
        (layer_times("blocks.0.attn.q", 1e6), ["blocks.0.attn.q", "blocks.0.attn"], "values reach"),
        (layer_times("blocks.0.attn.v", 1e-5), ["blocks.0.attn.v", "blocks.0.attn"], "dB"),
        (layer_times("head", 1e-6), ["head"], "dB"),
    ],
)
def test_what_does_not_fit_is_named(
    change: Callable[[DeployDeiT], None], layers: list[str], reason: str
) -> None:
    found = beyond_half(changed(change), photos(3))
    assert set(layers) <= set(found), found
    assert all(reason in found[name] for name in layers)


def test_sums_count_on_the_way_to_a_small_result() -> None:
    """Two products of 50000 that cancel."""
    made = form()
    with torch.no_grad():
        for weight in (made.head.weight, made.head.bias):
            weight.zero_()
        made.head.weight[:, 0], made.head.weight[:, 1] = 4e4, -4e4
    assert "head" in beyond_half(made, photos(1))


def test_of_integer_layers_only_results_count() -> None:
    made = changed(layer_times("head", 1e-6))
    assert "head" in beyond_half(made, photos(2))
    assert "head" not in beyond_half(made, photos(2), integer=["head"])
    large = changed(layer_times("head", 1e6))
    assert "values reach" in beyond_half(large, photos(2), integer=["head"])["head"]


def test_looking_changes_nothing() -> None:
    made, (photo,) = form(), photos(1)
    before = made(*photo)
    beyond_half(made, [photo])
    assert torch.equal(made(*photo), before)


@pytest.mark.parametrize(
    "single",
    [
        [],
        NORMS,
        ["blocks.0.attn"],
        ["blocks.0", "blocks.1.mlp.fc1"],
        [MODEL, "head"],
        ["patch_embed"],
    ],
)
def test_a_mixed_form_is_the_same_function(single: list[str]) -> None:
    made, some = form(), photos(3)
    mixed = MixedForm(made, single)
    wide = {
        name.split(".", 1)[1]
        for name, one in mixed.named_parameters()
        if one.dtype == torch.float32
    }
    assert {name for name in single if name not in (MODEL, "blocks.0", "blocks.0.attn")} <= {
        name.removesuffix(".weight").removesuffix(".mean_square") for name in wide
    }
    with torch.no_grad():
        for photo in some:
            expected, found = made(*photo), mixed(*photo)
            assert found.dtype == torch.float32
            assert not torch.equal(found, expected)
            torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


def test_single_precision_keeps_what_half_loses() -> None:
    """Squares of 1e3 leave the range: half gives no finite number, with single norms all is well."""
    made, (photo,) = changed(stream_times(1e3)), photos(1)
    with torch.no_grad():
        expected = made(*photo)
        assert not torch.allclose(MixedForm(made, [])(*photo), expected, atol=0.5)
        found = MixedForm(made, beyond_half(made, [photo]))(*photo)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
    assert copy.deepcopy(made)(*photo).equal(expected)
