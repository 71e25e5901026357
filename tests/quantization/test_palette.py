"""Lookup tables: entries near the weights, errors carried on, bits where they take most noise away."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from edge_deit.checkpoint.load import load_model
from edge_deit.conversion.tables import with_packed
from edge_deit.data.calibration import calibration_set, read_set
from edge_deit.data.photos import list_photos
from edge_deit.metrics.outputs import closeness
from edge_deit.model.deploy import deploy
from edge_deit.model.form import quantizable_layers
from edge_deit.model.outputs import outputs
from edge_deit.quantization.palette import BITS, Palette, see
from edge_deit.quantization.scheme import Precision
from edge_deit.quantization.tables import carried_indices, spread_table
from exporter_models import fresh_model, images


@pytest.fixture(scope="module")
def palette() -> Palette:
    return see(deploy(fresh_model("plain")), images(4, seed=0).split(1))


def cost(values: Tensor, weights: Tensor, table: Tensor) -> float:
    """Weighed square error of the nearest entries."""
    return float((weights * (values[:, None] - table).abs().amin(1).square()).sum())


def test_entries_are_nearly_the_best_there_are() -> None:
    """All ways to cut 12 sorted values into 3 runs, each with its mean: none is much better."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(12, generator=generator, dtype=torch.float64).sort().values
    weights = torch.rand(12, generator=generator, dtype=torch.float64) + 0.1
    best = min(
        cost(values, weights, torch.stack([
            (values[a:b] * weights[a:b]).sum() / weights[a:b].sum()
            for a, b in itertools.pairwise((0, *cuts, 12))
        ]))
        for cuts in itertools.combinations(range(1, 12), 2)
    )  # fmt: skip
    found = spread_table(values, weights, 3)
    assert bool((found.diff() > 0).all())
    assert cost(values, weights, found) <= 1.3 * best


def test_values_that_fit_the_table_are_kept() -> None:
    values = torch.tensor([1.0, -2.0, 0.5, 1.0, -2.0, 0.5, 3.0, 3.0])
    found = spread_table(values, torch.ones_like(values), 8)
    assert cost(values.double(), torch.ones(8), found) == 0.0
    assert len(found) == 8


def test_carrying_errors_lessens_that_of_the_output() -> None:
    """Inputs that go together: what one weight loses another makes up for."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(200, 24, generator=generator) @ torch.randn(24, 24, generator=generator)
    weight = torch.randn(8, 24, generator=generator)
    table = spread_table(weight.reshape(-1), torch.ones(weight.numel()), 8)
    moments = (inputs.T @ inputs).double()
    carried = table[carried_indices(weight, table, moments).long()]
    nearest = table[(weight[:, :, None] - table).abs().argmin(2)]
    errors = [float((inputs.double() @ (weight - w).T).square().sum()) for w in (carried, nearest)]
    assert errors[0] < 0.5 * errors[1]


def test_bits_go_where_they_take_most_noise_away(palette: Palette) -> None:
    """All of them are spent but for what is too little for another layer, and `eight` is kept."""
    names = quantizable_layers(palette.form)
    found = palette.choose("palettized-4", names)
    assert [*found] == names
    counts = {name: one.indices.numel() for name, one in found.items()}
    extra = sum((one.bits - 4) * counts[name] for name, one in found.items())
    room = 1.05 * sum(counts.values())
    finer = [name for name, one in found.items() if one.bits > 4]
    assert 0 < len(finer) < len(names)
    assert room - 2 * max(counts.values()) < extra <= room
    assert palette.choose("palettized-4", names, ["head"])["head"].bits == 8
    assert palette.choose("palettized-6", ["head"]).keys() == {"head"}


@pytest.mark.parametrize("bits", BITS["palettized-4"])
def test_more_bits_come_closer(palette: Palette, bits: int) -> None:
    """Entries are values of half precision, indices fit; 2 bits more take 12 dB of the error or more."""
    name = "blocks.0.mlp.fc1"
    weight = palette.form.get_submodule(name).get_parameter("weight").detach()
    found = palette.table(name, bits)
    assert int(found.indices.max()) < 2**bits == found.tables.shape[1]
    assert torch.equal(found.tables, found.tables.half().float())
    share = float((found.weight() - weight).square().sum() / weight.square().sum())
    assert share < {4: 2e-2, 6: 1.2e-3, 8: 1e-4}[bits]


def test_threads_change_nothing() -> None:
    """Sums of fixed order: the tables are the same bit for bit."""
    form, before = deploy(fresh_model("plain")), torch.get_num_threads()
    values = form.get_submodule("blocks.0.mlp.fc1").get_parameter("weight").detach().reshape(-1)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            found.append(spread_table(values, torch.ones_like(values), 16))
        finally:
            torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.slow
def test_real_weights_keep_their_answers(real: Path) -> None:
    """DeiT-tiny with tables made on 40 photos, on 30 others: most answers stay."""
    checkpoint = load_model(str(real / "deit_tiny_patch16_224" / "model.safetensors"))
    seen = calibration_set(real / "imagenet400", checkpoint.preprocess, 40).pixels
    others = read_set(
        list_photos(real / "imagenet400", use="validation").pick(30), checkpoint.preprocess
    )
    palette = see(deploy(checkpoint.model), seen.split(1))
    reference = outputs(palette.form, others).numpy()
    bars: dict[Precision, tuple[float, float, float]] = {
        "palettized-6": (22.0, 0.96, 0.202), "palettized-4": (13.0, 0.86, 0.164),
    }  # fmt: skip
    for precision, (snr_db, agreement, share) in bars.items():
        tables = palette.choose(precision, quantizable_layers(palette.form))
        found = closeness(
            reference, outputs(with_packed(palette.form, tables), others).numpy(), classes=True
        )
        bits = [one.indices.numel() * one.bits + one.tables.numel() * 16 for one in tables.values()]
        assert found.snr_db > snr_db, precision
        assert found.agreement >= agreement, precision
        assert sum(bits) <= share * 32 * sum(one.indices.numel() for one in tables.values())
