#!/usr/bin/env python3
"""What each step of making lookup tables gives: signal-to-noise ratio of the logits, and answers that stay.

    EDGE_DEIT_REAL=FOLDER python benchmarks/table_steps.py --output DIR

Tables are made on most of the calibration photos and judged on the rest of them, so that the photos which
judge the files choose nothing. Everything is computed in torch. The table is in docs/tables.md.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import torch
import typer
from torch import Tensor

from edge_deit.checkpoint.load import load_model
from edge_deit.common.console import new_app, progress, run
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import write_text
from edge_deit.data.calibration import calibration_set
from edge_deit.metrics.outputs import closeness
from edge_deit.model.deploy import deploy
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.model.outputs import outputs
from edge_deit.quantization.packed import TableWeight
from edge_deit.quantization.palette import Palette, see
from edge_deit.quantization.rotate import rotate
from edge_deit.quantization.scheme import Precision
from edge_deit.quantization.tables import spread_table
from harness.real import real_folder
from tables.grid import Grid, show, to_markdown

__all__ = ["table_steps"]

app = new_app(__doc__)

_PRECISIONS: Final[Mapping[Precision, int]] = {"palettized-6": 6, "palettized-4": 4}
_Tables = Mapping[str, TableWeight]


@app.command()
def table_steps(
    output: Annotated[Path, typer.Option(help="Folder for steps.md.")],
    images: Annotated[int, typer.Option(help="Calibration photos.")] = 100,
    held_back: Annotated[int, typer.Option(help="Of these, to judge by.")] = 30,
) -> None:
    """Make tables in several ways and compare what the model then computes."""
    checkpoint = load_model(str(real_folder() / "deit_tiny_patch16_224" / "model.safetensors"))
    pixels = calibration_set(real_folder() / "imagenet400", checkpoint.preprocess, images).pixels
    if not 0 < held_back < len(pixels):
        raise EdgeDeitError(f"--held-back is {held_back}; it must be from 1 to {len(pixels) - 1}")
    seen, judged = pixels[:-held_back].split(1), pixels[-held_back:].split(1)
    form = deploy(checkpoint.model)
    reference = outputs(form, judged).numpy()
    rows = []
    with progress() as bar:
        task = bar.add_task("steps", total=len(_PRECISIONS) * 4)
        palettes = see(form, seen), see(rotate(form), seen)
        for precision, bits in _PRECISIONS.items():
            for name, (palette, make) in _ways(*palettes, precision, bits).items():
                tables = make(palette)
                found = closeness(reference, _outputs(palette.form, tables, judged), classes=True)
                share = _bits(tables) / 32
                figures = (f"{share:.3f}", f"{found.snr_db:.1f}", f"{100 * found.agreement:.0f} %")
                rows.append((precision, name, *figures))
                bar.advance(task)
    columns = ("precision", "tables", "of float weights", "SNR, dB", "same answer")
    remark = f"made on {len(seen)} calibration photos, judged on {held_back} others of them"
    grid = Grid(f"{checkpoint.name}: steps of lookup tables", columns, tuple(rows), (remark,))
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "steps.md", to_markdown([grid]) + "\n")
    show(grid)


def _ways(
    plain: Palette, turned: Palette, precision: Precision, bits: int
) -> dict[str, tuple[Palette, Callable[[Palette], _Tables]]]:
    """What is said of each way, the palette that it starts from, and what makes its tables."""
    layers = quantizable_layers(plain.form)

    def nearest(palette: Palette) -> _Tables:
        return {name: _nearest(palette.form, name, bits) for name in layers}

    def carried(palette: Palette) -> _Tables:
        return {name: palette.table(name, bits) for name in layers}

    return {
        "k-means, nearest entry": (plain, nearest),
        "weighed k-means, errors carried on": (plain, carried),
        "the same of the rotated form": (turned, carried),
        "the second row, more bits where they help most": (
            plain,
            lambda palette: palette.choose(precision, layers),
        ),
    }


def _nearest(form: DeployDeiT, name: str, bits: int) -> TableWeight:
    weight = form.get_submodule(name).get_parameter("weight").detach().flatten(1)
    table = spread_table(weight.reshape(-1), torch.ones(weight.numel()), 2**bits)
    borders = (table[1:] + table[:-1]) / 2
    indices = torch.searchsorted(borders, weight.double()).to(torch.uint8)
    return TableWeight(bits, indices, table[None].half().float())


def _outputs(form: DeployDeiT, tables: _Tables, photos: tuple[Tensor, ...]) -> np.ndarray:
    made = copy.deepcopy(form)
    with torch.no_grad():
        for name, one in tables.items():
            weight = made.get_submodule(name).get_parameter("weight")
            weight.copy_(one.weight().reshape(weight.shape))
    return outputs(made, photos).numpy()


def _bits(tables: _Tables) -> float:
    """Bits of a weight, entries of the tables with them."""
    count = sum(one.indices.numel() for one in tables.values())
    held = sum(one.indices.numel() * one.bits + one.tables.numel() * 16 for one in tables.values())
    return held / count


if __name__ == "__main__":
    run(app, "python benchmarks/table_steps.py")
