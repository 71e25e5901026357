"""Weights to checked files: what `export` runs."""

from __future__ import annotations

import shutil
from pathlib import Path

from edge_deit.checkpoint.load import Checkpoint
from edge_deit.common.console import progress, status_console
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.calibration import CalibrationSet
from edge_deit.model.form import DeployDeiT
from edge_deit.quantization.condition import (
    Conditioned,
    condition,
    condition_without_photos,
    passes,
)
from edge_deit.quantization.scheme import PRECISIONS, Precision, Scheme
from exporters import TARGETS, Target
from exporters import target as find_target


def _plan(
    target: str, precisions: list[str], keep_float: list[str], backend: str | None
) -> list[tuple[Target, Scheme, str]]:
    names = list(TARGETS) if target == "all" else [target]
    targets = [find_target(name) for name in names]
    plan = []
    for name in dict.fromkeys(precisions):
        if name not in PRECISIONS:
            raise EdgeDeitError(
                f"unknown precision {name!r}; choose one of: {', '.join(PRECISIONS)}"
            )
        precision: Precision = name
        scheme = Scheme(precision, tuple(keep_float) if name.startswith("int8") else ())
        able = [t for t in targets if target != "all" or precision in t.precisions]
        if keep_float and not any(p.startswith("int8") for p in precisions):
            raise EdgeDeitError(
                "--keep-float means nothing without an int8 precision; leave it out"
            )
        for chosen in able:
            chosen.check(precision)
            plan.append((chosen, scheme, _backend(chosen, backend)))
        if skipped := [t.name for t in targets if t not in able]:
            status_console().print(f"no {precision} in {', '.join(skipped)}: left out")
    return plan


def _backend(target: Target, name: str | None) -> str:
    if name is None:
        return target.backends[0]
    if name not in target.backends:
        raise EdgeDeitError(
            f"target {target.name} has no backend {name!r}; it has: {', '.join(target.backends)}"
        )
    return name


def _check_space(checkpoint: Checkpoint, output: Path) -> None:
    need = 6 * sum(p.numel() * 4 for p in checkpoint.model.parameters())
    free = shutil.disk_usage(output).free
    if free < need:
        raise EdgeDeitError(
            f"{output} has {free / 1e6:.0f} MB free, an export needs about {need / 1e6:.0f} MB; "
            "free some space or choose another --output"
        )


def _condition(
    form: DeployDeiT, checkpoint: Checkpoint, photos: CalibrationSet | None
) -> Conditioned:
    if photos is None:
        return condition_without_photos(form, checkpoint.preprocess)
    with progress() as bar:
        task = bar.add_task("conditioning", total=passes(len(photos)))
        return condition(form, photos, checkpoint.preprocess, on_photo=lambda: bar.advance(task))
