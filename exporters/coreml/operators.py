"""The operators of an ML Program, each computed with torch in float32.

Source: coremltools' MIL operator definitions (`coremltools.converters.mil.mil.ops.defs`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edge_deit.common.errors import EdgeDeitError

__all__ = ["OPERATORS", "Arguments"]

Arguments = Mapping[str, Any]
"""Parameter name -> tensor; constants that are int32, bool or text are Python values."""


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


def _sub(a: Arguments) -> Tensor:
    return torch.sub(a["x"], a["y"])


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


def _constexpr_lut_to_dense(a: Arguments) -> Tensor:
    """Indices lie one behind the other, the lowest bit first, in as many bits as the table needs."""
    table, shape = a["lut"], a["shape"]
    width = (len(table) - 1).bit_length()
    bits = np.unpackbits(a["indices"].numpy(), bitorder="little")
    taken = bits[: math.prod(shape) * width].reshape(-1, width)
    indices = taken @ (1 << np.arange(width))
    found: Tensor = table[torch.from_numpy(indices)]
    return found.reshape(shape)


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
    "constexpr_lut_to_dense": _constexpr_lut_to_dense,
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
    "sub": _sub,
    "transpose": _transpose,
}
"""Operator of an ML Program -> what computes it in float32."""
