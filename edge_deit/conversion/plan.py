"""What an export was asked for: each target with its scheme and backend, refused before long work."""

from __future__ import annotations

from collections.abc import Sequence

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Progress
from edge_deit.exporters import TARGETS, Form, Target
from edge_deit.exporters import target as find_target
from edge_deit.quantization.scheme import PRECISIONS, Precision, Scheme

__all__ = ["Item", "calibration_needed", "check_form", "make_plan"]

Item = tuple[Target, Scheme, str]
"""A target, what it is to make, and the backend that is to execute it."""


def make_plan(
    names: Sequence[str] | None,
    precisions: Sequence[Precision],
    keep_float: Sequence[str],
    backend: str | None,
    progress: Progress,
) -> list[Item]:
    """Every file to write, precision by precision.

    Without `names` all targets are meant, and those that lack a precision are left out with a note, and so
    are betas that are not installed.

    Raises:
        EdgeDeitError: an unknown name, a precision that a named target lacks, packages that are missing.
    """
    targets = [find_target(name) for name in (TARGETS if names is None else dict.fromkeys(names))]
    if names is None:
        targets = _present(targets, progress)
    if keep_float and not any(_keeps_float(name) for name in precisions):
        raise EdgeDeitError(
            "--keep-float means nothing without an int8, int4 or palettized precision; leave it out"
        )
    plan: list[Item] = []
    for name in dict.fromkeys(precisions):
        if name not in PRECISIONS:
            raise EdgeDeitError(
                f"unknown precision {name!r}; choose one of: {', '.join(PRECISIONS)}"
            )
        scheme = Scheme(name, tuple(keep_float) if _keeps_float(name) else ())
        able = [one for one in targets if names is not None or name in one.precisions]
        for one in able:
            one.check(name)
            plan.append((one, scheme, _backend(one, backend)))
        if skipped := [one.name for one in targets if one not in able]:
            progress.note(f"no {name} in {', '.join(skipped)}: left out")
    if not plan:
        raise EdgeDeitError("nothing to export: no target or no precision was named")
    return plan


def _keeps_float(precision: str) -> bool:
    """Whether layers of such a file can be left in float."""
    return precision.startswith(("int", "palettized"))


def _present(targets: Sequence[Target], progress: Progress) -> list[Target]:
    """All but those whose packages are betas and not the ones that were tested; a note says so."""
    found = []
    for one in targets:
        if one.beta and (remedy := one.remedy()) is not None:
            progress.note(f"{one.name} is left out: {remedy}")
        else:
            found.append(one)
    return found


def check_form(plan: Sequence[Item], form: Form | None) -> None:
    """Refuse a form for targets that have but one.

    Raises:
        EdgeDeitError: it names them, and those that have several.
    """
    if form is None:
        return
    if single := dict.fromkeys(target.name for target, _, _ in plan if not target.forms):
        several = ", ".join(name for name in TARGETS if find_target(name).forms)
        raise EdgeDeitError(
            f"--form means nothing for {', '.join(single)}; it is for {several}: name that as --target"
        )


def calibration_needed(plan: Sequence[Item]) -> list[str]:
    """Names of the precisions that are not made without calibration photos."""
    found = (scheme for _, scheme, _ in plan if scheme.needs_calibration)
    return list(dict.fromkeys("int8" if one.quantized else one.precision for one in found))


def _backend(target: Target, name: str | None) -> str:
    if name is None:
        return target.backends[0]
    if name not in target.backends:
        raise EdgeDeitError(
            f"target {target.name} has no backend {name!r}; it has: {', '.join(target.backends)}"
        )
    return name
