"""What a `.pte` hands to its one delegate, read without ExecuTorch: the file may be anybody's.

Source: executorch/exir/_serialize/program.fbs (the fields' numbers), and `_ExtendedHeader` in _program.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_deit.exporters.executorch.flatbuffer import Table, number_at

__all__ = ["Delegated", "read_delegated"]

Shape = tuple[int, ...]

_IDENTIFIER: Final = b"ET12"
_HEADER: Final = b"eh00"  # behind the identifier, where segments follow the program
_PLANS, _INLINE, _SEGMENTS = 1, 3, 4  # of Program
_NAME, _VALUES, _INPUTS, _OUTPUTS, _CHAINS, _OPERATORS, _DELEGATES = (
    0,
    2,
    3,
    4,
    5,
    6,
    7,
)  # of a plan
_KERNEL_CALL, _DELEGATE_CALL = 1, 2  # InstructionArguments
_OTHER_CALLS: Final = {3: "a move", 4: "a jump", 5: "a release of memory"}
_TENSOR: Final = 5  # KernelTypes
_FLOAT: Final = 6  # ScalarType
_IN_SEGMENT: Final = 1  # DataLocation


@dataclass(frozen=True)
class Delegated:
    """The data of a program's one delegate, and the shapes that the program takes and returns."""

    data: memoryview
    takes: tuple[Shape, ...]
    returns: tuple[Shape, ...]


def read_delegated(content: bytes, backend: str) -> Delegated:
    """What a file's `forward` hands to `backend`, if that is all it does with its inputs.

    Methods that do nothing but return a text may be there besides.

    Raises:
        ValueError: it is no `.pte`, is cut short, or computes something outside that one call; in words.
    """
    data = memoryview(content)
    if bytes(data[4:8]) != _IDENTIFIER:
        raise ValueError(f"it does not begin as one: {bytes(data[4:8])!r} is not {_IDENTIFIER!r}")
    size_bytes, segments = len(data), 0
    if bytes(data[8:12]) == _HEADER:
        size_bytes, segments = number_at(data, 16, "Q"), number_at(data, 24, "Q")
        if max(size_bytes, segments) > len(data):
            raise ValueError(f"cut short: byte {max(size_bytes, segments)} of {len(data)}")
    program = Table.root(data[:size_bytes])
    plan = _forward(program)
    delegate = _only_delegate(plan, backend)
    _check_calls(plan)
    values = plan.tables(_VALUES)
    takes, returns = (
        tuple(_shape(values, place) for place in plan.numbers(field, "i"))
        for field in (_INPUTS, _OUTPUTS)
    )
    return Delegated(_processed(delegate, program, data[segments:]), takes, returns)


def _forward(program: Table) -> Table:
    """The one method that computes something."""
    plans = program.tables(_PLANS)
    names = [plan.text(_NAME) for plan in plans]
    if names.count("forward") != 1:
        found = ", ".join(names) or "none"
        raise ValueError(f"its methods are {found:.200}, not one of them called forward")
    for name, plan in zip(names, plans, strict=True):
        if name != "forward" and any(chain.tables(2) for chain in plan.tables(_CHAINS)):
            raise ValueError(f"its method {name:.80} computes something besides forward")
    return plans[names.index("forward")]


def _only_delegate(plan: Table, backend: str) -> Table:
    delegates = plan.tables(_DELEGATES)
    names = [delegate.text(0) for delegate in delegates]
    if names != [backend]:
        found = ", ".join(names) or "none"
        raise ValueError(f"its delegates are {found:.200}, not {backend} once")
    return delegates[0]


def _check_calls(plan: Table) -> None:
    """Refuse a method that is anything else than one call, from its inputs to its outputs."""
    operators = [f"{one.text(0)}.{one.text(1)}".rstrip(".") for one in plan.tables(_OPERATORS)]
    steps = [step for chain in plan.tables(_CHAINS) for step in chain.tables(2)]
    kinds = [step.number(0, "B") for step in steps]
    outside = [_OTHER_CALLS.get(kind, "an unknown step") for kind in kinds if kind not in (1, 2)]
    for step, kind in zip(steps, kinds, strict=True):
        call = step.table(1)
        if kind == _KERNEL_CALL and call is not None:
            place = call.number(0, "i")
            outside.append(operators[place] if 0 <= place < len(operators) else "no operator")
    if outside:
        raise ValueError(
            f"outside its delegate it computes {', '.join(dict.fromkeys(outside)):.200}"
        )
    call = steps[0].table(1) if kinds == [_DELEGATE_CALL] else None
    if call is None:
        raise ValueError(f"it calls its delegate {len(kinds)} times, not once")
    through = plan.numbers(_INPUTS, "i") + plan.numbers(_OUTPUTS, "i")
    if call.number(0, "i") != 0 or call.numbers(1, "i") != through:
        raise ValueError("its delegate is not called with its inputs and outputs, in their order")


def _shape(values: list[Table], place: int) -> Shape:
    """The shape of a float32 tensor."""
    value = values[place] if 0 <= place < len(values) else None
    tensor = value.table(1) if value is not None and value.number(0, "B") == _TENSOR else None
    if tensor is None or tensor.number(0, "b") != _FLOAT:
        raise ValueError("an input or output is no float32 tensor")
    return tuple(tensor.numbers(2, "i"))


def _processed(delegate: Table, program: Table, segments: memoryview) -> memoryview:
    """The delegate's data, wherever it lies."""
    reference = delegate.table(1)
    if reference is None:
        raise ValueError("its delegate has no data")
    inside = reference.number(0, "b") != _IN_SEGMENT
    parts, place = program.tables(_INLINE if inside else _SEGMENTS), reference.number(1, "I")
    if place >= len(parts):
        raise ValueError(f"its delegate's data is part {place} of {len(parts)}")
    if inside:
        return parts[place].content(0)
    start, size_bytes = parts[place].number(0, "Q"), parts[place].number(1, "Q")
    if start + size_bytes > len(segments):
        raise ValueError(f"cut short: byte {start + size_bytes} of {len(segments)}")
    return segments[start : start + size_bytes]
