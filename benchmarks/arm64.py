#!/usr/bin/env python3
"""Instructions of every artefact, ours and stock, on emulated Arm cores.

    EDGE_DEIT_REAL=FOLDER python benchmarks/arm64.py --ours DIR --stock DIR --output DIR [--into FILE.md]

Needs `python -m edge_deit.arm64 --setup`. A stock file has no manifest, so it is run here and not by the
command; ratios of all files refer to our fp32 file of the same target. Writes arm64.json and arm64.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from edge_deit.checkpoint.load import Checkpoint, load_model
from edge_deit.common.console import new_app, progress, run
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import write_text
from edge_deit.common.quiet import quiet
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import load_pixels
from edge_deit.emulation.counts import Counts, median
from edge_deit.emulation.emulator import CoreJob, Ran, emulator_version, require, run_jobs
from edge_deit.emulation.figures import COUNTED_NOTE, Core, core_entry
from edge_deit.emulation.sysroot import CPUS, RUNTIMES
from harness.candidates import Candidate, find_ours, find_stock, load, select
from harness.real import real_folder
from tables.grid import Grid, insert, show, to_markdown

__all__ = ["BARS", "Bar", "arm64"]

app = new_app(__doc__)

_ABSENT: Final = "–"  # noqa: RUF001 # an en dash, as tables have it
_KIND_SHARE: Final = 0.01  # kinds below it are summed up as "rest"


@dataclass(frozen=True)
class Bar:
    """A limit: instructions of `artefact` relative to its target's fp32 file on a core."""

    artefact: str
    cpu: str
    limit: float


BARS: Final = (
    Bar("ours/tflite/int8", "cortex-a53", 0.75),
    Bar("ours/tflite/int8", "cortex-a76", 0.40),
    Bar("ours/tflite/int8", "i8mm", 0.34),
)


