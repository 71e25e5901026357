"""Executes a saved `.mlpackage` with torch, where there is no Core ML: a check, not a runtime.

The package is read back from disk and each operator of its ML Program is computed in float32; the
result is then rounded to the type that the program declares for it. That follows the file's weights,
quantised ranges and types, overflow of float16 included. Core ML may add up in another order and may fuse
operators, so its last bits, and its speed, are not known from here.

Source: coremltools' MIL operator definitions (`coremltools.converters.mil.mil.ops.defs`).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edge_deit.errors import EdgeDeitError

__all__ = ["OPERATORS", "Reference", "decode", "load", "read_specification"]

Arguments = Mapping[str, Any]
"""Parameter name -> tensor; constants that are int32, bool or text are Python values."""

_BLOB: Final = struct.Struct("<IIQQ")  # mark, type, bytes, where the data starts in the file
_BLOB_MARK: Final = 0xDEADBEEF


# Operators


def _conv(a: Arguments) -> Tensor:
    _only("conv", "pad_type", a["pad_type"], "valid")
    return F.conv2d(
        a["x"],
        a["weight"],
        a.get("bias"),
        stride=a["strides"],
        dilation=a["dilations"],
        groups=a["groups"],
    )


def _avg_pool(a: Arguments) -> Tensor:
    _only("avg_pool", "padding", any(a.get("pad") or ()) or a["pad_type"] == "same", False)
    _only("avg_pool", "ceil_mode", bool(a.get("ceil_mode")), False)
    return F.avg_pool2d(a["x"], a["kernel_sizes"], a["strides"])


def _batch_norm(a: Arguments) -> Tensor:
    return F.batch_norm(
        a["x"], a["mean"], a["variance"], a.get("gamma"), a.get("beta"), eps=float(a["epsilon"])
    )


def _linear(a: Arguments) -> Tensor:
    return F.linear(a["x"], a["weight"], a.get("bias"))


def _matmul(a: Arguments) -> Tensor:
    x = a["x"].transpose(-1, -2) if a.get("transpose_x") else a["x"]
    y = a["y"].transpose(-1, -2) if a.get("transpose_y") else a["y"]
    product: Tensor = torch.matmul(x, y)
    return product


def _add(a: Arguments) -> Tensor:
    return torch.add(a["x"], a["y"])


def _mul(a: Arguments) -> Tensor:
    return torch.mul(a["x"], a["y"])


def _rsqrt(a: Arguments) -> Tensor:
    return torch.rsqrt(a["x"] + a["epsilon"])


def _softmax(a: Arguments) -> Tensor:
    return torch.softmax(a["x"], dim=a["axis"])


def _gelu(a: Arguments) -> Tensor:
    _only("gelu", "mode", a["mode"], "EXACT")
    return F.gelu(a["x"])


def _reshape(a: Arguments) -> Tensor:
    x: Tensor = a["x"]
    return x.reshape(a["shape"])


def _transpose(a: Arguments) -> Tensor:
    x: Tensor = a["x"]
    return x.permute(a["perm"])


def _pad(a: Arguments) -> Tensor:
    """`pad` holds (before, after) pairs of the last dimensions, the outermost of them first."""
    _only("pad", "mode", a["mode"], "constant")
    pairs = list(zip(a["pad"][::2], a["pad"][1::2], strict=True))
    flat = [count for pair in reversed(pairs) for count in pair]
    return F.pad(a["x"], flat, value=float(a["constant_val"]))


def _slice_by_index(a: Arguments) -> Tensor:
    x: Tensor = a["x"]
    rank = x.dim()
    _only("slice_by_index", "squeeze_mask", any(a.get("squeeze_mask") or ()), False)
    absent = [False] * rank
    begins, ends = a.get("begin_mask") or absent, a.get("end_mask") or absent
    steps = a.get("stride") or [1] * rank
    parts = [
        slice(None if begins[i] else a["begin"][i], None if ends[i] else a["end"][i], steps[i])
        for i in range(rank)
    ]
    return x[tuple(parts)]


def _cast(a: Arguments) -> Tensor:
    """Rounding to the declared type does the work."""
    x: Tensor = a["x"]
    return x


def _quantize(a: Arguments) -> Tensor:
    """clamp(round(x / scale) + zero point), halves to even."""
    x: Tensor = a["input"]
    limits = torch.iinfo(torch.uint8 if a["output_dtype"] == "uint8" else torch.int8)
    steps = torch.round(x / _along(a["scale"], x, a)) + _zero_point(a, x)
    return steps.clamp(limits.min, limits.max)


def _dequantize(a: Arguments) -> Tensor:
    x: Tensor = a["input"]
    return (x.float() - _zero_point(a, x)) * _along(a["scale"], x, a)


def _constexpr_affine_dequantize(a: Arguments) -> Tensor:
    return _dequantize({**a, "input": a["quantized_data"]})


def _along(values: Tensor, x: Tensor, a: Arguments) -> Tensor:
    """A scalar as it is, a vector shaped to lie along `axis` of x."""
    if values.dim() == 0:
        return values
    shape = [1] * x.dim()
    shape[a["axis"]] = -1
    return values.reshape(shape)


def _zero_point(a: Arguments, x: Tensor) -> Tensor:
    if (values := a.get("zero_point")) is None:
        return torch.zeros(())
    return _along(values.float(), x, a)


def _only(operator: str, parameter: str, value: object, known: object) -> None:
    if value != known:
        raise EdgeDeitError(
            f"operator {operator} with {parameter}={value} is unknown to the reference for Core ML, "
            f"which has {parameter}={known}; run the package on macOS"
        )


OPERATORS: Final[dict[str, Callable[[Arguments], Tensor]]] = {
    "add": _add,
    "cast": _cast,
    "constexpr_affine_dequantize": _constexpr_affine_dequantize,
    "conv": _conv,
    "avg_pool": _avg_pool,
    "batch_norm": _batch_norm,
    "dequantize": _dequantize,
    "gelu": _gelu,
    "linear": _linear,
    "matmul": _matmul,
    "mul": _mul,
    "pad": _pad,
    "quantize": _quantize,
    "reshape": _reshape,
    "rsqrt": _rsqrt,
    "slice_by_index": _slice_by_index,
    "softmax": _softmax,
    "transpose": _transpose,
}
"""Operator of an ML Program -> what computes it in float32."""

_ROUND: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "fp16": lambda x: x.half().float(),
    "fp32": lambda x: x,
    "int8": lambda x: x.to(torch.int8),
    "uint8": lambda x: x.to(torch.uint8),
}
"""Declared type -> rounding; floats stay float32 tensors that hold only values of their type."""


# Running


@dataclass(frozen=True)
class _Value:
    """The name of a value that an earlier step computes."""

    name: str


@dataclass(frozen=True)
class _Step:
    """One operator; `inputs` are constants or `_Value`; `unused` are values that nobody reads later."""

    operator: str
    inputs: Arguments
    output: str
    shape: tuple[int, ...]
    dtype: str
    unused: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the values among its inputs."""
        return tuple(value.name for value in self.inputs.values() if isinstance(value, _Value))

    def run(self, values: Mapping[str, Tensor]) -> Tensor:
        """The result, rounded to its declared type.

        Raises:
            EdgeDeitError: torch refuses the operator, or the shape is not the declared one.
        """
        arguments = {
            name: values[value.name] if isinstance(value, _Value) else value
            for name, value in self.inputs.items()
        }
        try:
            result = OPERATORS[self.operator](arguments)
        except (RuntimeError, IndexError) as error:
            raise EdgeDeitError(
                f"operator {self.operator} ({self.output}) cannot be computed: {error}"
            ) from error
        if tuple(result.shape) != self.shape:
            raise EdgeDeitError(
                f"operator {self.operator} ({self.output}) gives shape {tuple(result.shape)}, the "
                f"package declares {self.shape}; export it again"
            )
        return _ROUND[self.dtype](result)


