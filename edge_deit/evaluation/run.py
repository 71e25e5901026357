"""Measures artefacts against their float models: photos, then latency, then the layers."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from edge_deit.artefacts.artefact import Artefact
from edge_deit.artefacts.float_model import FloatModel
from edge_deit.artefacts.runners import open_runner, stand_in
from edge_deit.common.console import progress, status_console
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.quiet import quiet
from edge_deit.data.labels import LabelChoice, match_labels, model_labels
from edge_deit.data.photos import Listing
from edge_deit.data.preprocess import load_pixels
from edge_deit.evaluation.accuracy import Evaluation, EvaluationRequest, evaluate
from edge_deit.evaluation.latency import Rounds, Served, interleave
from edge_deit.evaluation.layers import compare_layers
from edge_deit.evaluation.results import Measured, Timing, artefact_result
from edge_deit.evaluation.tally import Tally
from edge_deit.report.device_report import DeviceReport, PhoneResult
from edge_deit.report.report import ArtefactResult, Layers
from exporters import target as find_target

__all__ = ["Settings", "measure"]


@dataclass(frozen=True)
class Settings:
    """What is asked of a validation: photos, what was said of the model's labels, and how to measure.

    `rounds` is None without latency, `layer_images` 0 without the look at the layers; `units` names
    processors where a runtime offers a choice.
    """

    listing: Listing
    labels: LabelChoice | None
    threads: int
    workers: int
    strict: bool
    units: str | None
    rounds: Rounds | None
    layer_images: int


# Photos


# Measuring


def measure(
    plan: Settings, baseline: FloatModel, journal: Path
) -> tuple[Evaluation, list[ArtefactResult]]:
    """Everything about one float model and its artefacts; `journal` is where an interrupted run goes on.

    Raises:
        EdgeDeitError: a file that cannot be run here at all, photos that do not fit the model, or results
        that
            cannot be compared.
    """
    checkpoint = baseline.checkpoint
    photos = match_labels(plan.listing, checkpoint.labels, plan.labels).photos
    with quiet():
        models = {
            str(one.path): open_runner(one.path, plan.threads, plan.units)
            for one in baseline.artefacts
        }
    task = EvaluationRequest(
        photos=photos,
        root=plan.listing.root,
        spec=checkpoint.preprocess,
        labels=model_labels(checkpoint.labels, plan.labels),
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
    plan: Settings, baseline: FloatModel, one: Artefact, tally: Tally, timing: Timing | None
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


def _look(plan: Settings, baseline: FloatModel, one: Artefact) -> tuple[Layers | None, str]:
    """The comparison layer by layer, or why there is none."""
    target = find_target(one.manifest.target)
    if target.layer_reader is None:
        return None, f"{target.name}: the runtime shows nothing of what is inside a file"
    checkpoint = baseline.checkpoint
    with progress() as bar, quiet():
        step = bar.add_task(f"{one.path.name}: layers", total=plan.layer_images)
        photos = _readable(plan.listing.pick(plan.layer_images), baseline)
        try:
            reader = target.layer_reader(one.path, checkpoint.config)
        except EdgeDeitError as error:
            return None, str(error)
        tensors = map(torch.from_numpy, photos)
        layers = compare_layers(
            checkpoint.model, reader, tensors, on_photo=lambda: bar.advance(step)
        )
    return layers, ""


def _time(plan: Settings, baseline: FloatModel) -> dict[str, Timing]:
    """Latency of the artefacts whose own runtime is here, side by side with the float model."""
    assert plan.rounds is not None
    able = [one for one in baseline.artefacts if stand_in(one.manifest) is None]
    if not able:
        return {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack, progress() as bar:
        pixels = Path(folder) / "pixels.npy"
        np.save(pixels, next(_readable(plan.listing, baseline)))
        step = bar.add_task("latency", total=1 + len(able) + plan.rounds.runs)
        served, loading = {}, {}
        for kind, path in (("float", baseline.weights), *(("artefact", str(o.path)) for o in able)):
            options = [plan.units] if kind == "artefact" and plan.units else []
            place = (
                "-m",
                "edge_deit.evaluation.worker",
                kind,
                path,
                plan.threads,
                pixels,
                *options,
            )
            name = "" if kind == "float" else path
            served[name] = stack.enter_context(Served(path, plan.threads, place))
            loading[name] = served[name].wait_until_ready()
            served[name].run(plan.rounds.warmup, 0)
            bar.advance(step)
        times = interleave(served, plan.rounds, on_round=lambda: bar.advance(step))
    floats = times.pop("")
    return {name: Timing(series, floats, loading[name]) for name, series in times.items()}


def _readable(listing: Listing, baseline: FloatModel) -> Iterator[np.ndarray]:
    """Pixels (1, 3, H, W) of those that can be read; the evaluation has listed the others as broken."""
    for photo in listing.photos:
        with contextlib.suppress(EdgeDeitError):
            yield load_pixels(photo.path, baseline.checkpoint.preprocess)


def _on_phones(one: ArtefactResult, phones: Sequence[DeviceReport]) -> tuple[PhoneResult, ...]:
    """What phones measured of the same file, each with its device."""
    return tuple(
        PhoneResult(**vars(entry), device=phone.device, created=phone.created.isoformat())
        for phone in phones
        for entry in phone.artefacts
        if entry.sha256 == one.sha256
    )


def _as_given(
    results: Sequence[ArtefactResult], artefacts: Sequence[Path]
) -> tuple[ArtefactResult, ...]:
    """The results in the order of the command line."""
    order = [str(path) for path in artefacts]
    return tuple(sorted(results, key=lambda one: order.index(one.path)))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
