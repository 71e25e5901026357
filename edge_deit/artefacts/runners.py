"""Opens an artefact with the runtime of its target, whatever of the toolchain is installed here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_deit.artefacts.manifest import Manifest, read_manifest
from edge_deit.common.errors import EdgeDeitError
from edge_deit.metrics.outputs import softmax, top_k
from exporters import Runner
from exporters import target as find_target

__all__ = ["open_runner", "stand_in"]


def open_runner(artefact: Path, threads: int, units: str | None = None) -> Runner:
    """A runner for the artefact, on the processors called `units` where its target offers a choice.

    Running needs less than exporting: only the runtime has to be installed.

    Raises:
        EdgeDeitError: manifest and file do not fit, a runtime is absent, the file is damaged, or there is
            no such choice.
    """
    manifest = read_manifest(artefact)
    target = find_target(manifest.target)
    if (reason := target.unchecked(manifest.backend)) is not None:
        raise EdgeDeitError(f"{artefact.name} cannot be run here: {reason}")
    try:
        if units is None or not target.units:
            return target.load_runner(artefact, threads)
        assert target.load_on is not None
        return target.load_on(artefact, threads, units)
    except ModuleNotFoundError as error:
        raise EdgeDeitError(
            f"{artefact.name} needs {error.name}: pip install 'edge-deit[{target.extra}]'"
        ) from error


def stand_in(manifest: Manifest) -> str | None:
    """None where the artefact's own runtime runs it here, otherwise what does instead, in one line."""
    return find_target(manifest.target).runs_on()


def rank(
    runner: Runner, pixels: np.ndarray, manifest: Manifest, top: int
) -> list[dict[str, str | int | float]]:
    """The `top` classes of one photo, most probable first.

    Raises:
        EdgeDeitError: logits that are not finite, or not as many as there are labels.
    """
    logits = np.asarray(runner(pixels))[0]
    if not np.isfinite(logits).all():
        raise EdgeDeitError(f"{manifest.artefact} returned NaN or infinite logits; export it again")
    if len(logits) != len(manifest.labels):
        raise EdgeDeitError(
            f"{manifest.artefact} returns {len(logits)} values for {len(manifest.labels)} labels"
        )
    probabilities = softmax(logits)
    return [
        {
            "index": index,
            "label": manifest.labels[index],
            "probability": float(probabilities[index]),
            "logit": float(logits[index]),
        }
        for index in top_k(logits, top)
    ]
