"""What one figure is: the declaration that tables, schema, limits and documents are made from.

A dataclass's field (or property) is a figure when its annotation holds a `Figure`; `declared` lists them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args, get_type_hints

__all__ = [
    "DASH",
    "About",
    "Change",
    "Figure",
    "Interval",
    "Limit",
    "Needs",
    "Unit",
    "declared",
]

DASH: Final = "\N{EN DASH}"
"""Stands where a figure could not be had."""

Interval = tuple[float, float]
"""The lower and the upper end."""

Needs = Literal["nothing", "labels", "timing"]
"""What a figure is null without."""

About = Literal[
    "accuracy", "float model", "speed", "memory", "size", "photos", "calibration", "device"
]
"""What a limit that does not hold is about; it chooses the advice."""


@dataclass(frozen=True)
class Unit:
    """A unit: its name in messages and in documents, how a value is written, and which values there are.

    `span` are pydantic's bounds of a figure in it (`ge`, `gt`, `le`). A limit on such a figure lies from
    `low` to `high`; `hint` says in which unit, where another one is easily taken for it.
    """

    name: str
    words: str
    text: Callable[[Any], str]
    span: Mapping[str, float] = field(default_factory=dict)
    low: float = 0.0
    high: float = math.inf
    hint: str = ""
    whole: bool = False


@dataclass(frozen=True)
class Limit:
    """One key of `[[rule]]`: `max_...` or `min_...`, and what it compares, in words.

    `end` chooses the lower or upper end of the figure's 95 % interval in place of the figure. `low` and
    `high` stand in for the unit's where a sensible bound lies in a narrower range.
    """

    key: str
    compares: str
    end: Literal["value", "low", "high"] = "value"
    low: float | None = None
    high: float | None = None

    @property
    def at_most(self) -> bool:
        """Whether the figure may not be above the bound; otherwise not below."""
        return self.key.startswith("max_")


@dataclass(frozen=True)
class Change:
    """The limit of `[baseline]`: how much worse than the baseline's a figure may be.

    The bound is in the figure's unit, from 0 to `high`, or a share of the baseline's figure if `relative`.
    `proven` compares the ends of the two intervals that lie next to each other, so only what is certain.
    """

    compares: str
    high: float = math.inf
    relative: bool = False
    proven: bool = False


@dataclass(frozen=True)
class Figure:
    """One figure. `name` is that of the field, filled in by `declared`.

    `label` is its name for readers, `explanation` its definition. Figures in the table of artefacts have a
    `table` line, the small print below the value, in which {name} stands for another figure; those in the
    console's table have a heading and such a text in `console`. `interval` names the field with the 95 %
    interval. `reasons` are further names under which notes may say why it is null.
    """

    label: str
    unit: Unit
    explanation: str
    needs: Needs = "nothing"
    better: Literal["higher", "lower", "neither"] = "neither"
    about: About = "accuracy"
    interval: str = ""
    table: str | None = None
    console: tuple[str, str] | None = None
    limits: tuple[Limit, ...] = ()
    change: Change | None = None
    reasons: tuple[str, ...] = ()
    name: str = ""

    def text(self, value: Any) -> str:
        """A value as readers see it; a dash for null, both ends of an interval."""
        if value is None:
            return DASH
        if isinstance(value, list | tuple):
            return f"{self.unit.text(value[0])} to {self.unit.text(value[1])}"
        return self.unit.text(value)

    @property
    def change_key(self) -> str:
        """The key of its limit in `[baseline]`."""
        return f"max_{self.name}_{'decrease' if self.better == 'higher' else 'increase'}"

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        schema = handler(source)
        _bound(schema, self.unit.span)
        return schema

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        unit = f" In {self.unit.words}." if self.unit.words else ""
        return {**handler(schema), "description": f"{self.explanation}{unit}"}


def _bound(schema: Any, span: Mapping[str, float]) -> None:
    """Put the bounds of a unit on the numbers of a pydantic schema; narrower ones of the type stay."""
    if schema["type"] == "nullable":
        _bound(schema["schema"], span)
    elif schema["type"] == "tuple":
        for one in schema["items_schema"]:
            _bound(one, span)
    elif schema["type"] in ("float", "int"):
        for name, value in span.items():
            if name not in schema and not (name == "ge" and "gt" in schema):
                schema[name] = value


def declared(kind: type) -> dict[str, Figure]:
    """Name -> figure, of the fields of a dataclass and then of its properties, in their order."""
    hints = get_type_hints(kind, include_extras=True)
    members = [item for one in reversed(kind.__mro__) for item in vars(one).items()]
    for name, member in members:
        if isinstance(member, property) and member.fget is not None:
            hints[name] = get_type_hints(member.fget, include_extras=True).get("return")
    return {
        name: replace(one, name=name)
        for name, hint in hints.items()
        for one in get_args(hint)
        if isinstance(one, Figure)
    }
