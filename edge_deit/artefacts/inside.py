"""Values inside an artefact, read in a process of its own like its outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np

from edge_deit.artefacts.artefact import Artefact
from edge_deit.artefacts.contract import Contract
from edge_deit.artefacts.process import RunnerCrashError, Worker
from edge_deit.model.config import DeiTConfig
from edge_deit.model.points import LayerReader, Points

__all__ = ["open_layer_reader"]


@contextmanager
def open_layer_reader(
    artefact: Artefact, config: DeiTConfig, timeout_s: float | None = None
) -> Iterator[LayerReader]:
    """What shows the points inside an artefact of a model of shape `config`, while the block lasts.

    Raises:
        EdgeDeitError: the file's inside cannot be shown.
        RunnerCrashError: the process died, or did not answer.
    """
    name = artefact.path.name
    with Worker(*artefact.engine_key, timeout_s=timeout_s) as worker:
        header, _ = worker.ask(
            name,
            "looking into",
            {"do": "look", "path": str(artefact.path.absolute()), "config": asdict(config)},
        )

        contract = Contract.of(artefact.manifest)

        def read(pixels: np.ndarray) -> Points:
            source = contract.input_of(pixels).repeat(contract.photos, axis=0)
            found, arrays = worker.ask(name, "looking into", {"do": "points"}, [source])
            names = found.get("points")
            if not isinstance(names, list) or len(names) != len(arrays):
                raise RunnerCrashError(
                    f"{name}: its process did not name its points: export it again"
                )
            points = dict(zip(map(str, names), arrays, strict=True))
            if "logits" in points:
                points["logits"] = contract.logits(points["logits"])
            return points

        yield LayerReader(str(header.get("method")), read, contract.probabilities)
