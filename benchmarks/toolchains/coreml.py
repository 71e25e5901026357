"""Executes a stock `.mlpackage` with torch, where there is no Core ML.

`exporters.coreml.reference` knows the operators of the deployment form; the plain model's package holds
six more, and takes single rows. Each result is rounded to the type that the program declares, as there.
It is not Core ML.

Source: coremltools' MIL operator definitions (`coremltools.converters.mil.mil.ops.defs`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters import Runner
from edge_deit.exporters.coreml import reference as mil_reference
from edge_deit.exporters.coreml.operators import OPERATORS
from edge_deit.exporters.mlpackage import read_specification

__all__ = ["load"]

Arguments = Mapping[str, Any]


def _layer_norm(a: Arguments) -> Tensor:
    x: Tensor = a["x"]
    shape = [x.shape[axis] for axis in a["axes"]]
    return F.layer_norm(x, shape, a.get("gamma"), a.get("beta"), float(a["epsilon"]))


def _concat(a: Arguments) -> Tensor:
    return torch.cat(list(a["values"]), dim=int(a["axis"]))


def _einsum(a: Arguments) -> Tensor:
    return torch.einsum(a["equation"], *a["values"])


def _expand_dims(a: Arguments) -> Tensor:
    x: Tensor = a["x"]
    for axis in sorted(a["axes"]):
        x = x.unsqueeze(axis)
    return x


def _squeeze(a: Arguments) -> Tensor:
    x: Tensor = a["x"]
    return x.squeeze(tuple(a["axes"]))


def _slice_by_index(a: Arguments) -> Tensor:
    """A part of x; a dimension in `squeeze_mask` is one index and goes."""
    x: Tensor = a["x"]
    absent = [False] * x.dim()
    begins, ends = a.get("begin_mask") or absent, a.get("end_mask") or absent
    steps, single = a.get("stride") or [1] * x.dim(), a.get("squeeze_mask") or absent
    parts: list[slice | int] = []
    for i in range(x.dim()):
        begin, end = int(a["begin"][i]), int(a["end"][i])
        whole = slice(None if begins[i] else begin, None if ends[i] else end, steps[i])
        parts.append(begin if single[i] else whole)
    return x[tuple(parts)]


def _split(a: Arguments) -> tuple[Tensor, ...]:
    x: Tensor = a["x"]
    count = a.get("num_splits")
    size = a["split_sizes"] if count is None else x.shape[a["axis"]] // int(count)
    return torch.split(x, size, dim=int(a["axis"]))


_OPERATORS: Final[dict[str, Callable[[Arguments], Tensor | tuple[Tensor, ...]]]] = {
    **OPERATORS,
    "concat": _concat,
    "einsum": _einsum,
    "expand_dims": _expand_dims,
    "layer_norm": _layer_norm,
    "slice_by_index": _slice_by_index,
    "split": _split,
    "squeeze": _squeeze,
}


@dataclass(frozen=True)
class _Package:
    """A program's operations in order, and its constants by name."""

    operations: tuple[Any, ...]
    constants: Mapping[str, Any]
    input_name: str
    output_name: str
    threads: int

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        torch.set_num_threads(self.threads)
        values = dict(self.constants)
        values[self.input_name] = torch.from_numpy(np.ascontiguousarray(pixels, np.float32))
        with torch.inference_mode():
            for operation in self.operations:
                values |= _run(operation, values)
        return np.asarray(values[self.output_name].numpy(), dtype=np.float32)


def load(path: Path, threads: int) -> Runner:
    """Read a package; constants are decoded once.

    Raises:
        EdgeDeitError: not a whole package, or an operator that is not known here.
    """
    from coremltools.converters.mil.frontend.milproto.load import load as load_program

    specification = read_specification(path)
    weights = path / "Data" / "com.apple.CoreML" / "weights"
    program = load_program(specification, specification.specificationVersion, str(weights))
    function = program.functions["main"]
    (name,), (result,) = function.inputs, function.outputs
    constants: dict[str, Any] = {}
    operations = []
    for operation in function.operations:
        if operation.op_type == "const":
            constants[operation.outputs[0].name] = mil_reference.constant(operation.outputs[0].val)
        elif operation.op_type not in _OPERATORS:
            raise EdgeDeitError(
                f"{path} holds the operator {operation.op_type}, which is not known here; run it on macOS"
            )
        elif operation.op_type.startswith("constexpr_"):
            constants |= _run(operation, constants)
        else:
            operations.append(operation)
    return _Package(tuple(operations), constants, name, result.name, threads)


def _run(operation: Any, values: Mapping[str, Any]) -> dict[str, Tensor]:
    """The operation's outputs by name, rounded to their declared types, shapes checked."""
    arguments = {name: _value(var, values) for name, var in operation.inputs.items() if var}
    found = _OPERATORS[operation.op_type](arguments)
    results = found if isinstance(found, tuple) else (found,)
    outputs = {}
    for output, result in zip(operation.outputs, results, strict=True):
        if tuple(result.shape) != tuple(output.shape):
            raise EdgeDeitError(
                f"operator {operation.op_type} ({output.name}) gives {tuple(result.shape)}, the package "
                f"declares {tuple(output.shape)}; make it again"
            )
        outputs[output.name] = _rounded(result, output)
    return outputs


def _value(var: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(var, list | tuple):
        return [values[one.name] for one in var]
    return values[var.name]


def _rounded(result: Tensor, output: Any) -> Tensor:
    from coremltools.converters.mil.mil import types

    kind = types.builtin_to_string(output.dtype)
    if kind == "fp16":
        return result.half().float()
    if kind == "fp32":
        return result
    return result.to({"int8": torch.int8, "uint8": torch.uint8}[kind])
