"""What a training changes, and how it is judged and written: float weights here, others elsewhere."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from edge_deit.checkpoint.load import load_model
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.deit import DeiT
from edge_deit.model.form import DeployDeiT
from edge_deit.quantization.learner import Learner

__all__ = ["FloatWeights", "Judged", "Kind", "Learning", "as_stored"]

Learning = DeiT | Learner
"""What the optimizer moves."""

Judged = DeiT | DeployDeiT
"""What photos are run through: pixels (B, 3, H, W) -> logits (B, K)."""


class Kind(Protocol):
    """How what is trained becomes a file; `words` say what is special about it, empty for nothing."""

    @property
    def words(self) -> str:
        """What a line and the page say beside the device."""
        ...

    def stored(self, model: Learning) -> Judged:
        """What the file would compute."""
        ...

    def write(self, path: Path, model: Learning) -> None:
        """Write it, whole or not at all."""
        ...

    def read(self, path: Path) -> Judged:
        """What a file that was written computes."""
        ...


@dataclass(frozen=True)
class FloatWeights:
    """A checkpoint in float16, computed in float32."""

    spec: PreprocessSpec
    labels: tuple[str, ...]
    words: str = ""

    def stored(self, model: Learning) -> Judged:
        assert isinstance(model, DeiT)
        return as_stored(model)

    def write(self, path: Path, model: Learning) -> None:
        assert isinstance(model, DeiT)
        save_checkpoint(path, model, self.spec, self.labels, half=True)

    def read(self, path: Path) -> Judged:
        return load_model(str(path)).model


def as_stored(model: DeiT) -> DeiT:
    """A copy with the values that a file of the weights has: rounded to float16."""
    stored = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in stored.parameters():
            parameter.copy_(parameter.half())
    return stored.eval()
