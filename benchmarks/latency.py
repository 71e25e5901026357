#!/usr/bin/env python3
"""Latency of every artefact, ours and stock, as ratios of medians measured side by side.

    EDGE_DEIT_REAL=FOLDER python benchmarks/latency.py --ours DIR --stock DIR --output DIR

Each runtime sits loaded in a process of its own and runs one photo when it is told to; the others wait
meanwhile. Every round visits all of them in a shuffled order. A second pass takes the same orders
backwards, so that what the order does can be seen. It writes latency.json and latency.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from edge_deit.checkpoint.load import load_model
from edge_deit.common.console import new_app, progress, run, status_console
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.host import describe_host
from edge_deit.evaluation.latency import Rounds, interleave
from edge_deit.exporters import tool_versions
from edge_deit.metrics.ratios import ratio_of_medians
from edge_deit.model.config import DeiTConfig
from harness.candidates import (
    TORCH_NAME,
    Candidate,
    counterpart,
    find_ours,
    find_stock,
    select,
    torch_candidate,
)
from harness.processes import measure_peak, serve
from harness.real import real_folder
from tables.grid import show
from tables.results import grids, write_result
from tables.speed import SpeedBar, judge_speed

__all__ = ["SPEED_BARS", "macs"]

app = new_app(__doc__)

_LEAST_RUNS: Final = 40
_BUSY: Final = 0.5  # load average from which a machine counts as busy

SPEED_BARS: Final = (
    SpeedBar("ExecuTorch fp32", "ours/executorch/fp32", "stock/executorch/float", 0.55),
    SpeedBar("ExecuTorch int8", "ours/executorch/int8", "stock/executorch/static", 0.60),
    SpeedBar("LiteRT int8", "ours/tflite/int8", "stock/tflite/static_wi8_ai8", 0.25),
    SpeedBar("LiteRT int8-full", "ours/tflite/int8-full", "stock/tflite/static_wi8_ai8", 0.70),
    SpeedBar("ONNX Runtime int8", "ours/onnx/int8", "stock/onnx/quantize_static", 0.80),
    SpeedBar("ONNX Runtime fp32", "ours/onnx/fp32", "stock/onnx/float", 0.95),
    SpeedBar("Core AI fp32", "ours/coreai/fp32", "stock/coreai/float32", 0.90),
    SpeedBar("LiteRT fp32 / torch eager", "ours/tflite/fp32", TORCH_NAME, 0.70),
    SpeedBar("ExecuTorch fp32 / torch eager", "ours/executorch/fp32", TORCH_NAME, 0.85),
    SpeedBar("ONNX Runtime fp32 / torch eager", "ours/onnx/fp32", TORCH_NAME, 0.90),
    SpeedBar("best int8 / best fp32", "ours/*/int8*", "ours/*/fp32", 1.0, below=True),
)
"""Name, numerator, denominator, largest ratio of medians."""


@app.command()
def latency(
    ours: Annotated[
        Path, typer.Option(help="Folder of the export command, or accuracy.py's ours.")
    ],
    stock: Annotated[Path, typer.Option(help="Folder of benchmarks/stock.py, or accuracy.py's.")],
    output: Annotated[Path, typer.Option(help="Folder for the results.")],
    weights: Annotated[
        Path | None, typer.Option(help="Of torch eager; default: EDGE_DEIT_REAL's DeiT-tiny.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Names such as 'ours/tflite/*'; may be repeated.")
    ] = None,
    runs: Annotated[int, typer.Option(help=f"Rounds a pass, at least {_LEAST_RUNS}.")] = 60,
    warmup: Annotated[int, typer.Option(help="Untimed inferences before the first round.")] = 10,
    rewarm: Annotated[
        int, typer.Option(help="Untimed inferences before each timed one, for the caches.")
    ] = 1,
    pause_ms: Annotated[
        float, typer.Option(help="Rest between two processes, till threads sleep.")
    ] = 20.0,
    threads: Annotated[int, typer.Option(help="Threads of each runtime.")] = 2,
    seed: Annotated[int, typer.Option(help="Of the shuffled orders.")] = 0,
) -> None:
    """Measure p50, p90 and ratios of medians, and judge the bars."""
    if runs < _LEAST_RUNS or min(warmup, rewarm, pause_ms) < 0 or threads < 1:
        raise EdgeDeitError(
            f"--runs must be at least {_LEAST_RUNS}, --threads 1, the others not negative"
        )
    environment = describe_host(tool_versions())
    if environment["load_average"][0] > _BUSY:
        status_console().print(
            f"warning: load average {environment['load_average'][0]:.2f}, this machine is busy; "
            "the intervals will be wide and the medians high"
        )
    weights = weights or real_folder() / "deit_tiny_patch16_224" / "model.safetensors"
    checkpoint = load_model(str(weights))
    found, notes = _runnable([*find_ours(ours), *find_stock(stock)])
    artefacts = [torch_candidate(weights), *select(found, only or [])]
    peak = measure_peak(threads)
    side = checkpoint.config.image_size
    rounds = Rounds(runs, warmup, rewarm, pause_ms, seed)
    samples = _measure(artefacts, (threads, side), rounds)
    again = measure_peak(threads)
    best = max(peak, key=lambda side: max(peak[side], again[side]))
    gflops = max(peak[best], again[best])
    work = macs(checkpoint.config)
    result = {
        "kind": "latency",
        "model": checkpoint.name,
        "environment": environment,
        "settings": {
            "runs": runs,
            "warmup": warmup,
            "rewarm": rewarm,
            "pause_ms": pause_ms,
            "threads": threads,
            "seed": seed,
            "weights_sha256": checkpoint.sha256,
        },
        "macs": work,
        "peak": {"gflops": gflops, "side": best, "before": peak, "after": again},
        "artefacts": [
            _row(one, artefacts, samples, 2 * work / (gflops * 1e9)) for one in artefacts
        ],
        "bars": [asdict(judge_speed(bar, samples)) for bar in SPEED_BARS],
        "notes": notes,
    }
    output.mkdir(parents=True, exist_ok=True)
    write_result(result, output / "latency.json")
    for grid in grids(result):
        show(grid)


def macs(config: DeiTConfig) -> int:
    """Multiply-accumulates of one photo: convolution, Linears, attention products; norms are left out.

    >>> round(macs(DeiTConfig()) / 1e9, 2)
    1.25
    """
    n, d, patches = config.num_tokens, config.embed_dim, config.num_patches
    patch = patches * config.in_channels * config.patch_size**2 * d
    attention = n * d * 3 * d + 2 * n * n * d + n * d * d
    mlp = 2 * n * d * config.mlp_dim
    heads = (2 if config.distillation_head else 1) * d * config.num_classes
    return patch + config.depth * (attention + mlp) + heads


def _runnable(found: Sequence[Candidate]) -> tuple[list[Candidate], list[str]]:
    """Those that their own runtime executes here, and a line for each target left out."""
    left_out = {one.target: one.stand_in for one in found if one.stand_in is not None}
    kept = [one for one in found if one.target not in left_out]
    return kept, [f"{target}: no latency here. {line}." for target, line in left_out.items()]


def _measure(
    artefacts: Sequence[Candidate], place: tuple[int, int], rounds: Rounds
) -> dict[str, np.ndarray]:
    """(2, R) milliseconds by name: the forward pass and the reversed one."""
    with ExitStack() as stack, progress() as bar:
        task = bar.add_task("load", total=len(artefacts))
        served = {}
        for one in artefacts:
            served[one.name] = stack.enter_context(serve(one, *place))
            served[one.name].wait_until_ready()
            served[one.name].run(rounds.warmup, 0)
            bar.advance(task)
        task = bar.add_task("rounds", total=2 * rounds.runs)
        passes = [
            interleave(served, rounds, reverse=reverse, on_round=lambda: bar.advance(task))
            for reverse in (False, True)
        ]
    return {one.name: np.stack([times[one.name] for times in passes]) for one in artefacts}


def _row(
    one: Candidate,
    among: Sequence[Candidate],
    samples: dict[str, np.ndarray],
    least_seconds: float,
) -> dict[str, Any]:
    """Figures of one artefact; `least_seconds` is what the work would take at the measured peak."""
    times = samples[one.name]  # (2, R) ms
    stock = counterpart(one, among) if one.origin == "ours" else None
    p50_ms = float(np.median(times))
    passes = np.median(times, axis=1)
    return {
        "name": one.name,
        "origin": one.origin,
        "target": one.target,
        "precision": one.precision,
        "description": one.description,
        "sha256": one.sha256,
        "p50_ms": p50_ms,
        "p90_ms": float(np.percentile(times, 90)),
        "ratio_to_torch": _ratio(times, samples[TORCH_NAME]),
        "stock": stock.name if stock else None,
        "ratio_to_stock": _ratio(times, samples[stock.name]) if stock else None,
        "forward_to_reversed": float(passes[0] / passes[1]),
        "peak_share": least_seconds / (p50_ms / 1e3),
        "samples_ms": times.tolist(),
    }


def _ratio(times: np.ndarray, others: np.ndarray) -> dict[str, float]:
    return asdict(ratio_of_medians(times.ravel(), others.ravel()))


if __name__ == "__main__":
    run(app, "python benchmarks/latency.py")
