"""Parts of a result that are no single figures: classes, photos whose answer changed, layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt, Le

from edge_deit.common.fields import About, Count, Positive

__all__ = ["ClassResult", "Flip", "Layers"]

_Probability = Annotated[float, Gt(-1e-6), Le(1.000001)]


@dataclass(frozen=True)
class Flip:
    """A photo whose first answer differs between the two models."""

    file: Annotated[str, About("Path relative to the data folder.")]
    label: Annotated[str | None, About("The right answer; null without labels.")]
    float_label: Annotated[str, About("The float model's answer.")]
    float_probability: Annotated[_Probability, About("Softmax over all logits of the float model.")]
    artefact_label: Annotated[str, About("The artefact's answer.")]
    artefact_probability: Annotated[_Probability, About("Softmax over all logits of the artefact.")]
    changed: Annotated[
        Literal["lost", "won", "other"],
        About(
            "lost: only the float model is right; won: only the artefact is; other: neither, or no label."
        ),
    ]


@dataclass(frozen=True)
class ClassResult:
    """One class: how many photos, and how many of them each model had right."""

    label: Annotated[str, About("Its name.")]
    images: Annotated[Count, About("Its photos.")]
    right_float: Annotated[Count, About("Those the float model had right.")]
    right: Annotated[Count, About("Those the artefact had right.")]


@dataclass(frozen=True)
class Layers:
    """How far the values inside an artefact are from the float model's, in the order of the graph."""

    method: Annotated[str, About("How the outputs were had.")]
    images: Annotated[Positive, About("Photos used.")]
    names: Annotated[tuple[str, ...], About("Names of the layers.")]
    snr_db: Annotated[
        tuple[Annotated[float, Le(200)], ...],
        About("Signal-to-noise ratio of each layer, in dB; 200, the most, stands for equal."),
    ]
    first_drop: Annotated[
        str | None,
        About("First layer at least drop_db below the one in front of it; null where none is."),
    ]
    drop_db: Annotated[float, Gt(0), About("What counts as a drop, in dB.")]
