"""Values inside a `.pte` file: a copy of its program in memory shows them as further outputs.

ETDump and the Inspector do not show it. A whole model is one call of XNNPACK's delegate: with event tracing
on, the delegate's operators come with names and times, but values come only of the call's own arguments.
So the graph that the delegate was given is edited: each point becomes an external output of XNNPACK's
subgraph, an argument of the delegate's call and an output of the program. Weights and arithmetic stay
those of the file.

The graph is a flatbuffer of ExecuTorch's own schema; it is read and written by ExecuTorch's `flatc` as
JSON, which prints floats with six decimals. So scales are taken from the flatbuffer itself.

Source: executorch/backends/xnnpack/serialization/schema.fbs; runtime/XNNPACKBackend.cpp.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.resources
import json
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters.executorch.runtime import open_program
from edge_deit.exporters.graph_points import Step, find_points, unknown_graph
from edge_deit.exporters.runtime import contiguous
from edge_deit.model.config import DeiTConfig
from edge_deit.model.points import LayerReader, Points, shaped

__all__ = ["layer_reader"]

_METHOD: Final = (
    "ExecuTorch with XNNPACK, with the points as further outputs of the delegate's graph"
)
_KINDS: Final = {"XNNAdd": "add", "XNNSoftmax": "softmax"}
_EXTERNAL_OUTPUT: Final = 2  # XNN_VALUE_FLAG_EXTERNAL_OUTPUT
_FLOAT_BYTES: Final = 4
_ALIGNMENT_BYTES: Final = 16  # of planned tensors, and of the parts of a delegate's data

_FIELDS: Final = {  # places in the schema's tables
    "xvalues": 2,
    "xvalue_union_type": 0,
    "xvalue_union": 1,
    "quant_params_type": 1,
    "quant_params": 2,
    "scale": 0,
}
_QUANTIZED: Final = 2  # XValueUnion: XNNQuantizedTensorValue
_PER_TENSOR: Final = 2  # XNNQuantParams: PerTensorQuant


def layer_reader(path: Path, config: DeiTConfig) -> LayerReader:
    """Prepare a file, which is not changed, to show its points.

    Raises:
        EdgeDeitError: the file is for another delegate than XNNPACK, or its graph is not one that this
            version exports.
    """
    from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary

    file = deserialize_pte_binary(path.read_bytes())
    (plan,) = [plan for plan in file.program.execution_plan if plan.name == "forward"]
    if [delegate.id for delegate in plan.delegates] != ["XnnpackBackend"] or plan.operators:
        raise EdgeDeitError(
            f"{path.name} is not one graph of XNNPACK's delegate, the only one whose inside can be shown; "
            "export with the backend xnnpack"
        )
    ((call,),) = [[step.instr_args for step in chain.instructions] for chain in plan.chains]
    data = file.program.backend_delegate_data[plan.delegates[0].processed.index]
    graph = _unpack(data.data)
    values = {value["id_out"]: value for value in map(_tensor, graph["xvalues"])}
    (source,) = [v for v in values.values() if _argument(v, call) == plan.inputs[0]]
    (result,) = graph["output_ids"]
    steps = (_step(node) for node in graph["xnodes"])
    points: dict[str, int] = find_points(steps, source["id_out"], result, config)
    names = sorted(points, key=lambda name: points[name] != result)  # the output stays first
    for name in names[1:]:
        _show(graph, values[points[name]], plan, call)
    data.data = _pack(graph, data.data)
    content = bytes(serialize_pte_binary(file, extract_delegate_segments=True))
    return LayerReader(_METHOD, _Program(content, tuple(names), config).read)


def _tensor(value: dict[str, Any]) -> dict[str, Any]:
    """The tensor of a value, quantized or not."""
    union: dict[str, Any] = value["xvalue_union"]
    inner: dict[str, Any] = union.get("tensor_value", union)
    return inner


def _argument(tensor: dict[str, Any], call: Any) -> int | None:
    """The argument of the delegate's call that an external tensor is; its id is the place."""
    place: int = tensor["external_id"]
    return call.args[place] if place < len(call.args) else None


def _step(node: dict[str, Any]) -> Step[int]:
    union = node["xnode_union"]
    inputs = [
        value for key, value in union.items() if key in ("input_id", "input1_id", "input2_id")
    ]
    return Step(_KINDS.get(node["xnode_union_type"], ""), tuple(inputs), (union["output_id"],))


