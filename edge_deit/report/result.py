"""One artefact's result: what it is, its figures, and the parts that are no single figures.

To add a figure: a field with a `Figure` in `accuracy_figures` or `cost_figures`, with the default None, and
its computation in `evaluation.results`. Schema, page, Markdown, console, the keys of thresholds.toml and
the tables of the documents come from the declaration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from edge_deit.common.fields import About, Sha256, Text
from edge_deit.report.accuracy_figures import AccuracyFigures
from edge_deit.report.cost_figures import CostFigures
from edge_deit.report.details import ClassResult, Flip, Layers
from edge_deit.report.emulated import Emulated
from edge_deit.report.figure import Figure, declared
from edge_deit.report.phone_result import PhoneResult

__all__ = ["APPROXIMATION", "FIGURES", "ArtefactResult"]

APPROXIMATION: Final = "; an approximation: "
"""What stands in `runner` before the words that say how a file differs from its float model by intent."""


@dataclass(frozen=True, kw_only=True)
class _Identity:
    """What the artefact is, and what ran it."""

    path: Annotated[Text, About("The artefact as it was named.")]
    sha256: Annotated[Sha256, About("Of the artefact.")]
    target: Annotated[str, About("The format's name.")]
    backend: Annotated[str, About("What the artefact was made for within its format.")]
    precision: Annotated[str, About("Precision of weights and activations.")]
    model: Annotated[str, About("Name of the variant.")]
    weights_sha256: Annotated[
        Sha256, About("Of the float weights that the artefact was made from and is compared with.")
    ]
    runner: Annotated[
        str, About("What ran the artefact here; says so where it is not the format's own runtime.")
    ]


@dataclass(frozen=True, kw_only=True)
class ArtefactResult(CostFigures, AccuracyFigures, _Identity):
    """One artefact against its float model on the same photos.

    A figure that could not be had is null, and `notes` says why under the figure's name.
    """

    classes: Annotated[tuple[ClassResult, ...], About("Each class that has a photo.")]
    flips: Annotated[
        tuple[Flip, ...],
        About("Photos whose first answer differs; there may be fewer than flips_total."),
    ]
    scatter: Annotated[
        tuple[tuple[float, float], ...], About("Pairs (float logit, artefact logit), a sample.")
    ]
    layers: Annotated[
        Layers | None, About("Each layer on its own; null where it was not measured.")
    ]
    device: Annotated[
        tuple[PhoneResult, ...],
        About("What phones and browsers measured, an entry for each runner."),
    ]
    arm64: Annotated[
        Emulated | None, About("What emulated Arm cores counted; null where none ran.")
    ]
    notes: Annotated[
        Mapping[str, Text], About("Name of a figure -> why it is null, or what to know about it.")
    ]

    @property
    def name(self) -> str:
        """File name of the artefact."""
        return Path(self.path).name

    @property
    def is_approximation(self) -> bool:
        """Whether the file differs from its float model by intent."""
        return APPROXIMATION in self.runner


FIGURES: Final[Mapping[str, Figure]] = declared(ArtefactResult)
"""Name of each figure -> its declaration, in the order of the fields."""
