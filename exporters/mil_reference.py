"""Runs a saved `.mlpackage` with torch operators, where Core ML itself is absent.

These are reference numerics, not Core ML: every operator is computed in float32 and its result rounded
to the type that the program declares, so a float16 program is computed as float16 storage would have
it, while Core ML's own accumulation order and precision stay unknown. The program is reloaded from
disk with its weights from the blob file, so a wrong offset or a damaged package shows.

Semantics: coremltools' MIL operator definitions (`coremltools.converters.mil.mil.ops.defs`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edge_deit.errors import EdgeDeitError
from exporters.target import Runner

__all__ = ["OPERATORS", "Step", "load_spec", "reference_runner", "run_steps"]

Arguments = dict[str, Any]

_TYPES: Final = {
    "fp16": torch.float16,
    "fp32": torch.float32,
    "int32": torch.int32,
    "int16": torch.int16,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}


@dataclass(frozen=True)
class Step:
    """One operator: what it reads (names, or constants already decoded), writes, and in which types."""

    kind: str
    constants: Arguments
    reads: dict[str, str | tuple[str, ...]]
    writes: tuple[str, ...]
    types: tuple[torch.dtype | None, ...]


def _linear(a: Arguments) -> Tensor:
    return F.linear(a["x"], a["weight"], a.get("bias"))


def _matmul(a: Arguments) -> Tensor:
    x = a["x"].mT if a.get("transpose_x") else a["x"]
    y = a["y"].mT if a.get("transpose_y") else a["y"]
    return torch.matmul(x, y)


def _conv(a: Arguments) -> Tensor:
    if a.get("pad_type", "valid") != "valid" and any(a.get("pad", [0])):
        raise EdgeDeitError("reference numerics know convolutions without padding only")
    strides, dilations = tuple(a.get("strides", (1, 1))), tuple(a.get("dilations", (1, 1)))
    return F.conv2d(a["x"], a["weight"], a.get("bias"), strides, 0, dilations, a.get("groups", 1))


def _gelu(a: Arguments) -> Tensor:
    mode = a.get("mode", "EXACT")
    if mode != "EXACT":
        raise EdgeDeitError(f"reference numerics know gelu EXACT only, not {mode}")
    return F.gelu(a["x"])


def _layer_norm(a: Arguments) -> Tensor:
    axes = sorted(axis % a["x"].ndim for axis in a["axes"])
    if axes != list(range(axes[0], a["x"].ndim)):
        raise EdgeDeitError(f"reference numerics know layer_norm over the last axes only, not {axes}")
    shape = tuple(a["x"].shape[axes[0] :])
    return F.layer_norm(a["x"], shape, a.get("gamma"), a.get("beta"), float(a["epsilon"]))


def _along(scale: Tensor, ndim: int, axis: int | None) -> Tensor:
    """Reshape a vector so that it lies along `axis` of a tensor with `ndim` dimensions."""
    if scale.ndim == 0 or axis is None:
        return scale
    shape = [1] * ndim
    shape[axis] = -1
    return scale.reshape(shape)


def _quantize(a: Arguments) -> Tensor:
    """round(x / scale) + zero_point, saturated (MIL iOS17 `quantize`)."""
    x, axis, kind = a["input"].float(), a.get("axis"), str(a["output_dtype"])
    scale = _along(torch.as_tensor(a["scale"]).float(), x.ndim, axis)
    zero = _along(torch.as_tensor(a.get("zero_point", 0)).float(), x.ndim, axis)
    low, high = (0, 255) if kind == "uint8" else (-128, 127)
    return (torch.round(x / scale) + zero).clamp(low, high)


def _dequantize(a: Arguments) -> Tensor:
    """(q - zero_point) * scale (MIL iOS17 `dequantize`)."""
    q, axis = a["input"].float(), a.get("axis")
    scale = _along(torch.as_tensor(a["scale"]).float(), q.ndim, axis)
    zero = _along(torch.as_tensor(a.get("zero_point", 0)).float(), q.ndim, axis)
    return (q - zero) * scale


def _affine_constant(a: Arguments) -> Tensor:
    """MIL iOS16 `constexpr_affine_dequantize`, the form of int8 weights."""
    return _dequantize({**a, "input": a["quantized_data"]})


def _pad(a: Arguments) -> Tensor:
    if a.get("mode", "constant") != "constant":
        raise EdgeDeitError(f"reference numerics know constant padding only, not {a['mode']}")
    pairs = [int(value) for value in a["pad"]]
    flat = [v for i in range(len(pairs) - 2, -1, -2) for v in (pairs[i], pairs[i + 1])]
    return F.pad(a["x"], flat, value=float(a.get("constant_val", 0.0)))


def _slice(a: Arguments) -> Tensor:
    x, count = a["x"], a["x"].ndim
    begin_mask = a.get("begin_mask", [False] * count)
    end_mask = a.get("end_mask", [False] * count)
    squeeze = a.get("squeeze_mask", [False] * count)
    stride = a.get("stride", [1] * count)
    index: list[slice | int] = []
    for axis in range(count):
        begin, end = int(a["begin"][axis]), int(a["end"][axis])
        if squeeze[axis]:
            index.append(begin)
            continue
        first = None if begin_mask[axis] else begin
        index.append(slice(first, None if end_mask[axis] else end, int(stride[axis])))
    return x[tuple(index)]  # type: ignore[no-any-return]


def _expand(a: Arguments) -> Tensor:
    x = a["x"]
    for axis in a["axes"]:
        x = x.unsqueeze(int(axis))
    return x  # type: ignore[no-any-return]


def _squeeze(a: Arguments) -> Tensor:
    axes = a.get("axes")
    return a["x"].squeeze() if axes is None else a["x"].squeeze(tuple(int(i) for i in axes))  # type: ignore[no-any-return]


def _split(a: Arguments) -> tuple[Tensor, ...]:
    sizes = a.get("split_sizes")
    axis = int(a["axis"])
    if sizes is None:
        return a["x"].chunk(int(a["num_splits"]), axis)  # type: ignore[no-any-return]
    return torch.split(a["x"], [int(size) for size in sizes], axis)  # type: ignore[no-untyped-call,no-any-return]


def _reshape(a: Arguments) -> Tensor:
    x = a["x"]
    shape = [x.shape[i] if int(size) == 0 else int(size) for i, size in enumerate(a["shape"])]
    return x.reshape(shape)  # type: ignore[no-any-return]


def _same(name: str) -> Callable[[Arguments], Any]:
    """The input unchanged; its declared type does the rest."""
    return lambda a: a[name]


OPERATORS: Final[dict[str, Callable[[Arguments], Any]]] = {
    "linear": _linear,
    "matmul": _matmul,
    "conv": _conv,
    "gelu": _gelu,
    "layer_norm": _layer_norm,
    "softmax": lambda a: torch.softmax(a["x"], int(a.get("axis", -1))),
    "quantize": _quantize,
    "dequantize": _dequantize,
    "constexpr_affine_dequantize": _affine_constant,
    "add": lambda a: a["x"] + a["y"],
    "sub": lambda a: a["x"] - a["y"],
    "mul": lambda a: a["x"] * a["y"],
    "real_div": lambda a: a["x"] / a["y"],
    "square": lambda a: a["x"] * a["x"],
    "rsqrt": lambda a: torch.rsqrt(a["x"] + float(a.get("epsilon", 1e-12))),
    "reduce_mean": lambda a: a["x"].mean(
        tuple(int(i) for i in a["axes"]), keepdim=bool(a.get("keep_dims", False))
    ),
    "reshape": _reshape,
    "transpose": lambda a: a["x"].permute([int(i) for i in a["perm"]]),
    "concat": lambda a: torch.cat(list(a["values"]), int(a["axis"])),
    "pad": _pad,
    "slice_by_index": _slice,
    "split": _split,
    "expand_dims": _expand,
    "squeeze": _squeeze,
    "cast": _same("x"),
    "identity": _same("x"),
}
"""MIL operator -> its meaning; floats arrive as float32 whatever their declared type."""


def load_spec(path: Path) -> Any:
    """The package's protobuf description.

    Raises:
        EdgeDeitError: no whole package.
    """
    import coremltools as ct

    if not (path / "Manifest.json").is_file():
        raise EdgeDeitError(f"{path} is not a Core ML package: export it again")
    try:
        return ct.models.MLModel(str(path), skip_model_load=True).get_spec()
    except (RuntimeError, ValueError, OSError, TypeError) as error:
        raise EdgeDeitError(f"{path} cannot be read ({error}); export it again") from error


def _program(path: Path, spec: Any) -> Any:
    from coremltools.converters.mil.frontend.milproto.load import load

    weights = path / "Data" / "com.apple.CoreML" / "weights"
    try:
        return load(spec, spec.specificationVersion, str(weights))
    except (RuntimeError, ValueError, OSError, TypeError, KeyError, IndexError) as error:
        raise EdgeDeitError(f"{path} has damaged weights ({error}); export it again") from error


def _decode(value: Any) -> Any:
    """A constant as the operators take it: float tensors in float32, everything else as it is."""
    if isinstance(value, np.ndarray) and value.ndim and value.dtype.kind == "f":
        return torch.from_numpy(np.ascontiguousarray(value, np.float32))
    if isinstance(value, np.ndarray) and value.ndim > 1:
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, np.generic):
        return value.item()
    return value


def _steps(program: Any) -> list[Step]:
    """The main function as steps; constants are decoded once."""
    from coremltools.converters.mil.mil.types.type_mapping import builtin_to_string

    steps = []
    for operation in program.functions["main"].operations:
        if operation.op_type == "const":
            continue
        if operation.op_type not in OPERATORS:
            raise EdgeDeitError(f"reference numerics have no MIL operator {operation.op_type!r}")
        constants: Arguments = {}
        reads: dict[str, str | tuple[str, ...]] = {}
        for name, variable in operation.inputs.items():
            if isinstance(variable, list | tuple):
                reads[name] = tuple(part.name for part in variable)
            elif variable is not None and _is_constant(variable):
                constants[name] = _decode(variable.val)
            elif variable is not None:
                reads[name] = variable.name
        types = tuple(_TYPES.get(builtin_to_string(out.dtype)) for out in operation.outputs)
        writes = tuple(out.name for out in operation.outputs)
        steps.append(Step(operation.op_type, constants, reads, writes, types))
    return steps


def _is_constant(variable: Any) -> bool:
    return variable.val is not None and variable.op is not None and variable.op.op_type == "const"


def run_steps(steps: list[Step], values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Execute the steps over named values; returns all of them, intermediate results too."""
    values = dict(values)
    for step in steps:
        arguments = dict(step.constants)
        for name, source in step.reads.items():
            found = (
                values[source] if isinstance(source, str) else tuple(values[part] for part in source)
            )
            arguments[name] = found
        result = OPERATORS[step.kind](arguments)
        results = result if isinstance(result, tuple | list) else (result,)
        for name, value, kind in zip(step.writes, results, step.types, strict=True):
            values[name] = _round(value, kind)
    return values


