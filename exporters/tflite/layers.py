"""Values inside a `.tflite` file: a copy of its graph in memory shows them as further outputs.

So XNNPACK stays on. The interpreter's own way, `experimental_preserve_all_tensors`, shows nothing inside
a delegate's subgraph, and without the delegate other kernels would be looked at than those that run.

`int8-full` has its own graph (`_tflite_integer`): the stream comes in two parts, prefix tokens and
patches, the former a constant in front of the first block; its values are integers with one scale a tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_deit.exporters.graph_points import Step, find_points, unknown_graph
from edge_deit.exporters.runtime import contiguous
from edge_deit.exporters.tflite.file import contents, kind, pack, read
from edge_deit.model.config import DeiTConfig
from edge_deit.model.points import LayerReader, Points, point_names, shaped

__all__ = ["layer_reader"]

_METHOD: Final = "LiteRT with XNNPACK, with the points as further outputs of the graph"
_KINDS: Final = {"ADD": "add", "SOFTMAX": "softmax"}


def layer_reader(path: Path, config: DeiTConfig) -> LayerReader:
    """Prepare a file, which is not changed, to show its points.

    Raises:
        EdgeDeitError: the file is broken, or its graph is not one that this version exports.
    """
    from ai_edge_litert.interpreter import Interpreter

    model = read(path)
    (graph,) = model.subgraphs
    operators = [(kind(model, operator), operator) for operator in graph.operators]
    if any(name == "CONCATENATION" for name, _ in operators):
        tensors = _split_points(operators, model, config)
    else:
        steps = (
            Step(_KINDS.get(name, ""), tuple(map(int, op.inputs)), tuple(map(int, op.outputs)))
            for name, op in operators
        )
        found = find_points(steps, int(graph.inputs[0]), int(graph.outputs[0]), config)
        tensors = {name: (index,) for name, index in found.items()}
    shown = {index for parts in tensors.values() for index in parts}
    constants = {i for i in shown if contents(model.buffers[graph.tensors[i].buffer])}
    added = sorted(shown - constants - {*map(int, graph.outputs)})
    graph.outputs = np.array([*graph.outputs, *added], np.int32)
    interpreter = Interpreter(model_content=pack(model), num_threads=1)
    interpreter.allocate_tensors()
    return LayerReader(_METHOD, _Interpreter(interpreter, tensors, config).read)


def _split_points(
    operators: list[tuple[str, Any]], model: Any, config: DeiTConfig
) -> dict[str, tuple[int, ...]]:
    """Point -> the parts of its value, prefix tokens first; a classifier's last block has no patches.

    Behind the first SOFTMAX every ADD of width D ends a residual branch, as head outputs have width d, but
    for sums of two layers' results; a model without classes has one more, the shift of its last norm. A
    SOFTMAX that ends the graph makes probabilities.
    """
    (graph,) = model.subgraphs
    result = int(graph.outputs[0])
    attentions, squared, sums, layers = list[int](), list[int](), list[Any](), set[int]()
    for name, operator in operators:
        inputs, output = [int(index) for index in operator.inputs], int(operator.outputs[0])
        wide = graph.tensors[output].shape[-1] == config.embed_dim
        if name == "FULLY_CONNECTED":
            layers.add(output)
        elif name == "SOFTMAX":
            attentions += [output] if output != result else []
        elif name == "MUL" and inputs[0] == inputs[1]:
            squared.append(inputs[0])  # by a norm
        elif name == "ADD" and attentions and wide and not {*inputs} <= layers:
            sums.append(operator)
    whole = config.depth - 1 if config.num_classes else config.depth  # blocks with patches
    expected = 4 * whole + 2 * (config.depth - whole) + (not config.num_classes)
    if len(attentions) != config.depth or len(sums) != expected:
        raise unknown_graph()
    (prefix,) = (int(i) for i in sums[0].inputs if contents(model.buffers[graph.tensors[i].buffer]))
    points: dict[str, tuple[int, ...]] = {"embedding": (prefix, squared[0])}
    ends = iter(int(operator.outputs[0]) for operator in sums)
    for block, attention in enumerate(attentions):
        points[f"blocks.{block}.attention"] = (attention,)
        for branch in ("attn", "mlp"):
            parts = 2 if block < whole else 1
            points[f"blocks.{block}.{branch}"] = tuple(next(ends) for _ in range(parts))
    points[point_names(config)[-1]] = (result,)
    return points


@dataclass(frozen=True)
class _Interpreter:
    """An interpreter whose outputs include the points, each in one or two parts."""

    interpreter: Any
    tensors: dict[str, tuple[int, ...]]
    config: DeiTConfig

    def read(self, pixels: np.ndarray) -> Points:
        """(1, 3, H, W) -> values at all points."""
        (source,) = self.interpreter.get_input_details()
        self.interpreter.set_tensor(source["index"], contiguous(pixels))
        self.interpreter.invoke()
        details = {detail["index"]: detail for detail in self.interpreter.get_tensor_details()}
        values = {}
        for name, parts in self.tensors.items():
            read = [self._value(details[index]) for index in parts]
            values[name] = read[0] if len(read) == 1 else np.concatenate(read, axis=-2)
        return shaped(values, self.config)

    def _value(self, detail: dict[str, Any]) -> np.ndarray:
        """A tensor's values, integers times their scale."""
        values: np.ndarray = self.interpreter.get_tensor(detail["index"])
        scale, zero_point = detail["quantization"]
        if values.dtype == np.float32:
            return values
        return np.asarray((values.astype(np.float32) - zero_point) * np.float32(scale))
