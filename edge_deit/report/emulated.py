"""What emulated Arm cores counted of one artefact: instructions, never a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from edge_deit.common.fields import About, Count, Positive
from edge_deit.report.figure import Figure, Limit, Unit
from edge_deit.report.units import DECIBELS, INSTRUCTIONS, PHOTOS, RATIO, SHARE

__all__ = ["Emulated", "EmulatedCore"]

_LOGITS = Unit("", "", "{:.2g}".format, {"ge": 0})
_SPREAD = Unit("", "share", "{:.2%}".format, {"ge": 0})


@dataclass(frozen=True)
class EmulatedCore:
    """One inference on one emulated core."""

    instructions: Annotated[
        int | None,
        Figure("instructions per inference", INSTRUCTIONS, "Executed in one inference."),
    ]
    ratio_to_fp32: Annotated[
        float | None,
        Figure(
            "share of fp32",
            RATIO,
            "Instructions / those of the fp32 artefact; null where none was run.",
            better="lower",
            about="speed",
            reasons=("arm64",),
            limits=(
                Limit(
                    "max_arm64_instruction_ratio",
                    "instructions on emulated cores / the float file's there, as a table: "
                    "`{ cortex-a76 = 0.4 }`",
                ),
            ),
        ),
    ]
    classes: Annotated[Mapping[str, Count], About("Kind of instruction -> how many.")]
    repeat_spread: Annotated[
        float | None,
        Figure(
            "spread of repeats",
            _SPREAD,
            "(largest - smallest) / smallest count of repeated runs.",
        ),
    ]
    images: Annotated[Positive, Figure("photos", PHOTOS, "Photos run.")]
    max_abs_to_x86: Annotated[
        float | None,
        Figure(
            "largest logit difference to x86",
            _LOGITS,
            "Largest difference of a logit from the same artefact's on x86.",
        ),
    ]
    snr_db_to_x86: Annotated[
        float | None,
        Figure(
            "SNR to x86",
            DECIBELS,
            "Logits on the emulated core against the same file on the machine that emulates.",
        ),
    ]
    snr_db_to_float: Annotated[
        float,
        Figure(
            "SNR to the float model",
            DECIBELS,
            "Logits on the emulated core against the float model.",
        ),
    ]
    same_argmax_as_x86: Annotated[
        float | None,
        Figure(
            "same answer as x86",
            SHARE,
            "Share of the photos with the same first answer as on x86.",
        ),
    ]


@dataclass(frozen=True)
class Emulated:
    """Instructions counted while the runtime's Arm build ran on emulated cores. Not a time."""

    runtime: Annotated[str, About("The runtime and its version.")]
    note: Annotated[str, About("What the counts mean.")]
    cpus: Annotated[
        Mapping[str, EmulatedCore], About("Name of the emulated core -> what was counted.")
    ]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Emulated:
        """From plain data with the same names, as the emulation hands it over."""
        cores = {name: EmulatedCore(**core) for name, core in data["cpus"].items()}
        return cls(runtime=data["runtime"], note=data["note"], cpus=cores)
