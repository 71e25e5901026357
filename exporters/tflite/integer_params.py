"""Scale and zero point of every activation of an integer graph, from what calibration photos show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from edge_deit.exporters.tflite.integer_form import SMALL
from edge_deit.exporters.tflite.observe import Observed, tight_range, whole_range
from edge_deit.exporters.tflite.widths import Params, wide_operators
from edge_deit.quantization.scheme import Range

__all__ = ["LOWEST", "Activations", "asymmetric", "choose_params", "symmetric"]

LOWEST: Final = -128
_HIGHEST: Final = 127
_STEPS: Final = 255
_PROBABILITY: Final = Params(np.array([1 / 65536], np.float32), -32768, 16)
_SMALL: Final = Params(np.array([SMALL / _STEPS], np.float32), LOWEST)
_REST: Final = Params(np.array([1 / 256], np.float32), LOWEST)
_GREY: Final = Params(np.array([1 / _STEPS], np.float32), LOWEST)
"""LiteRT's softmax prescribes the first; the next are of its parts up to SMALL and beyond.

The last is of grey levels.
"""


@dataclass(frozen=True)
class Activations:
    """By tensor: what it is in the width of its group, and what a copy in the other width is."""

    own: dict[int, Params] = field(default_factory=dict)
    other: dict[int, Params] = field(default_factory=dict)

    def at(self, index: int, bits: int) -> Params:
        """Of a tensor as an operator of `bits` reads it."""
        return self.own[index] if self.own[index].bits == bits else self.other[index]


@dataclass(frozen=True)
class _Kinds:
    """Tensors whose ranges follow rules of their own."""

    whole: set[int] = field(default_factory=set)
    symmetric: set[int] = field(default_factory=set)
    fixed: dict[int, Params] = field(default_factory=dict)
    stepped: dict[int, int] = field(default_factory=dict)
    """What lies beyond a part of GELU's results -> these, whose steps it keeps."""


@dataclass(frozen=True)
class _Wide:
    """What operators in 16 bits write, or the graph's source, and what they read; a move is no reader."""

    written: set[int]
    read: set[int]

    @classmethod
    def of(cls, source: int, operators: Sequence[tuple[str, Any]]) -> _Wide:
        chosen = [operators[place][1] for place in wide_operators(operators)]
        read = {int(index) for operator in chosen for index in operator.inputs}
        read.add(int(operators[-1][1].outputs[0]))  # by the graph's end
        return cls({source} | {int(operator.outputs[0]) for operator in chosen}, read)

    def has(self, group: frozenset[int]) -> bool:
        """Whether tensors of one scale are int16: what layers alone read is int8 at once."""
        return bool(group & self.written and group & self.read)


def choose_params(
    source: int,
    operators: Sequence[tuple[str, Any]],
    observed: Mapping[frozenset[int], Observed],
    *,
    grey_levels: bool = False,
) -> Activations:
    """`observed` has the tensors that share a scale; a group is as wide as what makes it and reads it.

    With `grey_levels` the convolution reads those, from 0 to 1.

    The input, squares, mean and root of the norm, scores and what BATCH_MATMUL reads keep their whole
    range: an error there hits a whole token or head. So do GELU's results, whose small ones have finer
    steps. BATCH_MATMUL's second operand is symmetric. All others have the range of least square error.
    """
    kinds = _kinds(source, operators, grey_levels)
    wide = _Wide.of(source, operators)
    found = Activations()
    for group, seen in observed.items():
        fixed = [kinds.fixed[index] for index in group if index in kinds.fixed]
        whole = whole_range(seen)
        span = whole if group & kinds.whole else tight_range(seen)
        widened = bool(group & wide.read) and not wide.has(group)
        narrow = symmetric(span) if widened or group & kinds.symmetric else asymmetric(span)
        both = narrow, replace(narrow, bits=16) if widened else symmetric(whole, 16)
        own, other = both[::-1] if wide.has(group) else both
        found.own.update(dict.fromkeys(group, fixed[0] if fixed else own))
        found.other.update(dict.fromkeys(group, other))
    for beyond, results in kinds.stepped.items():
        found.own[beyond] = replace(found.own[results], zero_point=LOWEST)
    return found


def _kinds(source: int, operators: Sequence[tuple[str, Any]], grey_levels: bool) -> _Kinds:
    kinds, softmax, gelu = _Kinds({source}), set[int](), set[int]()
    for name, operator in operators:
        inputs, output = [int(index) for index in operator.inputs], int(operator.outputs[0])
        if name == "CONV_2D" and grey_levels:
            kinds.fixed[inputs[0]] = _GREY
        elif name == "RSQRT":
            kinds.whole.update({inputs[0], output})
        elif name == "MUL" and inputs[0] == inputs[1]:
            kinds.whole.add(output)
        elif name == "BATCH_MATMUL":
            kinds.symmetric.add(inputs[1])
            kinds.whole.update(inputs)
        elif name == "SOFTMAX":
            kinds.whole.add(inputs[0])
            kinds.fixed[output] = _PROBABILITY
            softmax.add(output)
        elif name == "GELU":
            kinds.whole.add(output)
            gelu.add(output)
        elif name == "MINIMUM" and inputs[0] in softmax:
            kinds.fixed[output] = _SMALL
        elif name == "MINIMUM":
            kinds.whole.add(output)
        elif name == "SUB" and inputs[0] in softmax:
            kinds.fixed[output] = _REST
        elif name == "SUB" and inputs[0] in gelu:
            kinds.stepped[output] = inputs[0]
    return kinds


def asymmetric(span: Range) -> Params:
    """int8 from the least to the greatest value, 0 included."""
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    scale = np.float32((high - low) / _STEPS)
    return Params(np.array([scale]), int(np.clip(round(LOWEST - low / scale), LOWEST, _HIGHEST)))


def symmetric(span: Range, bits: int = 8) -> Params:
    """Zero point 0."""
    return Params(np.array([max(-span[0], span[1]) / (2 ** (bits - 1) - 1)], np.float32), 0, bits)