@dataclass(frozen=True)
class Reference:
    """A program that is ready to run: its steps, its constants decoded."""

    steps: tuple[_Step, ...]
    input_name: str
    input_shape: tuple[int, ...]
    output_name: str
    threads: int

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """(1, 3, H, W) -> the output."""
        return self.values(pixels, (self.output_name,))[self.output_name]

    def values(self, pixels: np.ndarray, names: Collection[str]) -> dict[str, np.ndarray]:
        """What the program computes under the given names, for pixels (1, 3, H, W).

        Raises:
            EdgeDeitError: pixels of another shape, or a step that cannot be computed.
        """
        if pixels.shape != self.input_shape:
            raise EdgeDeitError(f"pixels are {pixels.shape}, the package takes {self.input_shape}")
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with torch.inference_mode():
                return self._run(torch.from_numpy(np.ascontiguousarray(pixels, np.float32)), names)
        finally:
            torch.set_num_threads(before)

    def _run(self, pixels: Tensor, names: Collection[str]) -> dict[str, np.ndarray]:
        values, found = {self.input_name: pixels}, dict[str, np.ndarray]()
        for step in self.steps:
            values[step.output] = step.run(values)
            if step.output in names:
                found[step.output] = np.asarray(values[step.output].numpy(), dtype=np.float32)
            for name in step.unused:
                del values[name]
        return found

    def edges(self) -> Iterator[tuple[str, tuple[str, ...], str]]:
        """Operator, names that it reads and name that it writes, of each step in order."""
        for step in self.steps:
            yield step.operator, step.reads, step.output