def _round(value: Tensor, kind: torch.dtype | None) -> Tensor:
    """To the declared type and back to float32, in which everything is computed."""
    if kind is None or kind == torch.float32:
        return value.float()
    if kind == torch.float16:
        return value.to(torch.float16).float()
    return value.to(kind)


def reference_runner(path: Path, threads: int) -> Runner:
    """A runner of a saved package with torch operators.

    Raises:
        EdgeDeitError: no whole package, or an operator without a meaning here.
    """
    spec = load_spec(path)
    steps = _fold(_steps(_program(path, spec)))
    (source,), (result,) = spec.description.input, spec.description.output

    def run(pixels: np.ndarray) -> np.ndarray:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                contiguous = np.ascontiguousarray(pixels, np.float32)
                values = run_steps(steps, {source.name: torch.from_numpy(contiguous)})
        finally:
            torch.set_num_threads(before)
        return np.asarray(values[result.name].numpy(), np.float32)

    return run


def _fold(steps: list[Step]) -> list[Step]:
    """Compute once what depends on constants alone (int8 weights become float)."""
    known: dict[str, Tensor] = {}
    rest = []
    for step in steps:
        constants, reads = dict(step.constants), dict(step.reads)
        for name, source in step.reads.items():
            if isinstance(source, str) and source in known:
                constants[name] = known[source]
                del reads[name]
        folded = Step(step.kind, constants, reads, step.writes, step.types)
        if reads:
            rest.append(folded)
        else:
            known |= run_steps([folded], {})
    return rest
