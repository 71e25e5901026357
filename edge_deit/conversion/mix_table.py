"""Size and damage of int4's mixes as a table and a plot."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from edge_deit.conversion.sensitivity_table import figure_maker
from edge_deit.quantization.mix import Weighed

__all__ = ["Step", "write_mixes"]


@dataclass(frozen=True)
class Step:
    """A mix: how many layers have 8 bits, the last of them, the file's expected size, predicted noise.

    The noise is a share of the logits' power, the sum of that of each layer alone.
    """

    layers: int
    layer: str
    size_mb: float
    noise: float


def write_mixes(weighed: Sequence[Weighed], steps: Sequence[Step], folder: Path) -> None:
    """Write `int4.csv`, a row for each mix from the smallest on, and `int4.png`, the same as a curve.

    Raises:
        EdgeDeitError: as `figure_maker`.
    """
    make_figure = figure_maker()
    folder.mkdir(parents=True, exist_ok=True)
    alone = {one.layer: one for one in weighed}
    with (folder / "int4.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        own = ["noise_alone", "saved_bytes", "photos"]
        writer.writerow([*(field.name for field in fields(Step)), *own])
        for step in steps:
            one = alone.get(step.layer)
            more = ["", "", ""] if one is None else [one.noise, one.saved_bytes, one.photos]
            writer.writerow([*asdict(step).values(), *more])
    figure = make_figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    shown = [step for step in steps if step.noise > 0]
    levels = [-10 * math.log10(step.noise) for step in shown]
    axis.plot([step.size_mb for step in shown], levels, marker=".")
    axis.set_xlabel("file, MB (expected)")
    axis.set_ylabel("logit SNR, dB (predicted, layer by layer)")
    axis.set_title("int4: from all layers in 4 bits to all but one in 8")
    axis.grid(visible=True, alpha=0.3)
    figure.savefig(folder / "int4.png", dpi=150)
