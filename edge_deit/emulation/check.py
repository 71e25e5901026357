"""Runs artefacts on Arm cores, emulated or this machine's own, and compares what they return."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_deit.artefacts.artefact import Artefact
from edge_deit.artefacts.contract import Contract
from edge_deit.artefacts.float_model import FloatModel
from edge_deit.artefacts.runners import open_runner
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Progress
from edge_deit.data.preprocess import load_pixels
from edge_deit.emulation.counts import Counts, median
from edge_deit.emulation.emulator import CoreJob, Ran, emulator_version, run_jobs
from edge_deit.emulation.figures import (
    COUNTED_NOTE,
    NATIVE_NOTE,
    Core,
    core_entry,
    problems,
    remarks,
)
from edge_deit.emulation.sysroot import Cpu
from edge_deit.exporters.target import run_each
from edge_deit.metrics.outputs import aligned

__all__ = [
    "ArmResult",
    "Batch",
    "check_emulated",
    "check_native",
    "fp32_artefacts",
    "load_batch",
]

_FP32: Final = "fp32"


@dataclass(frozen=True)
class Batch:
    """A float model, the photos as it takes them, (M, 3, H, W), and its logits, (M, K)."""

    baseline: FloatModel
    pixels: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True)
class ArmResult:
    """What one artefact did: its `arm64` object, what is wrong with it, and what else to know."""

    artefact: Artefact
    arm64: Mapping[str, Any]
    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def load_batch(baseline: FloatModel, photos: Sequence[Path]) -> Batch:
    """Decode the photos and run the float model on them.

    Raises:
        EdgeDeitError: a broken photo.
    """
    spec = baseline.checkpoint.preprocess
    pixels = np.concatenate([load_pixels(photo, spec) for photo in photos])
    return Batch(baseline, pixels, run_each(baseline, pixels))


def fp32_artefacts(found: Sequence[Artefact], given: Sequence[Artefact]) -> list[Artefact]:
    """The fp32 artefacts that ratios may refer to: those of `found` and `given`.

    Raises:
        EdgeDeitError: one of `given` is not fp32, or belongs to none of `found`.
    """
    for one in given:
        if one.manifest.precision != _FP32:
            raise EdgeDeitError(f"--fp32 {one.path} is {one.manifest.precision}, not {_FP32}")
        if not any(_same_model(one, other) for other in found):
            raise EdgeDeitError(
                f"--fp32 {one.path} has another model or target than every artefact named"
            )
    named = {one.manifest.sha256 for one in found}
    return [one for one in found if one.manifest.precision == _FP32] + [
        one for one in given if one.manifest.sha256 not in named
    ]


def check_native(batches: Sequence[Batch]) -> list[ArmResult]:
    """The artefacts on this machine's own Arm core; nothing is counted."""
    results = []
    for batch in batches:
        for artefact in batch.baseline.artefacts:
            here = _comparable(artefact, _on_this_machine(artefact, batch.pixels), batch)
            core = Core(here, None, batch.reference)
            found = {
                "cpus": {platform.machine(): core_entry(core)},
                "runtime": f"{artefact.manifest.target}, {platform.machine()}",
                "note": NATIVE_NOTE,
            }
            results.append(ArmResult(artefact, found, tuple(problems(core))))
    return results


@dataclass(frozen=True)
class _Emulation:
    """All that ran: by (sha256, core), and by sha256 what the same files returned on this machine."""

    ran: Mapping[tuple[str, str], Ran]
    x86: Mapping[str, np.ndarray]
    floats: Sequence[Artefact]

    def fp32(self, artefact: Artefact, cpu: str) -> Counts | None:
        """The count of the fp32 artefact of the same model and target on the same core."""
        for one in self.floats:
            if _same_model(one, artefact):
                return median(self.ran[one.manifest.sha256, cpu].repeats)
        return None

    def result(self, artefact: Artefact, batch: Batch, cpus: Sequence[Cpu]) -> ArmResult:
        """What one artefact did on all cores."""
        entries: dict[str, dict[str, Any]] = {}
        wrong: list[str] = []
        known: list[str] = []
        sha256 = artefact.manifest.sha256
        for cpu in cpus:
            one = self.ran[sha256, cpu.name]
            fp32 = self.fp32(artefact, cpu.name)
            logits = Contract.of(artefact.manifest).logits(one.logits)
            there, here = (_comparable(artefact, x, batch) for x in (logits, self.x86[sha256]))
            scheme = artefact.manifest.scheme
            halved = scheme["precision"] == "fp16" and scheme.get("half_remainder", False)
            core = Core(there, here, batch.reference, one.repeats, fp32, halved)
            entries[cpu.name] = core_entry(core)
            wrong += [f"{cpu.name}: {text}" for text in problems(core)]
            known += [f"{cpu.name}: {text}" for text in remarks(core)]
        runtime = f"{one.runtime}, aarch64, qemu-user {emulator_version()}"
        found = {"cpus": entries, "runtime": runtime, "note": COUNTED_NOTE}
        return ArmResult(artefact, found, tuple(wrong), tuple(known))


def check_emulated(
    batches: Sequence[Batch],
    cpus: Sequence[Cpu],
    floats: Sequence[Artefact],
    workers: int,
    progress: Progress,
) -> list[ArmResult]:
    """The artefacts on each of the cores, `workers` at a time.

    `floats` may hold artefacts that are counted for the ratio only.

    Raises:
        EdgeDeitError: a file that a runtime refuses, here or there, or outputs that are not finite.
    """
    jobs: dict[tuple[str, str], CoreJob] = {}
    x86: dict[str, np.ndarray] = {}
    for batch in batches:
        ours = batch.baseline.artefacts
        for one in ours:
            x86[one.manifest.sha256] = _on_this_machine(one, batch.pixels)
        extra = [
            one
            for one in floats
            if one not in ours and any(_same_model(one, other) for other in ours)
        ]
        for one in (*ours, *extra):
            pixels = batch.pixels if one in ours else batch.pixels[:1]
            for cpu in cpus:
                key = one.manifest.sha256, cpu.name
                source = Contract.of(one.manifest).input_of(pixels)
                jobs[key] = CoreJob(one.manifest.target, one.path, cpu, source)
    total = sum(job.inferences for job in jobs.values())
    with progress.task("inferences on emulated cores", total) as advance:
        found = run_jobs(list(jobs.values()), workers, lambda: advance(1))
    ran = dict(zip(jobs, found, strict=True))
    emulation = _Emulation(ran, x86, floats)
    return [
        emulation.result(one, batch, cpus) for batch in batches for one in batch.baseline.artefacts
    ]


def _comparable(artefact: Artefact, logits: np.ndarray, batch: Batch) -> np.ndarray:
    """Logits (M, K) with the constant that probabilities leave open taken from the float model's."""
    if Contract.of(artefact.manifest).probabilities:
        return aligned(batch.reference, logits)
    return logits


def _same_model(one: Artefact, other: Artefact) -> bool:
    """Whether two artefacts differ in their precision only."""
    a, b = one.manifest, other.manifest
    return (a.target, a.backend, a.config) == (b.target, b.backend, b.config) and a.weights[
        "sha256"
    ] == b.weights["sha256"]


def _on_this_machine(artefact: Artefact, pixels: np.ndarray) -> np.ndarray:
    with open_runner(artefact, 1) as runner:
        return run_each(runner, pixels)
