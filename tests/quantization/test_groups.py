"""Weights in groups: their grid, errors carried along both sides, tuned scales, the mix."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from conftest import TINY, random_model
from edge_deit.model.deploy import deploy
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.quantization.groups import group_of, pack_in_groups
from edge_deit.quantization.mix import packed_bytes, weigh_layers, with_weights
from edge_deit.quantization.packed import GroupedWeight
from edge_deit.quantization.reach import Reach, reach_of
from edge_deit.quantization.tuning import tune

SMALL = replace(TINY, depth=2, image_size=32, num_classes=5)


@pytest.fixture(scope="module")
def form() -> DeployDeiT:
    return deploy(random_model(SMALL))


def photos(count: int) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def moments(size: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    x = torch.randn(4 * size, size) * torch.rand(size) + torch.randn(4 * size, 1)
    return x.T @ x


@pytest.mark.parametrize(("width", "bits", "groups"), [(64, 4, 2), (48, 4, 1), (64, 8, 1)])
@pytest.mark.parametrize("scale", [1e-7, 1.0, 100.0])
def test_grid(width: int, bits: int, groups: int, scale: float) -> None:
    torch.manual_seed(0)
    weight = scale * torch.randn(6, width)
    weight[0] = 0
    found = pack_in_groups({"a": weight}, {"a": bits}, {})["a"]
    assert found.scales.shape == (6, groups)
    assert found.group == group_of(width, bits) == width // groups
    most = 2 ** (bits - 1)
    assert found.integers.dtype == torch.int8
    assert found.integers.max() <= most - 1
    assert found.integers.min() >= -most
    for short in (torch.bfloat16, torch.float16):
        assert torch.equal(found.scales.to(short).float(), found.scales), "formats store them so"
    if scale >= 1:
        error = (found.weight() - weight).square().sum() / weight.square().sum()
        assert error < (0.015 if bits == 4 else 1e-4)


def by_hand(weight: Tensor, scales: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Each weight in turn, all that are still to come at their best for the whole quadratic form."""
    damped = [
        side + share * side.diagonal().mean() * torch.eye(len(side), dtype=side.dtype)
        for side, share in ((rows, 1.0), (columns, 0.2))
    ]
    orders = [s.diagonal().argsort(descending=True, stable=True).tolist() for s in (rows, columns)]
    order = [(r, c) for c in orders[1] for r in orders[0]]
    places = torch.tensor([r * weight.shape[1] + c for r, c in order])
    whole = torch.kron(*damped)[places][:, places]
    errors = torch.zeros(len(order), dtype=torch.float64)
    found = torch.zeros_like(weight)
    for index, (row, column) in enumerate(order):
        wanted = weight[row, column]
        if index:
            rest = whole[index:, index:]
            best = -torch.linalg.solve(rest, whole[index:, :index] @ errors[:index])
            wanted = wanted - best[0]
        found[row, column] = (wanted / scales[row, column]).round().clamp(-8, 7)
        errors[index] = weight[row, column] - found[row, column] * scales[row, column]
    return found


def test_errors_are_carried_along_both_sides() -> None:
    rows, columns = moments(6, 1).double(), moments(8, 2).double()
    weights = {name: torch.randn(6, 8, dtype=torch.float64) for name in "ab"}
    reach = {"a": Reach(rows, columns), "b": Reach(rows.flip(0, 1), columns.flip(0, 1))}
    found = pack_in_groups(weights, dict.fromkeys("ab", 4), reach)
    for name, one in found.items():
        scales = one.scales.double().expand(6, 8)
        wanted = by_hand(weights[name], scales, reach[name].rows, reach[name].columns)
        assert torch.equal(one.integers.double(), wanted), name


def test_reach_of_the_head_is_that_of_a_matrix(form: DeployDeiT) -> None:
    """For y = W x the gradient of u y is u x^T: the columns' moments are a multiple of x x^T."""
    before = copy.deepcopy(form.state_dict())
    (photo,) = photos(1).split(1)
    seen: list[Tensor] = []
    handle = form.head.register_forward_hook(lambda m, x, y: seen.append(x[0]))
    form(photo)
    handle.remove()
    found = reach_of(form, [photo], seed=5)
    assert list(found) == quantizable_layers(form)
    for name, one in found.items():
        assert float(one.rows.trace()) == pytest.approx(float(one.columns.trace()), rel=1e-3), name
    values = torch.linalg.eigvalsh(found["head"].columns.double())
    assert (values > 1e-6 * values[-1]).sum() <= 3, "one photo and two cut-outs of it"
    again = reach_of(form, [photo], seed=5)
    assert all(torch.equal(again[name].rows, one.rows) for name, one in found.items())
    assert all(torch.equal(form.state_dict()[name], value) for name, value in before.items())


def snr(form: DeployDeiT, other: DeployDeiT, pixels: Tensor) -> float:
    with torch.inference_mode():
        exact, found = form(pixels), other(pixels)
    return float(10 * torch.log10(exact.square().sum() / (found - exact).square().sum()))


def test_each_step_takes_noise_away(form: DeployDeiT) -> None:
    pixels = photos(12)
    layers = [name for name in quantizable_layers(form) if name != "patch_embed"]
    weights = {name: form.get_submodule(name).get_parameter("weight") for name in layers}
    four = dict.fromkeys(layers, 4)
    nearest = pack_in_groups(weights, four, {})
    carried = pack_in_groups(weights, four, reach_of(form, list(pixels.split(1))))
    tuned, packed = tune(form, carried, pixels, steps=30)
    levels = [snr(form, with_weights(form, one), pixels) for one in (nearest, carried)]
    levels.append(snr(form, tuned, pixels))
    assert levels == sorted(levels), levels
    for name, one in packed.items():
        assert torch.equal(one.integers, carried[name].integers)
        assert torch.equal(one.scales.bfloat16().float(), one.scales)
        weight = tuned.get_submodule(name).get_parameter("weight")
        assert torch.equal(one.weight().reshape(weight.shape), weight)
    again, _ = tune(form, carried, pixels, steps=30)
    assert all(torch.equal(again.state_dict()[n], v) for n, v in tuned.state_dict().items())


def test_bytes_by_hand() -> None:
    four = GroupedWeight(4, torch.zeros(10, 64, dtype=torch.int8), torch.ones(10, 2))
    eight = GroupedWeight(8, torch.zeros(10, 64, dtype=torch.int8), torch.ones(10, 1))
    assert packed_bytes(four) == 10 * 64 // 2 + 20 * 2
    assert packed_bytes(eight) == 10 * 64 + 10 * 4


def test_damage_is_that_of_the_whole_model(form: DeployDeiT) -> None:
    pixels = list(photos(3).split(1))
    layers = ["blocks.0.attn.v", "blocks.1.mlp.fc2", "head"]
    weights = {name: form.get_submodule(name).get_parameter("weight") for name in layers}
    four, eight = (pack_in_groups(weights, dict.fromkeys(layers, b), {}) for b in (4, 8))
    found = weigh_layers(form, four, eight, pixels)
    assert sorted(one.layer for one in found) == sorted(layers)
    assert [one.damage for one in found] == sorted((one.damage for one in found), reverse=True)
    for one in found:
        alone = with_weights(form, {one.layer: four[one.layer]}, [one.layer])
        with torch.inference_mode():
            exact, actual = (torch.cat([m(x) for x in pixels]) for m in (form, alone))
        noise = float((actual - exact).square().sum() / exact.square().sum())
        assert one.noise == pytest.approx(noise, rel=1e-4)
        size = packed_bytes(eight[one.layer]) - packed_bytes(four[one.layer])
        assert one.saved_bytes == size