# Loading


def load(path: Path, threads: int) -> Reference:
    """Read a package and prepare it: constants are decoded once.

    Raises:
        EdgeDeitError: the package is missing, incomplete or damaged, or holds an operator or type that
            the reference does not have.
    """
    from coremltools.converters.mil.frontend.milproto.load import load as load_program

    specification = read_specification(path)
    weights = _model_file(path).parent / "weights"
    _check_operators(specification, path)
    _check_weights(specification, weights / "weight.bin", path)
    try:
        program = load_program(specification, specification.specificationVersion, str(weights))
        function = program.functions["main"]
        ((name, source),) = function.inputs.items()
        (result,) = function.outputs
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise _broken(path, error) from error
    steps = _prepare(function.operations, result.name)
    return Reference(steps, name, tuple(source.shape), result.name, threads)


def read_specification(path: Path) -> Any:
    """The model specification inside a package (coremltools' protobuf `Model`).

    Raises:
        EdgeDeitError: the package is missing, incomplete, or not an ML Program with one input and output.
    """
    from coremltools.proto import Model_pb2
    from google.protobuf.message import DecodeError

    specification = Model_pb2.Model()
    try:
        specification.ParseFromString(_model_file(path).read_bytes())
    except DecodeError as error:
        raise _broken(path, f"model.mlmodel: {error}") from error
    description = specification.description
    if specification.WhichOneof("Type") != "mlProgram":
        raise _broken(path, "it holds no ML Program")
    if len(description.input) != 1 or len(description.output) != 1:
        raise _broken(path, "it has not exactly one input and one output")
    return specification


