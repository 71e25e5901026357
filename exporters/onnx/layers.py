"""Values inside an `.onnx` file: a copy of its graph in memory shows them as further outputs.

ONNX Runtime fuses operators whose results nobody asks for. A further output ends a fusion, so the last bits
may differ from those of the file as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_deit.exporters.graph_points import Step, find_points
from edge_deit.exporters.onnx.session import open_session
from edge_deit.exporters.runtime import contiguous
from edge_deit.model.config import DeiTConfig
from edge_deit.model.points import LayerReader, Points, shaped

__all__ = ["layer_reader"]

_METHOD: Final = "ONNX Runtime, with the points as further outputs of the graph"
_KINDS: Final = {"Add": "add", "Softmax": "softmax"}


def layer_reader(path: Path, config: DeiTConfig) -> LayerReader:
    """Prepare a file, which is not changed, to show its points.

    Raises:
        EdgeDeitError: the graph is not one that this version exports.
    """
    import onnx

    model = onnx.load(path)
    graph = model.graph
    (source,), (result,) = graph.input, graph.output
    steps = (
        Step(_KINDS.get(node.op_type, ""), tuple(node.input), tuple(node.output))
        for node in graph.node
    )
    tensors: dict[str, str] = find_points(steps, source.name, result.name, config)
    graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in tensors.values() if name != result.name
    )
    session = open_session(model.SerializeToString(), threads=1)
    return LayerReader(_METHOD, _Session(session, source.name, tensors, config).read)


@dataclass(frozen=True)
class _Session:
    """A session whose outputs include the points."""

    session: Any
    input_name: str
    tensors: dict[str, str]
    config: DeiTConfig

    def read(self, pixels: np.ndarray) -> Points:
        """(1, 3, H, W) -> values at all points."""
        feed = {self.input_name: contiguous(pixels)}
        values = self.session.run(list(self.tensors.values()), feed)
        return shaped(dict(zip(self.tensors, values, strict=True)), self.config)
