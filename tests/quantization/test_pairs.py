"""Weights for kernels that add two neighbouring products in 16 bits: no such sum can leave its range."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edge_deit.conversion.run import export_model
from edge_deit.quantization.pairs import round_layer
from edge_deit.quantization.rounding import int8_scale, pair_scale, round_in_pairs, round_weights

UINT8 = 255
LEAST, GREATEST = -(2**15), 2**15 - 1


def sums(integers: np.ndarray) -> np.ndarray:
    """The extreme sums of neighbouring products, weights (O, C): each input is the greatest, or zero."""
    products = UINT8 * integers.astype(np.int64)
    if products.shape[1] % 2:
        products = np.pad(products, ((0, 0), (0, 1)))
    pairs = products.reshape(len(products), -1, 2)
    return np.stack([pairs.clip(0).sum(2), pairs.clip(max=0).sum(2)])


def moments_of(width: int) -> Tensor:
    x = torch.randn(500, width) * torch.rand(width) + torch.randn(500, 1)
    return x.T @ x


@pytest.mark.parametrize("width", [2, 7, 64, 192])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
@pytest.mark.parametrize("measured", [True, False])
def test_no_pair_leaves_sixteen_bits(width: int, scale: float, measured: bool) -> None:
    torch.manual_seed(width)
    weight = scale * torch.randn(50, width) ** 3  # long tails
    weight[0], weight[1] = scale, -scale  # all neighbours as large as can be
    weight[2] = 0
    integers = round_in_pairs(weight, moments_of(width) if measured else None)
    found = sums(integers.numpy())
    assert found.max() <= GREATEST
    assert found.min() >= LEAST
    step = pair_scale(weight)
    assert (step >= int8_scale(weight)).all()
    assert (step <= 2 * int8_scale(weight)).all()
    if not measured:
        assert ((integers * step[:, None] - weight).abs() <= step[:, None] + 1e-9).all()


def test_a_row_without_large_neighbours_keeps_its_step() -> None:
    weight = torch.tensor([[127.0, 0, 3, 1], [127.0, -127, 90, 38], [127.0, 1, 1, 1]])
    assert torch.equal(pair_scale(weight), int8_scale(weight))
    assert torch.equal(round_in_pairs(weight, None).float(), weight)


def test_errors_are_carried_on() -> None:
    torch.manual_seed(0)
    weight, moments = torch.randn(32, 96), moments_of(96)

    def error(integers: Tensor) -> float:
        off = integers * pair_scale(weight)[:, None] - weight
        return float((off @ moments * off).sum())

    nearest = round_in_pairs(weight, None)
    assert error(round_in_pairs(weight, moments)) < 0.5 * error(nearest)


def test_convolutions_are_left_out() -> None:
    layer = nn.Conv2d(3, 4, 2)
    weight, paired = round_layer(layer, None)
    assert paired is None
    assert torch.equal(weight, round_weights(layer.weight, None))


def test_both_at_once_are_each_alone() -> None:
    torch.manual_seed(0)
    layer, moments = nn.Linear(97, 32), moments_of(97)
    weight, paired = round_layer(layer, moments, 0.02)
    assert paired is not None
    assert torch.equal(weight, round_weights(layer.weight.detach(), moments, 0.02))
    assert torch.equal(paired.integers, round_in_pairs(layer.weight.detach(), moments, 0.02))


@pytest.fixture(scope="module")
def graphs(
    tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path, photos: Path
) -> dict[str, Any]:
    import onnx

    done = export_model(
        str(tiny_weights), targets=["onnx"], precisions=["int8", "int8-dynamic"],
        output=tmp_path_factory.mktemp("pairs"), calibration=photos, cache=False,
    )  # fmt: skip
    return {one.manifest.precision: onnx.load(one.path) for one in done.artefacts}


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
def test_files_hold_no_pair_that_saturates(precision: str, graphs: dict[str, Any]) -> None:
    """In the order in which ONNX Runtime's kernels go through them: along the inner axis."""
    import onnx

    entries = {
        entry.name: onnx.numpy_helper.to_array(entry)
        for entry in graphs[precision].graph.initializer
    }
    weights = {
        name: value for name, value in entries.items() if value.ndim > 1 and value.itemsize == 1
    }
    assert len(weights) >= 13
    for name, value in weights.items():
        if (
            value.ndim == 4
        ):  # the patch embedding: kernels for unsigned weights do not add in 16 bits
            assert value.dtype == np.uint8
            continue
        assert value.dtype == np.int8
        found = sums(value if precision == "int8" else value.T)
        assert found.max() <= GREATEST, name
        assert found.min() >= LEAST, name
        assert np.abs(value).max() > 60, name  # the grid is used
