"""The parts of a device report: the app, the device, how and in which state it measured, its answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from annotated_types import Ge

from edge_deit.common.fields import About, Count, FileName, Positive, Share, Text

__all__ = [
    "PROTOCOL",
    "App",
    "Conditions",
    "CostShares",
    "Device",
    "ModelCheck",
    "Protocol",
    "Residency",
]


@dataclass(frozen=True)
class App:
    """The app that measured."""

    name: Annotated[
        Literal["edge-deit-android", "edge-deit-ios", "edge-deit-web"], About("Its name.")
    ]
    version: Annotated[Text, About("Its version.")]
    build: Annotated[
        Literal["release", "debug"], About("How it was built; a debug build's times mean nothing.")
    ]


@dataclass(frozen=True)
class Device:
    """The phone, or what a browser tells of the device that it runs on."""

    manufacturer: Annotated[
        Text | None, About("Who made it; null in a browser, which does not tell.")
    ]
    model: Annotated[Text | None, About("Its model; null where a browser does not tell.")]
    os: Annotated[
        Literal["Android", "iOS", "Web"], About("Its operating system; Web is any browser.")
    ]
    os_version: Annotated[
        Text, About("The system's version; of a browser its own, and its system's.")
    ]
    soc: Annotated[Text | None, About("Its chip; null where the system does not tell.")]
    cores: Annotated[Positive, About("Its cores.")]


@dataclass(frozen=True)
class Protocol:
    """How every app measures, so that the figures of two phones can be compared.

    The sha256 is compared before any clock starts. `load_ms` is the first load of a file with a runner,
    `load_warm_ms` that after it was closed again, `first_run_ms` the first inference after that. `warm_up`
    further ones are not timed, then `runs` are. Preprocessing is that of a generated photo (golden pixels
    of seed 1, block 8), once untimed, then `preprocess_runs` times.
    """

    photo_width: Annotated[Positive, About("Of the generated photo, pixels.")]
    photo_height: Annotated[Positive, About("Of the generated photo, pixels.")]
    warm_up: Annotated[Count, About("Inferences before those that are timed.")]
    runs: Annotated[Positive, About("Inferences that are timed.")]
    preprocess_runs: Annotated[Positive, About("Timed passes from the photo to the model's input.")]


PROTOCOL: Final = Protocol(4032, 3024, 5, 100, 5)
"""What a report of this version was measured by."""


@dataclass(frozen=True)
class Conditions:
    """The state of the device while it measured; null where the system does not tell."""

    thermal_begin: Annotated[Text | None, About("Its thermal state at the beginning.")]
    thermal_end: Annotated[Text | None, About("Its thermal state at the end.")]
    power_saver: Annotated[bool | None, About("Whether it saved power.")]
    left_foreground: Annotated[bool | None, About("Whether the app was out of sight meanwhile.")]
    screen_kept_on: Annotated[bool | None, About("Whether the app kept the screen on.")]

    def remarks(self) -> tuple[str, ...]:
        """What makes the figures worth less, one text each."""
        found = {
            "the app left the foreground": self.left_foreground,
            "the device saved power": self.power_saver,
            "the screen was not kept on": self.screen_kept_on is False,
        }
        cool = self.thermal_begin in (None, *_COOL)
        found[f"it was warm at the beginning ({self.thermal_begin})"] = not cool
        found[f"it became warm ({self.thermal_end})"] = cool and self.thermal_end not in (
            None,
            *_COOL,
        )
        return tuple(text for text, holds in found.items() if holds)


_COOL: Final = ("none", "nominal")
"""Android's and iOS's words for a device that is not held back."""


@dataclass(frozen=True)
class ModelCheck:
    """The file's answers on the golden photos, beside those that Python wrote down."""

    reference: Annotated[
        FileName, About("The file whose answers those are: the same one where it ran in Python.")
    ]
    images: Annotated[Positive, About("Photos compared.")]
    same_top: Annotated[Count, About("Photos with the same first answer.")]
    cosine: Annotated[
        float, About("Lowest cosine of the logits, less their mean, over the photos."), Ge(-1)
    ]


@dataclass(frozen=True)
class CostShares:
    """Each processor's share of the work of one inference, as the runtime estimates it; 1 in all."""

    cpu: Annotated[Share, About("Of the operators planned for the CPU.")]
    gpu: Annotated[Share, About("Of those planned for the GPU.")]
    neural_engine: Annotated[Share, About("Of those planned for the Neural Engine.")]


@dataclass(frozen=True)
class Residency:
    """Where a runtime plans to run a file's operators, constants aside; where they ran is not told."""

    cpu: Annotated[Count, About("Operators planned for the CPU.")]
    gpu: Annotated[Count, About("Operators planned for the GPU.")]
    neural_engine: Annotated[Count, About("Operators planned for the Neural Engine.")]
    cost: Annotated[
        CostShares | None, About("What they are of the work; null where it is not estimated.")
    ]

    @property
    def total(self) -> int:
        """Operators that the plan has a processor for."""
        return self.cpu + self.gpu + self.neural_engine

    def fault(self) -> str | None:
        """What single entries do not show: why this is no plan."""
        if self.total < 1:
            return "has no operator"
        if self.cost is None:
            return None
        shares = vars(self.cost)
        if abs(sum(shares.values()) - 1) > _ROUNDING:
            return f"has a cost of {sum(shares.values()):g} in all; it must be 1"
        idle = [name for name, share in shares.items() if share and not getattr(self, name)]
        return f"has a cost of {idle[0]} but no operator there" if idle else None


_ROUNDING: Final = 1e-6
"""What shares of float arithmetic may be off."""
