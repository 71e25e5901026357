"""What runs in each worker of a Ray cluster: the models, and the photos of one shard after the other.

It is imported by what Ray starts, so the top imports nothing that loads torch. A failure that a user has to
know is returned, not raised: Ray would wrap it in a traceback.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_deit import __version__
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.waiting import wait_asleep

if TYPE_CHECKING:
    from edge_deit.checkpoint.options import LoadOptions
    from edge_deit.data.listing import Photo
    from edge_deit.data.preprocess import PreprocessSpec
    from edge_deit.evaluation.journal import Judged
    from edge_deit.evaluation.request import EvaluationRequest
    from edge_deit.exporters import Runner
    from edge_deit.report.report import BrokenImage

__all__ = ["Facts", "Failure", "ShardWorker", "Work", "node_facts"]


@dataclass(frozen=True)
class Work:
    """All that a worker needs to judge photos; paths are those of every node.

    `artefacts` are the models' names in the request, with path and sha256. `threads` are the runtimes',
    `float_threads` those of the float model.
    """

    artefacts: tuple[tuple[str, Path, str], ...]
    weights: str
    weights_sha256: str
    options: LoadOptions
    image_size: int
    spec: PreprocessSpec
    labels: tuple[str, ...]
    root: Path
    threads: int
    float_threads: int
    workers: int
    units: str | None
    up_to_a_constant: frozenset[str]
    at_once: Mapping[str, int]


@dataclass(frozen=True)
class Facts:
    """What may make a node's figures differ: versions and the processor; `host` is its name."""

    host: str
    versions: Mapping[str, str]
    processor: str


@dataclass(frozen=True)
class Failure:
    """One line for the user; `model` is that whose process died, if that was it."""

    line: str
    model: str | None = None


def node_facts() -> Facts:
    """Those of this machine; Pillow is among the versions, as it decodes the photos."""
    from edge_deit.common.host import describe_host, version_of
    from edge_deit.exporters import tool_versions

    host = describe_host({})
    versions = {"edge-deit": __version__, "pillow": version_of("pillow") or "unknown"}
    processor = f"{host['cpu']} {host['instructions']}"
    return Facts(platform.node(), {**tool_versions(), **versions}, processor)


class ShardWorker:
    """Holds the runners; `open` comes first."""

    def __init__(self, work: Work) -> None:
        self._work, self._held = work, ExitStack()
        self._request: EvaluationRequest | None = None

    def facts(self) -> Facts:
        """What this node is."""
        wait_asleep()
        return node_facts()

    def open(self) -> Failure | None:
        """Load the float model and the artefacts, if they are those that were asked for."""
        try:
            self._request = self._opened()
        except EdgeDeitError as error:
            return Failure(str(error))
        return None

    def judge(self, photos: Sequence[Photo]) -> list[Judged | BrokenImage] | Failure:
        """What each photo shows; `index` counts from the first of them."""
        from edge_deit.evaluation.accuracy import judge
        from edge_deit.evaluation.request import ModelCrashError

        assert self._request is not None
        try:
            return list(judge(replace(self._request, photos=photos)))
        except ModelCrashError as error:
            return Failure(str(error), error.model)
        except EdgeDeitError as error:
            return Failure(str(error))

    def close(self) -> None:
        """End the artefacts' processes."""
        self._held.close()

    def _opened(self) -> EvaluationRequest:
        import torch

        from edge_deit.evaluation.request import EvaluationRequest
        from edge_deit.model.outputs import as_runner

        work = self._work
        torch.set_num_threads(work.float_threads)
        checkpoint = work.options.load(work.weights, image_size=work.image_size)
        _check(work.weights, checkpoint.sha256, work.weights_sha256)
        return EvaluationRequest(
            photos=(),
            root=work.root,
            spec=work.spec,
            labels=work.labels,
            reference=as_runner(checkpoint.model),
            models={name: self._runner(path, sha256) for name, path, sha256 in work.artefacts},
            key={},
            journal=None,
            workers=work.workers,
            strict=False,  # what cannot be read here is looked at where the command runs
            up_to_a_constant=work.up_to_a_constant,
            at_once=work.at_once,
        )

    def _runner(self, path: Path, sha256: str) -> Runner:
        from edge_deit.artefacts.artefact import read_artefact
        from edge_deit.artefacts.runners import open_runner

        artefact = read_artefact(path)
        _check(path, artefact.manifest.sha256, sha256)
        runner = open_runner(artefact, self._work.threads, self._work.units)
        return self._held.enter_context(runner)


def _check(what: Any, found: str, wanted: str) -> None:
    if found != wanted:
        raise EdgeDeitError(
            f"{what} is another file there (sha256 {found[:12]}) than where the command runs "
            f"({wanted[:12]})"
        )
