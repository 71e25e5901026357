"""The damage of each layer as a table and a plot."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from edge_deit.common.errors import EdgeDeitError
from edge_deit.quantization.sensitivity import Damage

__all__ = ["figure_maker", "write_sensitivity"]


def figure_maker() -> Callable[..., Any]:
    """matplotlib's figure, which needs no window.

    Raises:
        EdgeDeitError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EdgeDeitError(
            "--sensitivity-report draws with matplotlib: pip install 'edge-deit[report]'"
        ) from error
    made: Callable[..., Any] = Figure
    return made


def write_sensitivity(damages: dict[str, list[Damage]], folder: Path) -> None:
    """Write `sensitivity.csv` and `sensitivity.png`, the layers in order of damage; one set a key.

    Raises:
        EdgeDeitError: as `figure_maker`.
    """
    make_figure = figure_maker()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "sensitivity.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["kind", *(field.name for field in fields(Damage))])
        for kind, found in damages.items():
            writer.writerows([kind, *asdict(damage).values()] for damage in found)
    rows = max(len(found) for found in damages.values())
    figure = make_figure(figsize=(6 * len(damages), 1 + 0.16 * rows), layout="constrained")
    axes = figure.subplots(1, len(damages), squeeze=False)[0]
    for axis, (kind, found) in zip(axes, damages.items(), strict=True):
        worst_on_top = found[::-1]
        axis.barh([d.layer for d in worst_on_top], [1000 * d.noise for d in worst_on_top])
        axis.set_xscale("log")
        axis.set_xlabel("noise power / signal power, x 1000")
        axis.set_title(f"{kind}, {found[0].photos} photos")
        axis.tick_params(axis="y", labelsize=6)
        axis.margins(y=0.005)
    figure.savefig(folder / "sensitivity.png", dpi=150)
