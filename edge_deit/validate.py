"""Measure exported files against their float model: `python -m edge_deit.validate`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from edge_deit.common.console import Bars, new_app, out, run
from edge_deit.common.host import ARM_NOTE, peak_memory_bytes

if TYPE_CHECKING:
    from edge_deit.report.report import Report

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
    workers: Annotated[int, typer.Option(help="Processes that decode photos ahead.")] = 2,
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
    layer_images: Annotated[int, typer.Option(min=1, help="Photos for --layers.")] = 8,
    device_report: Annotated[
        list[Path] | None,
        typer.Option(
            help="What the phone app or web page shared; may be repeated. edge_deit.device shows one alone."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option(help="A broken photo is an error.")] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Spread photos over this Ray cluster: HOST:PORT or auto. Without latency.",
        ),
    ] = None,
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
    from edge_deit.evaluation.run import validate_artefacts
    from edge_deit.report.text import markdown, write_step_summary

    started = time.monotonic()
    with Bars() as bars:
        report = validate_artefacts(
            artefacts,
            data=data,
            split=split,
            labels=labels,
            images=images,
            weights=weights,
            threads=threads,
            workers=workers,
            units=units,
            runs=runs if latency else None,
            layer_images=layer_images if layers else 0,
            device_reports=device_report or [],
            strict=strict,
            ray=ray,
            output=output,
            progress=bars,
        )
    write_step_summary(markdown(report, None))
    _summary(report, output, time.monotonic() - started)


# Output


def _summary(report: Report, output: Path, seconds: float) -> None:
    from edge_deit.report.device_rows import phone_lines
    from edge_deit.report.figures import console_heads, console_row
    from edge_deit.report.html import no_html

    data = report.data
    title = f"{data.images} photos against the float model"
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column("artefact", overflow="fold")
    for name in console_heads():
        table.add_column(name, justify="right")
    for one in report.artefacts:
        table.add_row(one.name, *console_row(one))
    out().print(table)
    out().print("latency: p50 / float's; size: share of float32")
    for line in phone_lines(report):
        out().print(f"- {line}")
    for reason in sorted({text for one in report.artefacts for text in one.notes.values()}):
        out().print(f"- {reason}")
    if data.broken:
        names = ", ".join(one.file for one in data.broken[:3])
        more = f" and {len(data.broken) - 3} more" if len(data.broken) > 3 else ""
        out().print(f"{len(data.broken)} broken photos left out: {names}{more}")
    if report.environment["vnni"] is not None and any(o.latency_ratio for o in report.artefacts):
        out().print(ARM_NOTE)
    if (absent := no_html()) is not None:
        out().print(absent)
    written = ".html, .json and .md" if absent is None else ".json and .md"
    out().print(
        f"{output / 'report'}{written}; {seconds:.0f} s, peak {peak_memory_bytes() / 1e9:.1f} GB"
    )


app.command()(validate)

if __name__ == "__main__":
    run(app, "python -m edge_deit.validate")