@app.command()
def arm64(
    ours: Annotated[Path, typer.Option(help="Our artefacts with their manifests.")],
    output: Annotated[Path, typer.Option(help="Folder for arm64.json and arm64.md.")],
    stock: Annotated[Path | None, typer.Option(help="The stock files; default: none.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Default: EDGE_DEIT_REAL's DeiT-tiny.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Photos; default: EDGE_DEIT_REAL's.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Names such as 'ours/tflite/*'; may be repeated.")
    ] = None,
    images: Annotated[int, typer.Option(help="Photos for the numerics.")] = 20,
    cpu: Annotated[
        str, typer.Option(help="The core for them; the others run on one photo.")
    ] = "cortex-a76",
    jobs: Annotated[int, typer.Option(help="Files at a time.")] = os.cpu_count() or 1,
    into: Annotated[Path | None, typer.Option(help="Markdown file to put the tables into.")] = None,
) -> None:
    """Count on all cores, compare logits on one."""
    if cpu not in CPUS or images < 1:
        raise EdgeDeitError(f"--cpu takes {', '.join(CPUS)}; --images must be at least 1")
    weights = weights or real_folder() / "deit_tiny_patch16_224" / "model.safetensors"
    checkpoint = load_model(str(weights))
    pixels = _photos(data or real_folder() / "imagenet400", checkpoint, images)
    found = [*find_ours(ours), *(find_stock(stock) if stock else [])]
    found = [one for one in select(found, only or []) if one.target in RUNTIMES]
    require([one.target for one in found])
    keys = [(one.name, core) for one in found for core in CPUS]
    by_name = {one.name: one for one in found}
    work = [
        CoreJob(
            by_name[name].target,
            by_name[name].path,
            CPUS[core],
            pixels if core == cpu else pixels[:1],
        )
        for name, core in keys
    ]
    with progress() as bar:
        step = bar.add_task("inferences", total=sum(job.inferences for job in work))
        ran = dict(zip(keys, run_jobs(work, jobs, lambda: bar.advance(step)), strict=True))
    rows = [_row(one, ran, checkpoint, pixels) for one in found]
    result = {
        "kind": "arm64",
        "model": checkpoint.name,
        "emulator": f"qemu-user {emulator_version()}",
        "settings": {"images": images, "cpu": cpu, "weights_sha256": checkpoint.sha256},
        "artefacts": rows,
    }
    output.mkdir(parents=True, exist_ok=True)
    text = to_markdown(tables := _grids(result))
    write_text(output / "arm64.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    write_text(output / "arm64.md", text + "\n")
    if into is not None:
        write_text(into, insert(into.read_text(encoding="utf-8"), "arm64", text))
    for grid in tables:
        show(grid)


def _photos(data: Path, checkpoint: Checkpoint, images: int) -> np.ndarray:
    """(M, 3, H, W) pixels of validation photos."""
    photos = list_photos(data, use="validation").pick(images).photos
    return np.concatenate([load_pixels(photo.path, checkpoint.preprocess) for photo in photos])


def _row(
    one: Candidate,
    ran: Mapping[tuple[str, str], Ran],
    checkpoint: Checkpoint,
    pixels: np.ndarray,
) -> dict[str, Any]:
    """The figures of one artefact on all cores."""
    import torch

    with quiet(), torch.inference_mode():
        model = load(one.origin, one.target, one.path, 1)
        photos = [pixels[index : index + 1] for index in range(len(pixels))]
        x86 = np.concatenate([model(photo).reshape(1, -1) for photo in photos])
        reference = checkpoint.model(torch.from_numpy(pixels)).numpy()
    cores = {}
    for core in CPUS:
        found = ran[one.name, core]
        seen = len(found.logits)
        cores[core] = core_entry(
            Core(found.logits, x86[:seen], reference[:seen], found.repeats, _fp32(one, ran, core))
        )
    return {
        "name": one.name,
        "runtime": found.runtime,
        "sha256": one.sha256,
        "description": one.description,
        "cpus": cores,
    }


def _fp32(one: Candidate, ran: Mapping[tuple[str, str], Ran], core: str) -> Counts | None:
    """The count of our fp32 file of the same target."""
    found = ran.get((f"ours/{one.target}/fp32", core))
    return None if found is None else median(found.repeats)


# Tables


def _grids(result: Mapping[str, Any]) -> list[Grid]:
    return [_counts(result), _bars(result), _numerics(result), _kinds(result)]


def _ratio(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.3f}"


def _counts(result: Mapping[str, Any]) -> Grid:
    rows = []
    for one in result["artefacts"]:
        cells = [
            f"{entry['instructions'] / 1e6:.1f} M ({_ratio(entry['ratio_to_fp32'])})"
            for entry in one["cpus"].values()
        ]
        rows.append((one["name"], *cells))
    entries = [entry for one in result["artefacts"] for entry in one["cpus"].values()]
    worst = max(entry["repeat_spread"] for entry in entries)
    runtimes = sorted({one["runtime"] for one in result["artefacts"]})
    return Grid(
        f"{result['model']}: instructions an inference, and relative to our fp32 file",
        ("artefact", *CPUS),
        tuple(rows),
        (
            f"{COUNTED_NOTE[0].upper()}{COUNTED_NOTE[1:]}. Repeats lie {100 * worst:.3f} % apart at most. "
            f"{', '.join(runtimes)}; {result['emulator']}.",
        ),
    )


def _bars(result: Mapping[str, Any]) -> Grid:
    entries = {one["name"]: one["cpus"] for one in result["artefacts"]}
    rows = []
    for bar in BARS:
        value = entries.get(bar.artefact, {}).get(bar.cpu, {}).get("ratio_to_fp32")
        holds = "not measured" if value is None else "yes" if value <= bar.limit else "**no**"
        rows.append((bar.artefact, bar.cpu, _ratio(value), f"<= {bar.limit:g}", holds))
    return Grid("Bars", ("artefact", "core", "ratio to fp32", "limit", "holds"), tuple(rows))


def _numerics(result: Mapping[str, Any]) -> Grid:
    cpu = result["settings"]["cpu"]
    rows = []
    for one in result["artefacts"]:
        entry = one["cpus"][cpu]
        rows.append(
            (
                one["name"],
                f"{entry['max_abs_to_x86']:.2g}",
                f"{entry['snr_db_to_x86']:.1f}",
                f"{entry['snr_db_to_float']:.1f}",
                f"{100 * entry['same_argmax_as_x86']:.0f} %",
            )
        )
    return Grid(
        f"Logits on {cpu}, {result['settings']['images']} photos",
        (
            *("artefact", "largest difference to x86", "SNR to x86, dB"),
            *("SNR to the float model, dB", "same first answer as x86"),
        ),
        tuple(rows),
    )


def _kinds(result: Mapping[str, Any]) -> Grid:
    """Kinds of instructions on the core of the settings, in millions."""
    cpu = result["settings"]["cpu"]
    classes = [one["cpus"][cpu]["classes"] for one in result["artefacts"]]
    totals = [max(1, sum(found.values())) for found in classes]
    shown = _common(classes, totals)
    rows = []
    for one, found in zip(result["artefacts"], classes, strict=True):
        rest = sum(count for kind, count in found.items() if kind not in shown)
        counts = [found.get(kind, 0) for kind in shown] + [rest]
        rows.append((one["name"], *(f"{count / 1e6:.1f}" for count in counts)))
    return Grid(f"Millions by kind on {cpu}", ("artefact", *shown, "rest"), tuple(rows))


def _common(classes: Sequence[Mapping[str, int]], totals: Sequence[int]) -> list[str]:
    """Kinds that make up a hundredth of some file, the largest first."""
    largest: dict[str, float] = {}
    for found, total in zip(classes, totals, strict=True):
        for kind, count in found.items():
            largest[kind] = max(largest.get(kind, 0.0), count / total)
    ordered = sorted(largest, key=lambda kind: -largest[kind])
    return [kind for kind in ordered if largest[kind] >= _KIND_SHARE]


if __name__ == "__main__":
    run(app, "python benchmarks/arm64.py")