def _show(graph: dict[str, Any], tensor: dict[str, Any], plan: Any, call: Any) -> None:
    """Make a tensor an output of the graph, of the call and of the program, in place."""
    from executorch.exir.schema import AllocationDetails, EValue

    if tensor["datatype"] != "xnn_datatype_fp32" or tensor["flags"]:
        raise unknown_graph()
    tensor["external_id"], tensor["flags"] = graph["num_externs"], _EXTERNAL_OUTPUT
    graph["num_externs"] += 1
    graph["output_ids"].append(tensor["id_out"])
    shown = copy.deepcopy(plan.values[plan.outputs[0]].val)
    shown.sizes, shown.dim_order = tensor["dims"], list(range(len(tensor["dims"])))
    offset = _aligned(plan.non_const_buffer_sizes[1])
    shown.allocation_info = AllocationDetails(
        memory_id=1, memory_offset_low=offset & 0xFFFFFFFF, memory_offset_high=offset >> 32
    )
    plan.non_const_buffer_sizes[1] = offset + _FLOAT_BYTES * int(np.prod(tensor["dims"]))
    call.args.append(len(plan.values))
    plan.outputs.append(len(plan.values))
    plan.values.append(EValue(shown))


# The delegate's graph


def _unpack(data: bytes) -> dict[str, Any]:
    """The graph in a delegate's data, as JSON has it but with exact scales."""
    header = _header(data)
    binary = data[header.flatbuffer_offset : header.flatbuffer_offset + header.flatbuffer_size]
    graph: dict[str, Any] = json.loads(_translate(binary, "graph.bin", "graph.json"))
    for value, scale in zip(graph["xvalues"], _scales(binary), strict=True):
        if scale is not None:
            value["xvalue_union"]["quant_params"]["scale"] = scale
    return graph


def _pack(graph: dict[str, Any], data: bytes) -> bytes:
    """A delegate's data with another graph and the same constants."""
    header = _header(data)
    binary = _translate(json.dumps(graph).encode(), "graph.json", "graph.bin")
    start = _aligned(header.EXPECTED_LENGTH)
    end = start + _aligned(len(binary))
    new = dataclasses.replace(
        header, flatbuffer_offset=start, flatbuffer_size=len(binary), constant_data_offset=end
    )
    graph_bytes = (new.to_bytes().ljust(start, b"\0") + binary).ljust(end, b"\0")
    return bytes(graph_bytes) + data[header.constant_data_offset :]


def _header(data: bytes) -> Any:
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader

    return XNNHeader.from_bytes(data[: XNNHeader.EXPECTED_LENGTH])


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def _translate(content: bytes, source: str, result: str) -> bytes:
    """The graph as a flatbuffer from JSON or the other way round; the files' names say which."""
    from executorch.exir._serialize._flatbuffer import _flatc_compile, _flatc_decompile

    schema = importlib.resources.files("executorch.backends.xnnpack.serialization") / "schema.fbs"
    translate = _flatc_compile if result == "graph.bin" else _flatc_decompile
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "schema.fbs").write_bytes(schema.read_bytes())
        Path(folder, source).write_bytes(content)
        translate(folder, str(Path(folder, "schema.fbs")), str(Path(folder, source)))
        return Path(folder, result).read_bytes()


def _scales(binary: bytes) -> list[float | None]:
    """The exact scale of each value that has one for the whole tensor, in the order of `xvalues`."""
    values = _follow(binary, _field(binary, _follow(binary, 0), "xvalues"))
    (count,) = struct.unpack_from("<I", binary, values)
    return [_scale(binary, _follow(binary, values + 4 + 4 * index)) for index in range(count)]


def _scale(binary: bytes, value: int) -> float | None:
    """The scale of the value whose table is at `value`."""
    if binary[_field(binary, value, "xvalue_union_type")] != _QUANTIZED:
        return None
    tensor = _follow(binary, _field(binary, value, "xvalue_union"))
    if binary[_field(binary, tensor, "quant_params_type")] != _PER_TENSOR:
        return None
    params = _follow(binary, _field(binary, tensor, "quant_params"))
    return float(struct.unpack_from("<f", binary, _field(binary, params, "scale"))[0])


def _field(binary: bytes, table: int, name: str) -> int:
    """Where a table's field is stored: the table begins with the distance back to its list of fields."""
    (back,) = struct.unpack_from("<i", binary, table)
    (place,) = struct.unpack_from("<H", binary, table - back + 4 + 2 * _FIELDS[name])
    return table + int(place)


def _follow(binary: bytes, place: int) -> int:
    """Where the reference at `place` points to."""
    (distance,) = struct.unpack_from("<I", binary, place)
    return place + int(distance)


# Running


@dataclass(frozen=True)
class _Program:
    """A program whose outputs are the points, in the order of `names`."""

    content: bytes
    names: tuple[str, ...]
    config: DeiTConfig

    def read(self, pixels: np.ndarray) -> Points:
        """(1, 3, H, W) -> values at all points.

        The method is loaded for each photo: one that was loaded earlier must not run after another
        runner has replaced the process's thread pool.
        """
        method = open_program(self.content).load_method("forward")
        outputs = method([torch.from_numpy(contiguous(pixels))])
        values = [output.numpy().copy() for output in outputs]
        return shaped(dict(zip(self.names, values, strict=True)), self.config)