def _model_file(path: Path) -> Path:
    """Where the package's list of contents says that the model is."""
    if not path.exists():
        raise EdgeDeitError(f"{path} does not exist")
    try:
        manifest = json.loads((path / "Manifest.json").read_text(encoding="utf-8"))
        entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
        file: Path = Path(path, "Data", str(entry["path"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _broken(path, f"Manifest.json: {error}") from error
    if not file.is_file() or not file.resolve().is_relative_to(path.resolve()):
        raise _broken(path, f"{file.name} is missing")
    return file


def _broken(path: Path, reason: object) -> EdgeDeitError:
    line = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
    return EdgeDeitError(f"{path} is not a whole .mlpackage: {line}; export it again")


def _operations(specification: Any) -> Iterator[Any]:
    for function in specification.mlProgram.functions.values():
        for block in function.block_specializations.values():
            yield from block.operations


def _check_operators(specification: Any, path: Path) -> None:
    kinds = {operation.type for operation in _operations(specification)} - {"const"}
    if unknown := sorted(kinds - OPERATORS.keys()):
        raise EdgeDeitError(
            f"{path} holds operators that the reference for Core ML does not have: "
            f"{', '.join(unknown)}; run the package on macOS"
        )


def _check_weights(specification: Any, file: Path, path: Path) -> None:
    """Every constant must lie inside the file: coremltools reads past the end of a short one."""
    offsets = sorted(set(_weight_offsets(specification)))
    if not offsets:
        return
    if not file.is_file():
        raise _broken(path, "weight.bin is missing")
    size_bytes = file.stat().st_size
    with file.open("rb") as stream:
        for offset in offsets:
            stream.seek(offset)
            header = stream.read(_BLOB.size)
            if len(header) < _BLOB.size:
                raise _broken(path, "weight.bin is cut short")
            mark, _, length, start = _BLOB.unpack(header)
            if mark != _BLOB_MARK:
                raise _broken(path, "weight.bin belongs to another model")
            if start + length > size_bytes:
                raise _broken(path, "weight.bin is cut short")


def _weight_offsets(specification: Any) -> Iterator[int]:
    for operation in _operations(specification):
        values = list(operation.attributes.values())
        for argument in operation.inputs.values():
            values += [b.value for b in argument.arguments if b.WhichOneof("binding") == "value"]
        for value in values:
            if value.WhichOneof("value") == "blobFileValue":
                yield value.blobFileValue.offset


def _prepare(operations: Any, result: str) -> tuple[_Step, ...]:
    """Steps in order; what depends on constants only is computed now."""
    constants: dict[str, Any] = {}
    steps = []
    with torch.inference_mode():
        for operation in operations:
            (output,) = operation.outputs
            if operation.op_type == "const":
                constants[output.name] = decode(output.val)
                continue
            step = _step(operation, output, constants)
            if operation.op_type.startswith("constexpr_"):
                constants[output.name] = step.run({})
            else:
                steps.append(step)
    return _free_unused(steps, result)


def decode(value: Any) -> Any:
    """Floats and 8-bit integers become tensors, all else Python values."""
    array = np.asarray(value)
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    if array.dtype in (np.int8, np.uint8):
        return torch.from_numpy(array.copy())
    return array.tolist()


def _step(operation: Any, output: Any, constants: Mapping[str, Any]) -> _Step:
    from coremltools.converters.mil.mil import types

    dtype = types.builtin_to_string(output.dtype)
    if dtype not in _ROUND:
        raise EdgeDeitError(
            f"operator {operation.op_type} ({output.name}) gives {dtype}, which the reference for "
            "Core ML does not have; run the package on macOS"
        )
    inputs = {
        name: constants[var.name] if var.name in constants else _Value(var.name)
        for name, var in operation.inputs.items()
        if var is not None
    }
    return _Step(operation.op_type, inputs, output.name, tuple(output.shape), dtype)


def _free_unused(steps: list[_Step], result: str) -> tuple[_Step, ...]:
    """Each step learns which values it is the last to read, so that memory stays small."""
    seen = {result}
    done = []
    for step in reversed(steps):
        names = set(step.reads)
        unused = tuple(sorted(names - seen))
        seen |= names
        done.append(_Step(step.operator, step.inputs, step.output, step.shape, step.dtype, unused))
    return tuple(reversed(done))
