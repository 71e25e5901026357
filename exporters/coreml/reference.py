"""Executes a saved `.mlpackage` with torch, where there is no Core ML: a check, not a runtime.

The package is read back from disk and each operator of its ML Program is computed in float32; the
result is then rounded to the type that the program declares for it. That follows the file's weights,
quantized ranges and types, overflow of float16 included. Core ML may add up in another order and may fuse
operators, so its last bits, and its speed, are not known from here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters.coreml.operators import OPERATORS, Arguments
from edge_deit.exporters.mlpackage import (
    broken,
    check_weights,
    model_file,
    operations_of,
    read_specification,
)
from edge_deit.exporters.runtime import MASK_NAME, in_order

__all__ = ["Reference", "constant", "load"]

_ROUND: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "fp16": lambda x: x.half().float(),
    "fp32": lambda x: x,
    "int8": lambda x: x.to(torch.int8),
    "uint8": lambda x: x.to(torch.uint8),
}
"""Declared type -> rounding; floats stay float32 tensors that hold only values of their type."""


_CLASSIFY: Final = "classify"  # the operator that gives scores their names; it computes nothing
_LOCK: Final = threading.Lock()  # torch's number of threads is the whole process's


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
    mask_shape: tuple[int, ...] | None = None

    def __call__(self, pixels: np.ndarray, *more: np.ndarray) -> np.ndarray:
        """(1, 3, H, W) or, for an image, (1, H, W, 3) uint8 -> the output; `more` is the mask (1, P)."""
        return self.values(pixels, (self.output_name,), *more)[self.output_name]

    def values(
        self, pixels: np.ndarray, names: Collection[str], *more: np.ndarray
    ) -> dict[str, np.ndarray]:
        """What the program computes under the given names, for pixels (1, 3, H, W) or (1, H, W, 3) uint8.

        Raises:
            EdgeDeitError: pixels of another shape, or a step that cannot be computed.
        """
        if pixels.dtype == np.uint8:
            pixels = pixels.transpose(0, 3, 1, 2)  # as Core ML makes planes of an image
        if pixels.shape != self.input_shape:
            raise EdgeDeitError(f"pixels are {pixels.shape}, the package takes {self.input_shape}")
        masks = [] if self.mask_shape is None else [self.mask_shape]
        if [one.shape for one in more] != masks:
            raise EdgeDeitError(f"{len(more)} masks, the package takes {masks or 'none'}")
        sources = dict(zip((self.input_name, MASK_NAME), (pixels, *more), strict=False))
        with _LOCK, torch.inference_mode():
            before = torch.get_num_threads()
            torch.set_num_threads(self.threads)
            try:
                tensors = {
                    name: torch.from_numpy(np.ascontiguousarray(one, np.float32))
                    for name, one in sources.items()
                }
                return self._run(tensors, names)
            finally:
                torch.set_num_threads(before)

    def _run(self, values: dict[str, Tensor], names: Collection[str]) -> dict[str, np.ndarray]:
        found = dict[str, np.ndarray]()
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
    weights = model_file(path).parent / "weights"
    _check_operators(specification, path)
    check_weights(specification, path)
    try:
        program = load_program(specification, specification.specificationVersion, str(weights))
        function = program.functions["main"]
        names = list(function.inputs)
        name, *others = [names[place] for place in in_order(names, path)]
        source, mask = function.inputs[name], [function.inputs[other] for other in others]
        result = _scores(function)
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
        raise broken(path, error) from error
    steps = _prepare(function.operations, result.name)
    shape, mask_shape = tuple(source.shape), tuple(mask[0].shape) if mask else None
    return Reference(steps, name, shape, result.name, threads, mask_shape)


def _scores(function: Any) -> Any:
    """The program's one output; of a classifier, which returns a dictionary, what that is made of."""
    for operation in function.operations:
        if operation.op_type == _CLASSIFY:
            return operation.inputs["probabilities"]
    (result,) = function.outputs
    return result


def _check_operators(specification: Any, path: Path) -> None:
    """Refuse a package with operators that `OPERATORS` lacks.

    Raises:
        EdgeDeitError: one line that names them.
    """
    kinds = {operation.type for operation in operations_of(specification)} - {"const", _CLASSIFY}
    if unknown := sorted(kinds - OPERATORS.keys()):
        raise EdgeDeitError(
            f"{path} holds operators that the reference for Core ML does not have: "
            f"{', '.join(unknown):.200}; run the package on macOS"
        )


def _prepare(operations: Any, result: str) -> tuple[_Step, ...]:
    """Steps in order; what depends on constants only is computed now."""
    constants: dict[str, Any] = {}
    steps = []
    with torch.inference_mode():
        for operation in operations:
            if operation.op_type == _CLASSIFY:
                continue
            (output,) = operation.outputs
            if operation.op_type == "const":
                constants[output.name] = constant(output.val)
                continue
            step = _step(operation, output, constants)
            if operation.op_type.startswith("constexpr_"):
                constants[output.name] = step.run({})
            else:
                steps.append(step)
    return _free_unused(steps, result)


def constant(value: Any) -> Any:
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
