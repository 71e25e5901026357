"""Run exported files on emulated Arm cores and count instructions: `python -m edge_deit.arm64`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from edge_deit.common.console import Bars, new_app, out, run, status_console
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.text import visible

if TYPE_CHECKING:
    from edge_deit.emulation.check import ArmResult

__all__ = ["arm64"]

app = new_app(__doc__)


def arm64(
    artefacts: Annotated[
        list[Path] | None,
        typer.Argument(help="Exported files; each one's manifest lies beside it."),
    ] = None,
    setup: Annotated[
        bool, typer.Option("--setup", help="First download and build what is missing.")
    ] = False,
    cpu: Annotated[
        list[str] | None,
        typer.Option(help="cortex-a53, cortex-a76 (default) or i8mm; may be repeated."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Class folders, labels.csv, or loose photos; default: the bundled ones."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Of a labels.csv that has splits; default: validation.")
    ] = None,
    images: Annotated[int, typer.Option(help="Photos, evenly spread.")] = 4,
    weights: Annotated[
        str | None, typer.Option(help="The float model, if it is not where it was at the export.")
    ] = None,
    fp32: Annotated[
        list[Path] | None,
        typer.Option(help="The fp32 artefact for the ratio, if it is not named already."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Artefacts at a time; default: one a processor.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="A report.json of validate that the result is added to.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for arm64.json.")] = Path("report"),
) -> None:
    """What artefacts compute and cost on an Arm core, without one.

    Example: python -m edge_deit.arm64 out/deit_tiny.fp32.tflite out/deit_tiny.int8.tflite --data photos/

    The runtimes' own Arm builds run under emulation. Logits are compared with those on this machine and
    with the float model's, and the executed instructions are counted; they are no time. Exits with 1 when
    an artefact gives answers that it excludes on this machine, is noisier than here, or its counts do not
    repeat.
    """
    from edge_deit.emulation.run import measure_arm64

    if setup:
        _set_up()
        if not artefacts:
            return
    if not artefacts:
        raise EdgeDeitError("name at least one artefact, or --setup")
    with Bars() as bars:
        results = measure_arm64(
            artefacts,
            cpus=cpu or ["cortex-a76"],
            data=data,
            split=split,
            images=images,
            weights=weights,
            fp32=fp32 or [],
            jobs=jobs,
            report=report,
            output=output,
            progress=bars,
        )
    _print(results)
    out().print(f"{output / 'arm64.json'}")
    if wrong := [f"{one.artefact.path.name}: {text}" for one in results for text in one.problems]:
        print(*(f"failed: {visible(line)}" for line in wrong), sep="\n", file=sys.stderr)
        raise typer.Exit(1)


def _set_up() -> None:
    """Download, build and try out."""
    from edge_deit.emulation.emulator import warm_up
    from edge_deit.emulation.setup import native, set_up
    from edge_deit.emulation.sysroot import RUNTIMES

    if native():
        out().print("this is an Arm machine: the runtimes run natively, nothing is set up")
        return
    console = status_console()
    set_up(lambda line: console.print(line))
    for target in RUNTIMES:
        warm_up(target)
    out().print("the Arm runtimes and the instruction counter are set up")


def _print(results: Sequence[ArmResult]) -> None:
    """A table an artefact, then what the words mean."""
    for one in results:
        title = one.artefact.path.name
        table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=0)
        table.add_column("core", no_wrap=True)
        for name in ("instructions", "/ fp32", "spread", "max diff", "SNR dB", "same answer"):
            table.add_column(name, justify="right")
        kinds = []
        for cpu, entry in one.arm64["cpus"].items():
            table.add_row(cpu, *_cells(entry))
            if entry["instructions"]:
                kinds.append(f"{cpu}: {_kinds(entry)}")
        out().print(table)
        for line in (*kinds, *one.remarks, f"{one.arm64['runtime']}: {one.arm64['note']}"):
            out().print(line)
    out().print("max diff, same answer: from x86's; SNR: to x86's / to the float model's logits")


def _cells(entry: Mapping[str, Any]) -> list[str]:
    def show(value: float | None, form: str) -> str:
        return "-" if value is None else form.format(value)

    count, share = entry["instructions"], entry["same_argmax_as_x86"]
    return [
        show(None if count is None else count / 1e6, "{:.1f} M"),
        show(entry["ratio_to_fp32"], "{:.3f}"),
        show(entry["repeat_spread"], "{:.3%}"),
        show(entry["max_abs_to_x86"], "{:.2g}"),
        f"{show(entry['snr_db_to_x86'], '{:.1f}')} / {entry['snr_db_to_float']:.1f}",
        show(share, "{:.0%}"),
    ]


def _kinds(entry: Mapping[str, Any]) -> str:
    """The kinds of instructions that make up at least a hundredth."""
    total = entry["instructions"]
    shares = ((kind, count / total) for kind, count in entry["classes"].items())
    return ", ".join(f"{share:.0%} {kind}" for kind, share in shares if share >= 0.01)


app.command()(arm64)

if __name__ == "__main__":
    run(app, "python -m edge_deit.arm64")
