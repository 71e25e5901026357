#!/usr/bin/env python3
"""How often the default limits would fail a good artefact that was validated on few photos.

    python benchmarks/false_alarms.py ARTEFACT... --data DIR [--subsets 50] [--images 100]

Each artefact runs on all photos once. Then random subsets of them are judged as if each were a validation
of its own, with the same tallies and the same gate. A good artefact must pass every time.
"""

from __future__ import annotations

import random
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edge_deit.artefacts.artefact import read_artefacts
from edge_deit.artefacts.float_model import FloatModel, find_float_models
from edge_deit.artefacts.photos import open_photos
from edge_deit.artefacts.runners import open_runner
from edge_deit.common.console import new_app, progress, run
from edge_deit.common.host import describe_host
from edge_deit.data.labels import match_labels
from edge_deit.evaluation.accuracy import Evaluation, EvaluationRequest, judge
from edge_deit.evaluation.journal import Judged
from edge_deit.evaluation.results import Measured, artefact_result, data_result
from edge_deit.evaluation.tally import Tally
from edge_deit.exporters import tool_versions
from edge_deit.gating.judge import judge_report
from edge_deit.gating.thresholds import read_thresholds
from edge_deit.report.report import Report
from tables.grid import Grid, show

__all__ = ["false_alarms"]

app = new_app(__doc__)

_ROOT = Path(__file__).resolve().parents[1]


@app.command()
def false_alarms(
    artefacts: Annotated[list[Path], typer.Argument(help="Good files, of one model.")],
    data: Annotated[Path, typer.Option(help="Labelled photos.")],
    thresholds: Annotated[Path, typer.Option()] = _ROOT / "thresholds.toml",
    subsets: Annotated[int, typer.Option(help="How many draws.")] = 50,
    images: Annotated[int, typer.Option(help="Photos a draw.")] = 100,
    threads: Annotated[int, typer.Option()] = 2,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Count the draws in which the gate fails."""
    (float_model,) = find_float_models(read_artefacts(artefacts), None)
    lines = _lines(float_model, data, threads)
    limits = read_thresholds(thresholds)
    generator = random.Random(seed)  # noqa: S311 # which photos are drawn is no secret
    failed: dict[str, list[str]] = {path.name: [] for path in artefacts}
    drops: dict[str, list[float]] = {path.name: [] for path in artefacts}
    for _ in range(subsets):
        report = _report(float_model, generator.sample(lines, images), threads)
        for one in report.artefacts:
            drops[one.name].append(one.top1_drop or 0.0)
        for check in judge_report(report, limits).checks:
            if check.status != "passed":
                failed[check.artefact].append(check.message)
    rows = tuple(
        (name, str(len(messages)), f"{min(drops[name]):.1f} to {max(drops[name]):.1f}")
        for name, messages in failed.items()
    )
    show(
        Grid(
            f"{subsets} draws of {images} photos of {len(lines)}, limits of {thresholds.name}",
            ("artefact", "failed checks", "top-1 drop in the draws, points"),
            rows,
            tuple(sorted({message for messages in failed.values() for message in messages})),
        )
    )
    raise typer.Exit(1 if any(failed.values()) else 0)


def _lines(float_model: FloatModel, data: Path, threads: int) -> list[Judged]:
    """What every photo showed."""
    checkpoint = float_model.checkpoint
    with ExitStack() as stack:
        listing = stack.enter_context(open_photos(data, None, None, [float_model]))
        bar = stack.enter_context(progress())
        models = {
            str(one.path): stack.enter_context(open_runner(one, threads))
            for one in float_model.artefacts
        }
        request = EvaluationRequest(
            photos=match_labels(listing, checkpoint.labels).photos,
            root=listing.root,
            spec=checkpoint.preprocess,
            labels=checkpoint.labels,
            reference=float_model,
            models=models,
            key={},
            journal=None,
            workers=2,
            strict=True,
        )
        judged = bar.track(judge(request), total=len(listing), description="photos")
        return [one for one in judged if isinstance(one, Judged)]


def _report(float_model: FloatModel, lines: list[Judged], threads: int) -> Report:
    """The report of a validation that saw only these photos."""
    seen = Evaluation(
        {str(one.path): Tally(float_model.checkpoint.labels) for one in float_model.artefacts}
    )
    for line in lines:
        seen.add(line)
    results = tuple(
        artefact_result(Measured(one, seen.tallies[str(one.path)], "runtime", threads), float_model)
        for one in float_model.artefacts
    )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Report(created, describe_host(tool_versions()), data_result(seen, "draw", None), results)


if __name__ == "__main__":
    run(app, "python benchmarks/false_alarms.py")
