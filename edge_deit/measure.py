"""Measures artefacts against their float models: photos, then latency, then the layers."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edge_deit import assets
from edge_deit._console import progress, status_console
from edge_deit._quiet import quiet
from edge_deit.baseline import Artefact, Baseline
from edge_deit.bench import Rounds, Served, interleave
from edge_deit.dataset import Photo, class_names, list_photos, spread
from edge_deit.errors import EdgeDeitError
from edge_deit.evaluate import Evaluation, Task, evaluate, labels_for
from edge_deit.layers import compare_layers
from edge_deit.outcome import Measured, Timing, artefact_result
from edge_deit.preprocess import load_pixels
from edge_deit.report import ArtefactResult, Layers
from edge_deit.runners import open_runner, stand_in
from edge_deit.tally import Tally
from exporters import target as find_target

__all__ = ["Plan", "measure", "open_photos"]


@dataclass(frozen=True)
class Plan:
    """What is asked of a validation: photos below `root`, `names` of their class folders, and how to
    measure.

    `rounds` is None without latency, `layer_images` 0 without the look at the layers; `units` names
    processors where a runtime offers a choice.
    """

    root: Path
    photos: Sequence[Photo]
    names: Sequence[str]
    threads: int
    workers: int
    strict: bool
    units: str | None
    rounds: Rounds | None
    layer_images: int


# Photos


@contextmanager
def open_photos(
    data: Path | None, split: str, images: int | None, baselines: Sequence[Baseline]
) -> Iterator[tuple[Path, Sequence[Photo], Sequence[str]]]:
    """Root folder, photos, and names of the class folders (none when labels are numbers already)."""
    with ExitStack() as stack:
        if data is None:
            if any(baseline.weights != "bundled" for baseline in baselines):
                raise EdgeDeitError(
                    "the bundled photos fit the bundled weights only: give --data with your own photos"
                )
            data = stack.enter_context(assets.validation_folder())
        photos = list_photos(data, split)
        if images is not None:
            photos = spread(photos, images)
        folders = photos[0].path.parent != data and not (data / "labels.csv").is_file()
        yield data, photos, class_names(data) if folders else []


# Measuring


def measure(
    plan: Plan, baseline: Baseline, journal: Path
) -> tuple[Evaluation, list[ArtefactResult]]:
    """Everything about one float model and its artefacts; `journal` is where an interrupted run goes on.

    Raises:
        EdgeDeitError: a file that cannot be run here at all, photos that do not fit the model, or results
        that
            cannot be compared.
    """
    checkpoint = baseline.checkpoint
    photos = labels_for(plan.photos, plan.names, checkpoint.labels)
    with quiet():
        models = {
            str(one.path): open_runner(one.path, plan.threads, plan.units)
            for one in baseline.artefacts
        }
    task = Task(
        photos=photos,
        root=plan.root,
        spec=checkpoint.preprocess,
        labels=checkpoint.labels,
        reference=baseline,
        models=models,
        key={
            "artefacts": [one.manifest.sha256 for one in baseline.artefacts],
            "weights": checkpoint.sha256,
            "threads": plan.threads,
            "units": plan.units,
        },
        journal=journal,
        workers=plan.workers,
        strict=plan.strict,
    )
    with progress() as bar, quiet():
        step = bar.add_task(f"{checkpoint.name}: photos", total=len(photos))
        seen = evaluate(task, on_photo=lambda: bar.advance(step))
    if seen.resumed:
        status_console().print(f"{seen.resumed} photos were done before; went on behind them")
    del models, task
    timings = _time(plan, baseline) if plan.rounds else {}
    measured = [
        _measured(plan, baseline, one, seen.tallies[str(one.path)], timings.get(str(one.path)))
        for one in baseline.artefacts
    ]
    return seen, [artefact_result(one, baseline) for one in measured]


def _measured(
    plan: Plan, baseline: Baseline, one: Artefact, tally: Tally, timing: Timing | None
) -> Measured:
    manifest = one.manifest
    reason = stand_in(manifest)
    notes = {}
    if plan.rounds and reason:
        notes["timing"] = reason
    layers = None
    if not plan.layer_images:
        notes["layers"] = "not looked at: --layers"
    else:
        layers, note = _look(plan, baseline, one)
        if note:
            notes["layers"] = note
    runner = reason or f"{manifest.target} ({manifest.backend}) runtime"
    return Measured(one, tally, runner, plan.threads, timing, layers, notes)


def _look(plan: Plan, baseline: Baseline, one: Artefact) -> tuple[Layers | None, str]:
    """The comparison layer by layer, or why there is none."""
    target = find_target(one.manifest.target)
    if target.layer_reader is None:
        return None, f"{target.name}: the runtime shows nothing of what is inside a file"
    checkpoint = baseline.checkpoint
    with progress() as bar, quiet():
        step = bar.add_task(f"{one.path.name}: layers", total=plan.layer_images)
        photos = _readable(spread(list(plan.photos), plan.layer_images), baseline)
        try:
            reader = target.layer_reader(one.path, checkpoint.config)
        except EdgeDeitError as error:
            return None, str(error)
        tensors = map(torch.from_numpy, photos)
        layers = compare_layers(
            checkpoint.model, reader, tensors, on_photo=lambda: bar.advance(step)
        )
    return layers, ""


def _time(plan: Plan, baseline: Baseline) -> dict[str, Timing]:
    """Latency of the artefacts whose own runtime is here, side by side with the float model."""
    assert plan.rounds is not None
    able = [one for one in baseline.artefacts if stand_in(one.manifest) is None]
    if not able:
        return {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack, progress() as bar:
        pixels = Path(folder) / "pixels.npy"
        np.save(pixels, next(_readable(plan.photos, baseline)))
        step = bar.add_task("latency", total=1 + len(able) + plan.rounds.runs)
        served, loading = {}, {}
        for kind, path in (("float", baseline.weights), *(("artefact", str(o.path)) for o in able)):
            options = [plan.units] if kind == "artefact" and plan.units else []
            place = ("-m", "edge_deit._worker", kind, path, plan.threads, pixels, *options)
            name = "" if kind == "float" else path
            served[name] = stack.enter_context(Served(path, plan.threads, place))
            loading[name] = served[name].wait_until_ready()
            served[name].run(plan.rounds.warmup, 0)
            bar.advance(step)
        times = interleave(served, plan.rounds, on_round=lambda: bar.advance(step))
    floats = times.pop("")
    return {name: Timing(series, floats, loading[name]) for name, series in times.items()}


def _readable(photos: Sequence[Photo], baseline: Baseline) -> Iterator[np.ndarray]:
    """Pixels (1, 3, H, W) of those that can be read; the evaluation has listed the others as broken."""
    for photo in photos:
        with contextlib.suppress(EdgeDeitError):
            yield load_pixels(photo.path, baseline.checkpoint.preprocess)
