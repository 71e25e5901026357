"""Conditioning keeps the function, and makes integer models better than plain rounding does."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from torch import Tensor

from condition_examples import SPEC, grey_photos, outliers
from conftest import TINY, random_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.metrics.outputs import closeness
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deploy import deploy
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.quantization.condition import (
    Conditioned,
    condition,
    condition_without_photos,
    passes,
)
from edge_deit.quantization.fakequant import fake_quantize, round_activation
from edge_deit.quantization.histogram import Histogram
from edge_deit.quantization.narrow import (
    scale_tokens,
    split_coarse,
    token_scalable,
    token_scaled,
    use_grey_levels,
)
from edge_deit.quantization.observe import TensorView
from edge_deit.quantization.ranges import choose_range
from edge_deit.quantization.rotate import rotate
from edge_deit.quantization.rounding import GREATEST, int8_scale, round_weights
from exporter_models import ranges_of
from model_examples import configs


@pytest.fixture(scope="module")
def conditioned() -> Conditioned:
    return condition(outliers(), grey_photos(8), SPEC)


@given(config=configs())
def test_rotation_and_reshaping_keep_the_function(config: DeiTConfig) -> None:
    form = deploy(random_model(config))
    pixels = torch.randn(1, 3, config.image_size, config.image_size)
    changed = deploy(random_model(config))
    use_grey_levels(changed, SPEC)
    split_coarse(changed)
    changed = rotate(changed, seed=3)
    for name in token_scalable(changed):
        scale_tokens(changed, name)
    with torch.inference_mode():
        torch.testing.assert_close(changed(pixels), form(pixels), rtol=1e-3, atol=1e-3)


def test_rotation_spreads_outliers() -> None:
    form = outliers()
    photo = grey_photos(1).pixels

    def crest(model: DeployDeiT) -> float:
        seen: list[Tensor] = []
        handle = model.blocks[1].mlp.fc1.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
        with torch.inference_mode():
            model(photo)
        handle.remove()
        return float(seen[0].abs().max() / seen[0].square().mean().sqrt())

    assert crest(rotate(form)) < 0.75 * crest(form)


def test_grey_levels_are_held_exactly() -> None:
    form = deploy(random_model(TINY))
    use_grey_levels(form, SPEC)
    assert form.grey_levels is not None
    levels = form.grey_levels(grey_photos(1).pixels)
    rounded = round_activation(levels, (0.0, 1.0))
    torch.testing.assert_close(rounded, levels, rtol=0, atol=1e-6)


def test_fine_part_ignores_what_is_constant_over_squares() -> None:
    form = deploy(random_model(TINY))
    split_coarse(form)
    coarse = torch.randn(1, 3, 16, 16).repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert form.patch_embed.bias is not None
    fine = form.patch_embed(coarse) - form.patch_embed.bias[:, None, None]
    assert fine.abs().max() < 1e-4


def test_conditioned_form_equals_the_float_model(conditioned: Conditioned) -> None:
    photos = grey_photos(4, seed=1)
    form = outliers()
    with torch.inference_mode():
        for photo in photos:
            torch.testing.assert_close(
                conditioned.unrounded(photo), form(photo), rtol=1e-3, atol=1e-3
            )


@pytest.mark.parametrize("outputs", [False, True])
def test_better_than_plain_rounding_on_other_photos(
    outputs: bool, conditioned: Conditioned
) -> None:
    form, photos = outliers(), grey_photos(8, seed=1)
    layers = quantizable_layers(form)
    plain = fake_quantize(form, layers, ranges_of(form, grey_photos(8).pixels), outputs=outputs)
    ours = fake_quantize(conditioned.form, layers, conditioned.ranges, outputs=outputs)
    with torch.inference_mode():
        results = [torch.cat([model(p) for p in photos]).numpy() for model in (form, plain, ours)]
    snr = [closeness(results[0], other, classes=True).snr_db for other in results[1:]]
    assert snr[1] > snr[0] + 3


def test_kept_layers_are_not_rounded(conditioned: Conditioned) -> None:
    model = conditioned.with_layers(["blocks.0.attn.q"])
    for name in quantizable_layers(model):
        same = torch.equal(
            model.get_submodule(name).get_parameter("weight"),
            conditioned.unrounded.get_submodule(name).get_parameter("weight"),
        )
        assert same == (name != "blocks.0.attn.q")


def test_token_scales_stay_where_they_are_of_use(conditioned: Conditioned) -> None:
    names = ("blocks.0.attn.proj", "blocks.0.mlp.fc2", "blocks.1.mlp.fc2")
    scaled = copy.deepcopy(conditioned.unrounded)
    for name in names:
        scale_tokens(scaled, name)
    found = replace(conditioned, form=scaled, unrounded=scaled, token_scaled=names)
    layers = quantizable_layers(scaled)
    assert token_scaled(found.with_layers(layers)) == list(names)
    assert token_scaled(found.with_layers(layers, names[:1])) == list(names)
    assert token_scaled(found.with_layers(layers, names[:1], token_ranges=True)) == list(names[1:])
    finer = found.with_layers([name for name in layers if name != names[2]], names[:1])
    assert token_scaled(finer) == list(names[:2])
    photo = grey_photos(1, seed=1).pixels
    with torch.inference_mode():
        torch.testing.assert_close(finer(photo), scaled(photo), rtol=1e-4, atol=1e-4)


def test_weights_are_on_the_grid_that_backends_find(conditioned: Conditioned) -> None:
    for name in quantizable_layers(conditioned.form):
        weight = conditioned.form.get_submodule(name).get_parameter("weight").detach().flatten(1)
        steps = weight / int8_scale(weight)[:, None]
        assert (steps - steps.round()).abs().max() < 1e-3
        assert (steps.abs().amax(1) - GREATEST).abs().max() < 1e-3


def test_carried_rounding_beats_nearest_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(48, 48, generator=generator)
    x = torch.randn(500, 48, generator=generator) @ mix  # correlated channels
    weight = torch.randn(32, 48, generator=generator)
    error = [
        (x @ (round_weights(weight, moments) - weight).T).square().sum()
        for moments in (None, x.T @ x)
    ]
    assert error[1] < 0.5 * error[0]


def test_range_cuts_rare_values_only_where_they_do_not_matter() -> None:
    values = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0))
    values[0, 0] = 60.0
    importance = torch.ones_like(values)
    importance[0, 0] = 0.0

    def chosen(weights: Tensor) -> tuple[float, float]:
        view = TensorView(histogram=Histogram())
        view.add(values, weights)
        return choose_range(view).range

    assert chosen(importance)[1] < 20
    importance[0, 0] = 100.0
    assert chosen(importance)[1] > 55


def test_equal_photos_give_equal_results() -> None:
    first, second = (condition(outliers(), grey_photos(3), SPEC) for _ in range(2))
    assert first.ranges == second.ranges
    for name, value in first.form.state_dict().items():
        assert torch.equal(value, second.form.state_dict()[name])


def test_progress_is_counted(conditioned: Conditioned) -> None:
    for count in (1, 3):
        calls: list[None] = []
        condition(
            outliers(), grey_photos(count), SPEC, on_photo=lambda calls=calls: calls.append(None)
        )
        assert len(calls) == passes(count)


def test_without_photos_weights_are_on_the_grid_and_tokens_unscaled() -> None:
    found = condition_without_photos(outliers(), SPEC)
    assert not found.ranges
    weight = found.form.get_submodule("blocks.0.mlp.fc1").get_parameter("weight").detach()
    steps = weight / int8_scale(weight)[:, None]
    assert (steps - steps.round()).abs().max() < 1e-3


def test_features_are_returned_in_their_own_coordinates() -> None:
    form = outliers(replace(TINY, num_classes=0))
    found = condition(form, grey_photos(3), SPEC)
    photo = grey_photos(1, seed=2).pixels
    with torch.inference_mode():
        torch.testing.assert_close(found.unrounded(photo), form(photo), rtol=1e-3, atol=1e-3)


def test_values_that_are_not_finite_are_refused() -> None:
    form = outliers()
    photos = grey_photos(2)
    photos.pixels[1] = torch.nan
    with pytest.raises(EdgeDeitError, match="not finite"):
        condition(form, photos, SPEC)
