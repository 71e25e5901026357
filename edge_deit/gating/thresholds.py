"""What `thresholds.toml` may say: limits for artefacts, and limits on the loss since a baseline.

Which limits there are, in which unit and range, stands with the figures that they are on.
"""

from __future__ import annotations

import math
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import decode_text, read_bytes
from edge_deit.gating.limits import (
    ARM64,
    ARM64_LIMIT,
    BASELINE,
    DEVICE_LIMITS,
    LIMITS,
    Bound,
    FigureLimit,
)
from edge_deit.report.report import ArtefactResult

__all__ = ["Rule", "Thresholds", "read_thresholds"]


_PATTERNS: Final = ("artefact", "target", "precision", "weights")
_SWITCHES: Final = ("optional", "approximation")


@dataclass(frozen=True)
class Rule:
    """Limits on the artefacts that match four patterns (`*`, `?`, `[...]`).

    `artefact` is matched with the file name, `weights` with the sha256 of the float model's weights.
    `approximation` True is for files that merge tokens alone, False for all others, None for both.
    `limits` is keyed as `LIMITS`; `arm64` maps an emulated core to its largest ratio of instructions to the
    float file's, `devices` each key of `DEVICE_LIMITS` to bounds by the devices' models. An `optional` rule
    may match nothing.
    """

    artefact: str = "*"
    target: str = "*"
    precision: str = "*"
    weights: str = "*"
    limits: Mapping[str, float] = field(default_factory=dict)
    arm64: Mapping[str, float] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    optional: bool = False
    approximation: bool | None = None

    def matches(self, result: ArtefactResult) -> bool:
        """Whether all patterns match, upper and lower case being different."""
        return (
            fnmatchcase(result.name, self.artefact)
            and fnmatchcase(result.target, self.target)
            and fnmatchcase(result.precision, self.precision)
            and fnmatchcase(result.weights_sha256, self.weights)
            and self.approximation in (None, result.is_approximation)
        )

    def __str__(self) -> str:
        patterns = {name: getattr(self, name) for name in _PATTERNS}
        narrow = [f"{name} {pattern!r}" for name, pattern in patterns.items() if pattern != "*"]
        if self.approximation is not None:
            narrow.append(f"approximation {str(self.approximation).lower()}")
        return ", ".join(narrow) or "every artefact"


@dataclass(frozen=True)
class Thresholds:
    """A whole file; `baseline` is keyed as `BASELINE`.

    Every artefact needs a rule, unless `ignore_unmatched`.
    """

    rules: tuple[Rule, ...]
    baseline: Mapping[str, float] = field(default_factory=dict)
    ignore_unmatched: bool = False


def read_thresholds(path: Path) -> Thresholds:
    """Read a `thresholds.toml`.

    Raises:
        EdgeDeitError: missing, not TOML, no rule, an unknown key, or a value of a wrong type or range.
    """
    content = read_bytes(
        path,
        what="thresholds file",
        remedy="name yours with --thresholds, or start from the thresholds.toml of Edge DeiT's repository",
    )
    try:
        data = tomllib.loads(decode_text(content))
    except RecursionError:
        raise EdgeDeitError(f"{path} is not TOML: it is nested too deeply") from None
    except ValueError as error:  # of the decoding, of TOML, or of a number with thousands of digits
        raise EdgeDeitError(f"{path} is not TOML: {error}") from error
    _refuse_unknown(data, ("unmatched", "rule", "baseline"), f"{path}")
    unmatched = data.get("unmatched", "error")
    if unmatched not in ("error", "ignore"):
        raise EdgeDeitError(f"{path}: unmatched is {_short(unmatched)}; write 'error' or 'ignore'")
    rules, baseline = data.get("rule"), data.get("baseline", {})
    if not isinstance(rules, list) or not rules:
        raise EdgeDeitError(f"{path} has no [[rule]] table; a gate without limits judges nothing")
    if not isinstance(baseline, dict):
        raise EdgeDeitError(
            f"{path}: baseline is {_short(baseline)}; write it as a table, [baseline]"
        )
    where = f"{path}, [baseline]"
    _refuse_unknown(baseline, BASELINE, where)
    return Thresholds(
        rules=tuple(_rule(rule, f"{path}, rule {n}") for n, rule in enumerate(rules, start=1)),
        baseline={
            name: _number(name, value, where, BASELINE[name].bound)
            for name, value in baseline.items()
        },
        ignore_unmatched=unmatched == "ignore",
    )


def _rule(data: Any, where: str) -> Rule:
    if not isinstance(data, dict):
        raise EdgeDeitError(f"{where} is {_short(data)}; write it as a table, [[rule]]")
    _refuse_unknown(data, (*_PATTERNS, *_SWITCHES, *LIMITS, ARM64, *DEVICE_LIMITS), where)
    for name in _PATTERNS:
        if not isinstance(data.get(name, "*"), str) or not data.get(name, "*"):
            raise EdgeDeitError(
                f"{where}: {name} is {_short(data[name])}; write a pattern such as '*'"
            )
    for name in _SWITCHES:
        if not isinstance(data.get(name, False), bool):
            raise EdgeDeitError(f"{where}: {name} is {_short(data[name])}; write true or false")
    limits = {
        name: _number(name, data[name], where, limit.bound)
        for name, limit in LIMITS.items()
        if name in data
    }
    arm64 = _table(data, ARM64, "CORE = RATIO", ARM64_LIMIT, where)
    devices = {
        name: table
        for name, limit in DEVICE_LIMITS.items()
        if (table := _table(data, name, '"DEVICE" = LIMIT', limit, where))
    }
    if not limits and not arm64 and not devices:
        known = ", ".join((*LIMITS, ARM64, *DEVICE_LIMITS))
        raise EdgeDeitError(f"{where} sets no limit; there are: {known}")
    patterns = {name: data[name] for name in _PATTERNS if name in data}
    switches = {name: data[name] for name in _SWITCHES if name in data}
    return Rule(**patterns, limits=limits, arm64=arm64, devices=devices, **switches)


def _table(
    data: Mapping[str, Any], key: str, form: str, limit: FigureLimit, where: str
) -> dict[str, float]:
    """A limit with a bound for each core or device."""
    found = data.get(key, {})
    if not isinstance(found, dict):
        raise EdgeDeitError(f"{where}: {key} is {_short(found)}; write {{ {form}, ... }}")
    return {
        name: _number(f"{key}.{name}", value, where, limit.bound) for name, value in found.items()
    }


def _number(name: str, value: Any, where: str, bound: Bound) -> float:
    """A limit as a float, within its range; TOML's `nan` and `inf` are refused too."""
    wanted = (int,) if bound.whole else (int, float)  # not bool, which is an int to Python
    if type(value) in wanted and bound.low <= value <= min(bound.high, sys.float_info.max):
        return float(value)
    kind = "a whole number" if bound.whole else "a number"
    open_end = math.isinf(bound.high)
    span = f"of at least {bound.low:g}" if open_end else f"from {bound.low:g} to {bound.high:g}"
    said = f"it must be {kind} {span}{bound.hint}"
    raise EdgeDeitError(f"{where}: {name} is {_short(value)}; {said}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse_unknown(data: Mapping[str, Any], known: Any, where: str) -> None:
    if unknown := [key for key in data if key not in known]:
        raise EdgeDeitError(
            f"{where}: unknown key {_short(unknown[0])}; known are: {', '.join(known)}"
        )
