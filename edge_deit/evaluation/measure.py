"""Measures the artefacts of one float model: photos, then latency, then the layers."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from edge_deit.artefacts.artefact import Artefact
from edge_deit.artefacts.float_model import FloatModel
from edge_deit.artefacts.inside import open_layer_reader
from edge_deit.artefacts.manifest import approximation_words
from edge_deit.artefacts.runners import (
    ArtefactRunner,
    RunnerCrashError,
    open_runner,
    sparing,
    stand_in,
)
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Progress
from edge_deit.data.label_choice import LabelChoice
from edge_deit.data.labels import match_labels, model_labels
from edge_deit.data.listing import Listing
from edge_deit.data.preprocess import load_pixels
from edge_deit.evaluation.accuracy import (
    Evaluation,
    EvaluationRequest,
    ModelCrashError,
    evaluate,
)
from edge_deit.evaluation.cluster import spread
from edge_deit.evaluation.latency import Rounds, Served, interleave
from edge_deit.evaluation.layers import compare_layers
from edge_deit.evaluation.results import Measured, Timing, artefact_result, calibration_hashes
from edge_deit.exporters import layer_reader_of
from edge_deit.report.report import ArtefactResult, Layers
from edge_deit.report.result import APPROXIMATION

__all__ = ["Opened", "Settings", "judge_photos", "measure", "open_models"]


@dataclass(frozen=True)
class Settings:
    """What is asked of a validation: photos, what was said of the model's labels, and how to measure.

    `rounds` is None without latency, `layer_images` 0 without the look at the layers; `units` names
    processors where a runtime offers a choice; `versions` are those of the tools that take part; `ray` is
    the address of the cluster that judges the photos.
    """

    listing: Listing
    labels: LabelChoice | None
    threads: int
    workers: int
    strict: bool
    units: str | None
    rounds: Rounds | None
    layer_images: int
    versions: Mapping[str, str]
    progress: Progress
    ray: str | None = None


@dataclass(frozen=True)
class Opened:
    """A float model and its artefacts, ready for the photos.

    `float_model` has those artefacts that live; `lost` says in a line each what became of the others.
    `labels_matched` says how the photos' classes were found; `close` ends the artefacts' processes.
    """

    float_model: FloatModel
    request: EvaluationRequest
    labels_matched: str
    lost: tuple[str, ...]
    close: Callable[[], None]

    def without(self, settings: Settings, error: ModelCrashError) -> Opened:
        """The same opened anew, but for the artefact whose process died."""
        rest = tuple(o for o in self.float_model.artefacts if str(o.path) != error.model)
        opened = open_models(
            settings, replace(self.float_model, artefacts=rest), self.request.journal
        )
        return replace(opened, lost=(*self.lost, str(error), *opened.lost))


def open_models(settings: Settings, float_model: FloatModel, journal: Path | None) -> Opened:
    """Load the artefacts and find the photos' classes; those whose process dies of it are left out.

    Raises:
        EdgeDeitError: a file that cannot be run here, or photos whose classes are not the model's.
    """
    checkpoint = float_model.checkpoint
    matched = match_labels(settings.listing, checkpoint.labels, settings.labels)
    models: dict[str, ArtefactRunner] = {}
    artefacts, lost = [], []
    with ExitStack() as stack:
        for one in float_model.artefacts:
            try:
                runner = open_runner(one, settings.threads, settings.units)
            except RunnerCrashError as error:
                lost.append(str(error))
                continue
            models[str(one.path)] = stack.enter_context(runner)
            artefacts.append(one)
        close = stack.pop_all().close
    hashes = {str(one.path): calibration_hashes(one.manifest) for one in artefacts}
    request = EvaluationRequest(
        photos=matched.photos,
        root=settings.listing.root,
        spec=checkpoint.preprocess,
        labels=model_labels(checkpoint.labels, settings.labels),
        reference=float_model,
        models=models,
        key={
            "artefacts": [one.manifest.sha256 for one in artefacts],
            "weights": checkpoint.sha256,
            "threads": settings.threads,
            "units": settings.units,
            "versions": dict(settings.versions),
        },
        journal=journal,
        workers=settings.workers,
        strict=settings.strict,
        up_to_a_constant=frozenset(name for name, one in models.items() if one.up_to_a_constant),
        at_once={str(one.path): one.manifest.photos_at_once for one in artefacts},
        calibration={name: known for name, known in hashes.items() if known is not None},
    )
    living = replace(float_model, artefacts=tuple(artefacts))
    if settings.ray is not None:
        judges = spread(settings.ray, living, settings.units, settings.threads, settings.progress)
        request = replace(request, judged_by=judges)
    return Opened(living, request, matched.how, tuple(lost), close)


def judge_photos(settings: Settings, opened: Opened) -> tuple[Opened, Evaluation | None]:
    """What all photos showed, and what is left of the artefacts, which are closed.

    Where the process of one dies, all photos are judged again without it; None: none is left.

    Raises:
        EdgeDeitError: outputs that cannot be compared, or, if `strict`, a photo that cannot be read.
    """
    progress = settings.progress
    while opened.float_model.artefacts:
        request = opened.request
        what = f"{opened.float_model.checkpoint.name}: photos"
        try:
            with progress.task(what, len(request.photos)) as advance:
                return opened, evaluate(request, lambda: advance(1), progress.note)
        except ModelCrashError as error:
            crash = error
        finally:
            opened.close()
        opened = opened.without(settings, crash)
    return opened, None


def measure(settings: Settings, float_model: FloatModel, seen: Evaluation) -> list[ArtefactResult]:
    """The results of a float model's artefacts, whose photos were `seen`; latency and layers follow here.

    Raises:
        EdgeDeitError: a model that cannot be loaded in a process of its own, or layers that cannot be
            compared.
    """
    rounds = settings.rounds
    timings = _time(settings, float_model, rounds) if rounds else {}
    return [
        artefact_result(_measured(settings, float_model, one, seen, timings), float_model)
        for one in float_model.artefacts
    ]


def _measured(
    settings: Settings,
    float_model: FloatModel,
    one: Artefact,
    seen: Evaluation,
    timings: Mapping[str, Timing],
) -> Measured:
    manifest, name = one.manifest, str(one.path)
    reason = stand_in(manifest)
    runner = reason or f"{manifest.target} ({manifest.backend}) runtime"
    if (photos := manifest.photos_at_once) > 1:
        runner += f", {photos} photos at once; times are a photo"
    if words := approximation_words(manifest):
        runner += f"{APPROXIMATION}{words}"
    notes = {}
    if settings.ray is not None:
        notes["timing"] = "not measured: photos were spread over a Ray cluster (--ray)"
    elif settings.rounds and (why := _not_timed(one)):
        notes["timing"] = why
    layers = None
    if not settings.layer_images:
        notes["layers"] = "not looked at: --layers"
    else:
        layers, note = _look(settings, float_model, one)
        if note:
            notes["layers"] = note
    return Measured(
        artefact=one,
        tally=seen.tallies[name],
        runner=runner,
        threads=settings.threads,
        timing=timings.get(name),
        layers=layers,
        overlap=seen.overlap.get(name),
        notes=notes,
    )


def _look(settings: Settings, float_model: FloatModel, one: Artefact) -> tuple[Layers | None, str]:
    """The comparison layer by layer, or why there is none."""
    if one.manifest.approximation is not None:
        return None, "it merges tokens, so inside it has others than the float model"
    if layer_reader_of(*one.engine_key) is None:
        return None, f"{one.manifest.target}: the runtime shows nothing of what is inside a file"
    checkpoint = float_model.checkpoint
    what = f"{one.path.name}: layers"
    with ExitStack() as stack:
        advance = stack.enter_context(settings.progress.task(what, settings.layer_images))
        chosen = settings.listing.pick(settings.layer_images)
        try:
            reader = stack.enter_context(open_layer_reader(one, checkpoint.config))
        except EdgeDeitError as error:
            return None, str(error)
        photos = map(torch.from_numpy, _readable(chosen, float_model))
        try:
            seed = one.manifest.scheme.get("seed", 0)
            layers = compare_layers(
                checkpoint.model, reader, photos, seed=seed, on_photo=lambda: advance(1)
            )
        except RunnerCrashError as error:
            return None, str(error)
    return layers, ""


def _not_timed(one: Artefact) -> str | None:
    """Why no latency of the artefact is worth measuring here, None where it is."""
    slow = sparing(one.manifest)
    return stand_in(one.manifest) or (None if slow is None else slow.reason)


def _time(settings: Settings, float_model: FloatModel, rounds: Rounds) -> dict[str, Timing]:
    """Latency of the artefacts whose own runtime is here, side by side with the float model."""
    able = [one for one in float_model.artefacts if _not_timed(one) is None]
    if not able:
        return {}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        advance = stack.enter_context(
            settings.progress.task("latency", 1 + len(able) + rounds.runs)
        )
        photo = next(_readable(settings.listing, float_model))
        served, loading = {}, {}
        for kind, path, photos in (
            ("float", float_model.weights, 1),
            *(("artefact", str(o.path), o.manifest.photos_at_once) for o in able),
        ):
            pixels = Path(folder) / f"pixels-{photos}.npy"
            np.save(pixels, photo.repeat(photos, axis=0))
            more = [settings.units] if settings.units else []
            if kind == "float":
                more = [json.dumps(float_model.options.to_json())]
            module = ("-P", "-m", "edge_deit.evaluation.worker")
            place = (*module, kind, path, settings.threads, pixels, *more)
            name = "" if kind == "float" else path
            served[name] = stack.enter_context(Served(path, settings.threads, place))
            loading[name] = served[name].wait_until_ready()
            served[name].run(rounds.warmup, 0)
            advance(1)
        times = interleave(served, rounds, on_round=lambda: advance(1))
    floats = times.pop("")
    return {name: Timing(series, floats, loading[name]) for name, series in times.items()}


def _readable(listing: Listing, float_model: FloatModel) -> Iterator[np.ndarray]:
    """Pixels (1, 3, H, W) of those that can be read; the evaluation has listed the others as broken."""
    for photo in listing.photos:
        with contextlib.suppress(EdgeDeitError):
            yield load_pixels(photo.path, float_model.checkpoint.preprocess)
