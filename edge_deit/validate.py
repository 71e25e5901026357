"""Measure exported files against their float model: `python -m edge_deit.validate`."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from edge_deit.artefacts.artefact import read_artefacts
from edge_deit.artefacts.float_model import find_float_models
from edge_deit.artefacts.photos import open_photos
from edge_deit.common.console import new_app, out, run
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import write_text
from edge_deit.common.host import ARM_NOTE, describe_host, peak_memory_bytes
from edge_deit.data.labels import read_label_choice
from edge_deit.evaluation.latency import Rounds
from edge_deit.evaluation.results import data_result
from edge_deit.evaluation.run import Settings, _as_given, _now, _on_phones, measure
from edge_deit.report.device_report import read_device_report
from edge_deit.report.figures import console_heads, console_row
from edge_deit.report.html import write_html
from edge_deit.report.report import ArtefactResult, DataResult, Report, write_report
from edge_deit.report.text import markdown, write_step_summary
from exporters import tool_versions

__all__ = ["validate"]

app = new_app(__doc__)


def validate(
    artefacts: Annotated[
        list[Path], typer.Argument(help="Exported files; each one's manifest lies beside it.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Class folders, labels.csv, or loose photos; default: the bundled ones."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Of a labels.csv that has splits; default: validation.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Names of the model's classes: a file, one a line, or imagenet-1k."),
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="At most so many photos, evenly spread; default: all.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="The float model, if it is not where it was at the export.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of each runtime.")] = 2,
    workers: Annotated[int, typer.Option(help="Threads that decode photos ahead.")] = 2,
    units: Annotated[
        str | None,
        typer.Option(help="Core ML on macOS: all, cpu-only, cpu-and-gpu or cpu-and-ne."),
    ] = None,
    latency: Annotated[
        bool, typer.Option(help="Measure latency, load time and memory too.")
    ] = True,
    runs: Annotated[int, typer.Option(help="Timed inferences of each model.")] = 40,
    layers: Annotated[
        bool, typer.Option(help="Compare the layers' outputs with the float model's.")
    ] = False,
    layer_images: Annotated[int, typer.Option(help="Photos for --layers.")] = 8,
    device_report: Annotated[
        list[Path] | None, typer.Option(help="What the phone app shared; may be repeated.")
    ] = None,
    strict: Annotated[bool, typer.Option(help="A broken photo is an error.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for report.json, .html and .md.")] = Path(
        "report"
    ),
) -> None:
    """Accuracy, speed and size of artefacts, beside the float model on the same photos.

    Example: python -m edge_deit.validate out/deit_tiny.int8.tflite --data photos/

    An interrupted run goes on where it stopped when it is started again with the same files and photos.
    Latency is measured side by side with the float model, each in a process of its own; only the ratio is
    worth quoting. A file whose real runtime is not here gets none.
    """
    started = time.monotonic()
    if min(threads, workers, runs, layer_images, 1 if images is None else images) < 1:
        raise EdgeDeitError(
            "--threads, --workers, --runs, --images and --layer-images must be at least 1"
        )
    choice = None if labels is None else read_label_choice(labels)
    environment = describe_host(tool_versions())
    found = read_artefacts(artefacts)
    phones = [read_device_report(path) for path in device_report or []]
    baselines = find_float_models(found, weights)
    with open_photos(data, split, images, baselines) as listing:
        for line in listing.remarks():
            out().print(line, markup=False, highlight=False)
        output.mkdir(parents=True, exist_ok=True)
        plan = Settings(
            listing=listing,
            labels=choice,
            threads=threads,
            workers=workers,
            strict=strict,
            units=units,
            rounds=Rounds(runs) if latency else None,
            layer_images=layer_images if layers else 0,
        )
        results: list[ArtefactResult] = []
        journals = []
        described: DataResult | None = None
        for number, baseline in enumerate(baselines):
            journal = output / f".validate-{number}.jsonl"
            seen, measured = measure(plan, baseline, journal)
            journals.append(journal)
            described = data_result(seen, str(data or "bundled"), listing.split)
            results += measured
        assert described is not None
        results = [replace(one, device=_on_phones(one, phones)) for one in results]
        report = Report(_now(), environment, described, _as_given(results, artefacts))
        _write(report, output, listing.root)
        for journal in journals:
            journal.unlink()
    _summary(report, output, time.monotonic() - started)


# Output


def _write(report: Report, output: Path, root: Path) -> None:
    text = markdown(report, None)
    write_html(report, output / "report.html", data_root=root)
    write_text(output / "report.md", text)
    write_report(report, output / "report.json")
    write_step_summary(text)


def _summary(report: Report, output: Path, seconds: float) -> None:
    data = report.data
    title = f"{data.images} photos against the float model"
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column("artefact", overflow="fold")
    for name in console_heads():
        table.add_column(name, justify="right")
    for one in report.artefacts:
        table.add_row(*map(Text, (one.name, *console_row(one))))
    out().print(table)
    out().print("latency: p50 / float's; size: share of float32", markup=False)
    for reason in sorted({text for one in report.artefacts for text in one.notes.values()}):
        out().print(f"- {reason}", markup=False)
    if data.broken:
        names = ", ".join(one.file for one in data.broken[:3])
        more = f" and {len(data.broken) - 3} more" if len(data.broken) > 3 else ""
        out().print(f"{len(data.broken)} broken photos left out: {names}{more}", markup=False)
    if report.environment["vnni"] is not None and any(o.latency_ratio for o in report.artefacts):
        out().print(ARM_NOTE, markup=False)
    out().print(
        f"{output / 'report.html'}, .json and .md; {seconds:.0f} s, peak {peak_memory_bytes() / 1e9:.1f} GB"
    )


app.command()(validate)

if __name__ == "__main__":
    run(app, "python -m edge_deit.validate")
