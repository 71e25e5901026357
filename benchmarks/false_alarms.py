#!/usr/bin/env python3
"""How often the default limits would fail a good artefact that was validated on few photos.

    python benchmarks/false_alarms.py ARTEFACT... --data DIR [--subsets 50] [--images 100]

Each artefact runs on all photos once. Then random subsets of them are judged as if each were a validation
of its own, with the same tallies and the same gate. A good artefact must pass every time.
"""

from __future__ import annotations

import json
import random
import tempfile
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
from edge_deit.common.quiet import quiet
from edge_deit.data.labels import match_labels
from edge_deit.evaluation.accuracy import Evaluation, EvaluationRequest, evaluate
from edge_deit.evaluation.results import Measured, artefact_result, data_result
from edge_deit.evaluation.tally import Tally
from edge_deit.gating.judge import judge_report
from edge_deit.gating.thresholds import read_thresholds
from edge_deit.report.report import Report
from exporters import tool_versions
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
    (baseline,) = find_float_models(read_artefacts(artefacts), None)
    lines = _lines(baseline, data, threads)
    limits = read_thresholds(thresholds)
    generator = random.Random(seed)  # noqa: S311 # which photos are drawn is no secret
    failed: dict[str, list[str]] = {path.name: [] for path in artefacts}
    drops: dict[str, list[float]] = {path.name: [] for path in artefacts}
    for _ in range(subsets):
        report = _report(baseline, generator.sample(lines, images), threads)
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


def _lines(baseline: FloatModel, data: Path, threads: int) -> list[dict[str, object]]:
    """What every photo showed, as the journal has it."""
    checkpoint = baseline.checkpoint
    with (
        tempfile.TemporaryDirectory() as folder,
        open_photos(data, None, None, [baseline]) as listing,
    ):
        journal = Path(folder) / "journal.jsonl"
        with quiet():
            models = {str(o.path): open_runner(o.path, threads) for o in baseline.artefacts}
        task = EvaluationRequest(
            photos=match_labels(listing, checkpoint.labels).photos,
            root=listing.root,
            spec=checkpoint.preprocess,
            labels=checkpoint.labels,
            reference=baseline,
            models=models,
            key={},
            journal=journal,
            workers=2,
            strict=True,
        )
        with progress() as bar, quiet():
            step = bar.add_task("photos", total=len(listing))
            evaluate(task, on_photo=lambda: bar.advance(step))
        return [json.loads(line) for line in journal.read_text().splitlines()[1:]]


def _report(baseline: FloatModel, lines: list[dict[str, object]], threads: int) -> Report:
    """The report of a validation that saw only these photos."""
    seen = Evaluation(
        {str(one.path): Tally(baseline.checkpoint.labels) for one in baseline.artefacts}
    )
    for line in lines:
        seen.add(line)
    results = tuple(
        artefact_result(Measured(one, seen.tallies[str(one.path)], "runtime", threads), baseline)
        for one in baseline.artefacts
    )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Report(created, describe_host(tool_versions()), data_result(seen, "draw", None), results)


if __name__ == "__main__":
    run(app, "python benchmarks/false_alarms.py")
