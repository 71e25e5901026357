"""The figures of an artefact's answers, each declared once, next to its field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from edge_deit.common.fields import Positive
from edge_deit.report.figure import Change, Figure, Interval, Limit
from edge_deit.report.units import (
    COSINE,
    DECIBELS,
    NAME,
    NATS,
    PERCENT,
    PHOTOS,
    POINTS,
    PROBABILITY,
    SHARE,
)

__all__ = ["AccuracyFigures"]


@dataclass(frozen=True, kw_only=True)
class AccuracyFigures:
    """How the artefact's answers and logits compare with the float model's on the same photos."""

    images: Annotated[
        Positive,
        Figure(
            "photos",
            PHOTOS,
            "Photos that were compared.",
            better="higher",
            about="photos",
            limits=(Limit("min_images", "photos that were compared; fewer are exit code 2"),),
        ),
    ]
    labelled: Annotated[
        int,
        Figure(
            "labelled photos",
            PHOTOS,
            "Those of them that have a label.",
            better="higher",
            about="photos",
            limits=(
                Limit("min_labelled", "those of them that have a label; fewer are exit code 2"),
            ),
        ),
    ]
    top1: Annotated[
        float | None,
        Figure(
            "top-1",
            PERCENT,
            "Share of the labelled photos whose class is the first answer.",
            needs="labels",
            better="higher",
            table="float {top1_float}",
            console=("top-1", "{top1} / {top1_float}"),
            limits=(Limit("min_top1", "the artefact's own top-1", low=1),),
        ),
    ]
    top5: Annotated[
        float | None,
        Figure(
            "top-5",
            PERCENT,
            "Share of the labelled photos whose class is among the first five answers.",
            needs="labels",
            better="higher",
        ),
    ]
    top1_float: Annotated[
        float | None,
        Figure(
            "top-1, float model",
            PERCENT,
            "Top-1 of the float model.",
            needs="labels",
            better="higher",
            about="float model",
            reasons=("top1",),
            limits=(
                Limit(
                    "min_top1_float",
                    "the float model's top-1, so that a broken baseline cannot pass",
                    low=1,
                ),
            ),
        ),
    ]
    top5_float: Annotated[
        float | None,
        Figure(
            "top-5, float model",
            PERCENT,
            "Top-5 of the float model.",
            needs="labels",
            better="higher",
        ),
    ]
    top1_drop: Annotated[
        float | None,
        Figure(
            "top-1 lost, points",
            POINTS,
            "The float model's top-1 less the artefact's; negative where the artefact is better.",
            needs="labels",
            better="lower",
            interval="top1_drop_ci95",
            reasons=("top1",),
            table="{top1_drop_ci95}",
            console=("drop [95 %]", "{top1_drop} [{top1_drop_ci95}]"),
            limits=(
                Limit("max_top1_drop", "top-1 lost against the float model, the point estimate"),
                Limit(
                    "max_top1_drop_certain",
                    "the lower end of its paired 95 % interval: fails only when a greater loss is proven",
                    end="low",
                ),
                Limit(
                    "max_top1_drop_possible",
                    "the upper end: fails unless a greater loss is ruled out",
                    end="high",
                ),
            ),
            change=Change("points of top-1 drop", high=100),
        ),
    ]
    top1_drop_ci95: Annotated[
        Interval | None,
        Figure(
            "95 % interval of the loss",
            POINTS,
            "95 % score interval of the drop for paired proportions (Tango 1998): it uses only the "
            "photos on which exactly one of the models is right, and holds its level with few photos "
            "and with none of those.",
            needs="labels",
        ),
    ]
    lost: Annotated[
        int | None,
        Figure(
            "right only in float",
            PHOTOS,
            "Photos that only the float model had right.",
            needs="labels",
            better="lower",
        ),
    ]
    won: Annotated[
        int | None,
        Figure(
            "right only in the artefact",
            PHOTOS,
            "Photos that only the artefact had right.",
            needs="labels",
            better="higher",
        ),
    ]
    mcnemar_p: Annotated[
        float | None,
        Figure(
            "McNemar's exact p",
            PROBABILITY,
            "McNemar's exact two-sided test that both models are equally good.",
            needs="labels",
        ),
    ]
    agreement: Annotated[
        float,
        Figure(
            "same answer",
            SHARE,
            "Share of the photos on which both models give the same first answer.",
            better="higher",
            table="{flips_total} changed",
            console=("agree", "{agreement}"),
            limits=(
                Limit(
                    "min_agreement",
                    "photos on which artefact and float model give the same first answer",
                ),
            ),
            change=Change("agreement", high=1),
        ),
    ]
    snr_db: Annotated[
        float,
        Figure(
            "logit SNR",
            DECIBELS,
            "10 log10(sum of float logits squared / sum of squared differences) over all photos; 200, the "
            "most, stands for equal.",
            better="higher",
            table="worst {snr_db_worst}",
            console=("SNR", "{snr_db}"),
            limits=(
                Limit(
                    "min_snr_db",
                    "signal-to-noise ratio of all logits, the float model's being the signal",
                ),
            ),
            change=Change("signal-to-noise ratio", high=200),
        ),
    ]
    snr_db_worst: Annotated[
        float,
        Figure("logit SNR, worst photo", DECIBELS, "The same on the worst photo.", better="higher"),
    ]
    cosine: Annotated[
        float,
        Figure(
            "cosine, mean",
            COSINE,
            "Cosine between the logits of both models, mean over the photos.",
            better="higher",
        ),
    ]
    cosine_worst: Annotated[
        float,
        Figure(
            "cosine, worst photo",
            COSINE,
            "The same on the worst photo.",
            better="higher",
            limits=(Limit("min_cosine_worst", "cosine of the logits on the worst photo"),),
            change=Change("cosine on the worst photo", high=2),
        ),
    ]
    worst_image: Annotated[
        str,
        Figure(
            "worst photo",
            NAME,
            "The photo with the lowest signal-to-noise ratio, relative to the data folder.",
        ),
    ]
    flips_total: Annotated[
        int,
        Figure(
            "changed answers",
            PHOTOS,
            "Photos whose first answer differs from the float model's.",
            better="lower",
        ),
    ]
    calibration_overlap: Annotated[
        int | None,
        Figure(
            "calibration photos among these",
            PHOTOS,
            "Photos of the validation that the artefact was calibrated on, by the hash of the file; they "
            "flatter it.",
            better="lower",
            about="calibration",
            limits=(
                Limit(
                    "max_calibration_overlap", "photos that the artefact was calibrated on", low=0
                ),
            ),
        ),
    ] = None
    kl_divergence: Annotated[
        float | None,
        Figure(
            "KL divergence",
            NATS,
            "Kullback-Leibler divergence of the artefact's softmax from the float model's, mean over the "
            "photos.",
            better="lower",
            limits=(Limit("max_kl_divergence", "mean KL divergence of the softmax"),),
            change=Change("KL divergence of the softmax"),
        ),
    ] = None
