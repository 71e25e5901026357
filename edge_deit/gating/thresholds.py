"""What `thresholds.toml` may say: limits for artefacts, and limits on the loss since a baseline.

`LIMITS` and `BASELINE` are the tables of all limits, one row each; the reader, the gate and the messages
follow from them.
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
from edge_deit.gating.limits import ARM64, BASELINE, LIMITS
from edge_deit.report.report import ArtefactResult

__all__ = ["Rule", "Thresholds", "read_thresholds"]


_PATTERNS: Final = ("artefact", "target", "precision", "weights")


@dataclass(frozen=True)
class Rule:
    """Limits on the artefacts that match four patterns (`*`, `?`, `[...]`).

    `artefact` is matched with the file name, `weights` with the sha256 of the float model's weights.
    `limits` is keyed as `LIMITS`; `arm64` maps an emulated core to its largest ratio of instructions to the
    float file's. An `optional` rule may match nothing.
    """

    artefact: str = "*"
    target: str = "*"
    precision: str = "*"
    weights: str = "*"
    limits: Mapping[str, float] = field(default_factory=dict)
    arm64: Mapping[str, float] = field(default_factory=dict)
    optional: bool = False

    def matches(self, result: ArtefactResult) -> bool:
        """Whether all patterns match, upper and lower case being different."""
        return (
            fnmatchcase(result.name, self.artefact)
            and fnmatchcase(result.target, self.target)
            and fnmatchcase(result.precision, self.precision)
            and fnmatchcase(result.weights_sha256, self.weights)
        )

    def __str__(self) -> str:
        patterns = {name: getattr(self, name) for name in _PATTERNS}
        narrow = [f"{name} {pattern!r}" for name, pattern in patterns.items() if pattern != "*"]
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
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EdgeDeitError(
            f"thresholds {path} do not exist; name yours with --thresholds, or start from the "
            "thresholds.toml of Edge DeiT's repository"
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise EdgeDeitError(f"{path} is not TOML: {error}") from error
    _refuse_unknown(data, ("unmatched", "rule", "baseline"), f"{path}")
    unmatched = data.get("unmatched", "error")
    if unmatched not in ("error", "ignore"):
        raise EdgeDeitError(f"{path}: unmatched is {unmatched!r}; write 'error' or 'ignore'")
    rules, baseline = data.get("rule"), data.get("baseline", {})
    if not isinstance(rules, list) or not rules:
        raise EdgeDeitError(f"{path} has no [[rule]] table; a gate without limits judges nothing")
    if not isinstance(baseline, dict):
        raise EdgeDeitError(f"{path}: baseline is {baseline!r}; write it as a table, [baseline]")
    where = f"{path}, [baseline]"
    _refuse_unknown(baseline, BASELINE, where)
    return Thresholds(
        rules=tuple(_rule(rule, f"{path}, rule {n}") for n, rule in enumerate(rules, start=1)),
        baseline={
            name: _number(name, value, where, 0.0, BASELINE[name].high)
            for name, value in baseline.items()
        },
        ignore_unmatched=unmatched == "ignore",
    )


def _rule(data: Any, where: str) -> Rule:
    if not isinstance(data, dict):
        raise EdgeDeitError(f"{where} is {data!r}; write it as a table, [[rule]]")
    _refuse_unknown(data, (*_PATTERNS, "optional", *LIMITS, ARM64), where)
    for name in _PATTERNS:
        if not isinstance(data.get(name, "*"), str) or not data.get(name, "*"):
            raise EdgeDeitError(f"{where}: {name} is {data[name]!r}; write a pattern such as '*'")
    optional = data.get("optional", False)
    if not isinstance(optional, bool):
        raise EdgeDeitError(f"{where}: optional is {optional!r}; write true or false")
    limits = {
        name: _number(name, data[name], where, limit.low, limit.high, limit.whole)
        for name, limit in LIMITS.items()
        if name in data
    }
    cores = data.get(ARM64, {})
    if not isinstance(cores, dict):
        raise EdgeDeitError(f"{where}: {ARM64} is {cores!r}; write {{ CORE = RATIO, ... }}")
    arm64 = {core: _number(f"{ARM64}.{core}", value, where) for core, value in cores.items()}
    if not limits and not arm64:
        known = ", ".join((*LIMITS, ARM64))
        raise EdgeDeitError(f"{where} sets no limit; there are: {known}")
    patterns = {name: data[name] for name in _PATTERNS if name in data}
    return Rule(**patterns, limits=limits, arm64=arm64, optional=optional)


def _number(
    name: str,
    value: Any,
    where: str,
    low: float = 0.0,
    high: float = math.inf,
    whole: bool = False,
) -> float:
    """A bound as a float, within its range; TOML's `nan` and `inf` are refused too."""
    wanted = (int,) if whole else (int, float)  # not bool, which is an int to Python
    if type(value) in wanted and low <= value <= min(high, sys.float_info.max):
        return float(value)
    kind = "a whole number" if whole else "a number"
    span = f"of at least {low:g}" if math.isinf(high) else f"from {low:g} to {high:g}"
    hint = {1.0: ", not percent", 100.0: ", in percent or points"}.get(high, "")
    raise EdgeDeitError(f"{where}: {name} is {value!r}; it must be {kind} {span}{hint}")


def _refuse_unknown(data: Mapping[str, Any], known: Any, where: str) -> None:
    if unknown := [key for key in data if key not in known]:
        raise EdgeDeitError(f"{where}: unknown key {unknown[0]!r}; known are: {', '.join(known)}")
