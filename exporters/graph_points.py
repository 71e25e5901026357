"""The points of `evaluation.layers` found in an artefact's own graph, whatever its format."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.config import DeiTConfig
from edge_deit.model.points import point_names

__all__ = ["Step", "find_points", "unknown_graph"]

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Step(Generic[Name]):
    """One operator of a graph: `kind` is "add", "softmax" or anything else."""

    kind: str
    inputs: tuple[Name, ...]
    outputs: tuple[Name, ...]


def find_points(
    steps: Iterable[Step[Name]], source: Name, result: Name, config: DeiTConfig
) -> dict[str, Name]:
    """Point -> tensor, in the graph of a deployment form with the input `source` and the output `result`.

    `steps` are in the order of execution. A softmax is an attention, but for one behind all points, which
    makes probabilities. Behind the first one, an addition of two tensors that both depend on the input ends
    a residual branch, and nothing else is one. The embedding is what the first of these adds that depends
    on no softmax.

    Raises:
        EdgeDeitError: the graph has other operators than a deployment form of `config`.
    """
    first, *inner, last = point_names(config)
    active, mixed = {source}, set[Name]()  # depend on the input, on a softmax
    points, waiting = {last: result}, iter(inner)
    for step in steps:
        inputs = [tensor for tensor in step.inputs if tensor in active]
        softmax = step.kind == "softmax" and len(points) < len(inner) + 2
        if softmax or (step.kind == "add" and mixed and len(inputs) == 2):
            name = next(waiting, "")
            if not name or name.endswith(".attention") != softmax:
                raise unknown_graph()
            points[name] = step.outputs[0]
            if name == "blocks.0.attn":
                points[first] = next(tensor for tensor in inputs if tensor not in mixed)
        if inputs:
            active.update(step.outputs)
        if softmax or not mixed.isdisjoint(inputs):
            mixed.update(step.outputs)
    if len(points) != len(inner) + 2:
        raise unknown_graph()
    return points


def unknown_graph() -> EdgeDeitError:
    """The error for a graph whose points cannot be told."""
    return EdgeDeitError(
        "the graph is not one of this model's deployment form; export the artefact again"
    )
