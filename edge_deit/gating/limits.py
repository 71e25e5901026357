"""All limits that thresholds may set, as the figures' declarations have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edge_deit.report.emulated import EmulatedCore
from edge_deit.report.figure import Figure, Limit, declared
from edge_deit.report.phone_result import PhoneResult
from edge_deit.report.report import ArtefactResult
from edge_deit.report.result import FIGURES

__all__ = [
    "ARM64",
    "ARM64_LIMIT",
    "BASELINE",
    "DEVICE_LIMITS",
    "LIMITS",
    "Bound",
    "ChangeLimit",
    "FigureLimit",
]


@dataclass(frozen=True)
class Bound:
    """Where a bound may lie, and in which unit: `hint` is for who took another one."""

    low: float
    high: float
    hint: str
    whole: bool = False


@dataclass(frozen=True)
class FigureLimit:
    """One key of `[[rule]]`: a limit and the figure that it is on."""

    figure: Figure
    limit: Limit

    @property
    def bound(self) -> Bound:
        """Where the limit may lie."""
        unit, limit = self.figure.unit, self.limit
        low = unit.low if limit.low is None else limit.low
        high = unit.high if limit.high is None else limit.high
        return Bound(low, high, unit.hint, unit.whole)

    def value(self, result: ArtefactResult) -> float | None:
        """What is compared with the bound: the figure, or an end of its interval."""
        if self.limit.end == "value":
            found: float | None = getattr(result, self.figure.name)
            return found
        ends = self.interval(result)
        return None if ends is None else ends[self.limit.end == "high"]

    def interval(self, result: ArtefactResult) -> tuple[float, float] | None:
        """The figure's 95 % interval, where it has one."""
        return _interval(self.figure, result)


@dataclass(frozen=True)
class ChangeLimit:
    """One key of `[baseline]`: how much worse the figure may be than the baseline's."""

    figure: Figure

    @property
    def bound(self) -> Bound:
        """Where the limit may lie."""
        change = self.figure.change
        assert change is not None
        if change.relative:
            return Bound(0.0, 1.0, ", a share of the baseline's figure: 0.05 is 5 %")
        return Bound(0.0, change.high, self.figure.unit.hint)

    @property
    def relative(self) -> bool:
        """Whether the bound is a share of the baseline's figure."""
        return self.figure.change is not None and self.figure.change.relative

    def values(
        self, result: ArtefactResult, then: ArtefactResult
    ) -> tuple[float | None, float | None]:
        """What is compared: the figure now and then, or the ends of their intervals that prove a change."""
        figure, change = self.figure, self.figure.change
        if change is None or not change.proven:
            return getattr(result, figure.name), getattr(then, figure.name)
        now, was = _interval(figure, result), _interval(figure, then)
        rises = figure.better == "lower"
        return (
            None if now is None else now[0 if rises else 1],
            None if was is None else was[1 if rises else 0],
        )


def _interval(figure: Figure, result: ArtefactResult) -> tuple[float, float] | None:
    found: tuple[float, float] | None = (
        getattr(result, figure.interval) if figure.interval else None
    )
    return found


LIMITS: Final[Mapping[str, FigureLimit]] = {
    limit.key: FigureLimit(figure, limit) for figure in FIGURES.values() for limit in figure.limits
}
"""Key in `[[rule]]` -> the limit. `ARM64` has one bound for each core and stands apart."""

(ARM64_LIMIT,) = (
    FigureLimit(figure, limit)
    for figure in declared(EmulatedCore).values()
    for limit in figure.limits
)
"""The limit on instructions of an emulated core."""

ARM64: Final = ARM64_LIMIT.limit.key
"""Its key, a table of cores."""

DEVICE_LIMITS: Final[Mapping[str, FigureLimit]] = {
    limit.key: FigureLimit(figure, limit)
    for figure in declared(PhoneResult).values()
    for limit in figure.limits
}
"""Key in `[[rule]]` -> the limit on what phones measured, a table of devices by their model."""

BASELINE: Final[Mapping[str, ChangeLimit]] = {
    figure.change_key: ChangeLimit(figure) for figure in FIGURES.values() if figure.change
}
"""Key in `[baseline]` -> the limit."""
