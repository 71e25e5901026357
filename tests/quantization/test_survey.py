"""What conditioning computes in short ways equals what the long ways give."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from condition_examples import SPEC, grey_photos, outliers
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.model.hooks import watching
from edge_deit.quantization import seen as seeing
from edge_deit.quantization.bias import correct_biases
from edge_deit.quantization.condition import condition
from edge_deit.quantization.cores import Cores
from edge_deit.quantization.fakequant import round_activation
from edge_deit.quantization.histogram import BINS, Histogram
from edge_deit.quantization.narrow import scale_tokens, token_scalable
from edge_deit.quantization.observe import LayerView
from edge_deit.quantization.ranges import STEPS, range_noise
from edge_deit.quantization.rounding import round_weights
from edge_deit.quantization.scheme import LayerRanges
from edge_deit.quantization.seen import look_at
from edge_deit.quantization.survey import survey


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("before_gelu", [False, True])
def test_noise_from_running_sums_is_the_sum_over_all_bins(before_gelu: bool) -> None:
    histogram = Histogram(before_gelu)
    values = 3 * normal(500, 8)
    histogram.add(values, normal(500, 8, seed=1).square(), normal(500, 8, seed=2).square())
    least, greatest = np.array([-9.0, -2.5, 0.0, -0.1]), np.array([9.0, 1.5, 3.0, 0.0])
    centres = histogram.centres
    expected = []
    for low, high in zip(least, greatest, strict=True):
        inside = (centres >= low) & (centres <= high)
        at = F.gelu if before_gelu else torch.clone
        distance = at(centres.clamp(low, high)) - at(centres)
        rounding = (histogram.importance * inside).sum() * ((high - low) / STEPS) ** 2 / 12
        expected.append(float(rounding + 4 * (histogram.cut_importance * distance**2).sum()))
    np.testing.assert_allclose(range_noise(histogram, least, greatest), expected, rtol=1e-9)


def test_histogram_grows_and_loses_nothing() -> None:
    histogram = Histogram()
    shown = [normal(100, 4, seed=i) * scale for i, scale in enumerate((1.0, 0.1, 30.0, 700.0))]
    shown.append(shown[-1].abs())  # one-sided
    for values in shown:
        histogram.add(values, values.square())
    everything = torch.cat(shown).double()
    assert int(histogram.count.sum()) == everything.numel()
    torch.testing.assert_close(
        histogram.importance.sum(), everything.square().sum(), rtol=1e-5, atol=0
    )
    used = (everything.max() - everything.min()) / histogram.step
    assert BINS / 2 - 2 <= used <= BINS
    for share in (0.01, 0.4, 0.99):
        value = everything.quantile(share)
        below = float(histogram.count[histogram.centres < value].sum()) / everything.numel()
        assert below == pytest.approx(share, abs=0.01)


def test_a_tensor_of_zeros_has_a_histogram() -> None:
    histogram = Histogram()
    for _ in range(2):
        histogram.add(torch.zeros(5, 3), torch.ones(5, 3))
    assert int(histogram.count.sum()) == 30
    assert histogram.centres.isfinite().all()


def seen_by(view: LayerView) -> list[tuple[np.ndarray, float, float]]:
    found = []
    for tensor in (view.input, view.output):
        assert tensor.histogram is not None
        moment = (tensor.histogram.importance * tensor.histogram.centres.square()).sum()
        found.append(
            (np.asarray(tensor.extremes), float(tensor.histogram.importance.sum()), float(moment))
        )
    return found


def test_token_scales_are_seen_without_being_there() -> None:
    form, photos = outliers(), grey_photos(3)
    scaled = copy.deepcopy(form)
    for name in token_scalable(scaled):
        scale_tokens(scaled, name)
    derived, there = survey(form, photos), survey(scaled, photos)
    assert derived.power == pytest.approx(there.power, rel=1e-4)
    for name in token_scalable(form):
        actual = seen_by(derived.scaled[name])
        for one, other in zip(actual, seen_by(there.plain[name]), strict=True):
            np.testing.assert_allclose(one[0], other[0], rtol=1e-3, atol=1e-4)
            assert one[1:] == pytest.approx(other[1:], rel=0.01)
        first, second = derived.plain[name].moments, there.plain[name].moments
        assert first is not None
        assert second is not None
        assert derived.plain[name].damping == pytest.approx(there.plain[name].damping, rel=0.01)
        scale = first.abs().max()
        torch.testing.assert_close(first / scale, second / scale, rtol=1e-3, atol=1e-3)


def test_layers_that_read_one_tensor_share_its_view() -> None:
    found = survey(outliers(), grey_photos(2)).plain
    first = found["blocks.0.attn.q"].input
    assert found["blocks.0.attn.k"].input is first
    assert found["blocks.0.attn.v"].input is first
    assert found["blocks.0.attn.proj"].input is not first
    assert found["blocks.1.attn.q"].input is not first
    assert len(first.extremes) == 2


def test_a_survey_changes_nothing() -> None:
    form = outliers()
    before = copy.deepcopy(form.state_dict())
    survey(form, grey_photos(2))
    assert all(torch.equal(value, before[name]) for name, value in form.state_dict().items())
    assert all(one.grad is None for one in form.parameters())


def test_corrected_biases_leave_no_mean_error() -> None:
    found = condition(outliers(), grey_photos(3), SPEC)
    exact, photos = found.unrounded, grey_photos(4, seed=5)
    rounded = copy.deepcopy(exact)
    layers = {name: exact.get_submodule(name) for name in quantizable_layers(exact)}
    with torch.no_grad():
        for name in layers:
            weight = rounded.get_submodule(name).get_parameter("weight")
            weight.copy_(round_weights(weight, None))
    before = mean_errors(exact, rounded, found.ranges, photos)
    correct_biases(exact, rounded, found.ranges, photos)
    after = mean_errors(exact, rounded, found.ranges, photos)
    for name in layers:
        assert after[name].abs().max() < 1e-5 + 1e-3 * before[name].abs().max(), name


def mean_errors(
    exact: DeployDeiT,
    rounded: DeployDeiT,
    ranges: dict[str, LayerRanges],
    photos: Iterable[Tensor],
) -> dict[str, Tensor]:
    """The mean error of each output channel, computed from the outputs themselves."""
    errors: dict[str, list[Tensor]] = {}

    def look(name: str, layer: nn.Module, x: Tensor, y: Tensor) -> None:
        error = rounded.get_submodule(name)(round_activation(x, ranges[name].input)) - y
        others = (2, 3) if isinstance(layer, nn.Conv2d) else 1
        errors.setdefault(name, []).append(error.mean(others)[0])

    layers = {name: exact.get_submodule(name) for name in quantizable_layers(exact)}
    with watching(layers, look), torch.inference_mode():
        for photo in photos:
            exact(photo)
    return {name: torch.stack(found).mean(0) for name, found in errors.items()}


def test_photos_that_go_through_together_are_seen_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each photo's rows, importance and extremes are what they are when it goes through alone."""
    form, photos = outliers(), list(grey_photos(5))
    found = {}
    for most in (1, 2):
        monkeypatch.setattr(seeing, "_MOST_PHOTOS", most)
        found[most] = list(look_at(form, photos, quantizable_layers(form)))
    assert len(found[1]) == len(found[2]) == 5
    for (alone, one), (together, other) in zip(found[1], found[2], strict=True):
        torch.testing.assert_close(together, alone)
        for name, layer in one.items():
            same = other[name]
            torch.testing.assert_close(same.input, layer.input, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(same.output, layer.output, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(
                same.output_importance, layer.output_importance, rtol=1e-2, atol=1e-6
            )
        assert one["blocks.0.attn.q"].input is one["blocks.0.attn.k"].input
        assert other["blocks.0.attn.q"].input is other["blocks.0.attn.k"].input


def test_the_number_of_cores_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, biases and ranges are the same to the bit on one core and on four."""
    photos = grey_photos(6)
    found = {}
    for count in (1, 4):
        monkeypatch.setattr(Cores.__init__, "__defaults__", (count,))
        found[count] = condition(outliers(), photos, SPEC)
    assert found[1].ranges == found[4].ranges
    for name, value in found[1].form.state_dict().items():
        assert torch.equal(value, found[4].form.state_dict()[name]), name
    for name, layer in found[1].paired.items():
        assert torch.equal(layer.integers, found[4].paired[name].integers)
        assert torch.equal(layer.bias, found[4].paired[name].bias)
