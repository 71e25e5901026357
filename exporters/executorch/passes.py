"""XNNPACK's passes over a graph, without those that look for what no DeiT has.

Each pass traces the whole graph anew, whether it finds something or not, and two of them first export
samples of what they look for: a third of the time that a file takes. A file is the same to the byte
without them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from torch.export import ExportedProgram

__all__ = ["IDLE", "needed_passes"]

IDLE: Final = (
    "ConvertToUpsampleBilinear2d",  # resizes
    "ConvertToSDPAPass",  # attention as the operator of that name; the deployment form writes it out
    "FuseBatchNormPass",
    "DecomposeBatchNorm",
    "InsertPadQDQPass",  # padding
    "Conv1dUnsqueezePass",
    "PReLUReshapePass",
    "PropagateCustomMetaPass",  # notes of a user's own on the nodes
    "FuseActivationPass",  # a ReLU or a clamp after a layer
    "DecomposeConcatenate",  # of more than five tensors
    "RemoveGetItemPass",  # pooling, and splits
)
"""Passes that find nothing."""

_LOCK: Final = threading.RLock()


@contextmanager
def needed_passes() -> Iterator[None]:
    """Have XNNPACK leave the idle passes out within the block, which one thread at a time can be in.

    Source: executorch.backends.xnnpack.xnnpack_preprocess, which makes one manager of passes a graph.
    """
    from executorch.backends.xnnpack import xnnpack_preprocess

    with _LOCK:
        whole = xnnpack_preprocess.XNNPACKPassManager

        class Needed(whole):  # type: ignore[misc, valid-type]
            """The same passes in the same order, but for the idle ones."""

            def __init__(self, program: ExportedProgram, passes: list[Any] | None = None) -> None:
                super().__init__(program, passes)
                every: list[Any] = vars(self)["passes"]
                self.passes = [one for one in every if one.__name__ not in IDLE]

        xnnpack_preprocess.XNNPACKPassManager = Needed
        try:
            yield
        finally:
            xnnpack_preprocess.XNNPACKPassManager = whole
