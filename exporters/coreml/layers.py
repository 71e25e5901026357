"""Values inside an `.mlpackage`: those that the reference interpreter computes on its way.

Core ML itself shows none, so that on macOS, too, these are values of the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edge_deit.exporters.coreml import reference as mil_reference
from edge_deit.exporters.graph_points import Step, find_points
from edge_deit.model.config import DeiTConfig
from edge_deit.model.points import LayerReader, Points, shaped

__all__ = ["layer_reader"]

_METHOD: Final = "reference numerics (torch) of the ML Program, not Core ML"


def layer_reader(path: Path, config: DeiTConfig) -> LayerReader:
    """Prepare a package to show its points.

    Raises:
        EdgeDeitError: the package is broken, or its graph is not one that this version exports.
    """
    reference = mil_reference.load(path, threads=1)
    steps = (Step(operator, reads, (output,)) for operator, reads, output in reference.edges())
    tensors = find_points(steps, reference.input_name, reference.output_name, config)
    return LayerReader(_METHOD, _Program(reference, tensors, config).read)


@dataclass(frozen=True)
class _Program:
    """A program, and the names that its points have in it."""

    reference: mil_reference.Reference
    tensors: dict[str, str]
    config: DeiTConfig

    def read(self, pixels: np.ndarray) -> Points:
        """(1, 3, H, W) -> values at all points."""
        values = self.reference.values(pixels, set(self.tensors.values()))
        return shaped({name: values[tensor] for name, tensor in self.tensors.items()}, self.config)
