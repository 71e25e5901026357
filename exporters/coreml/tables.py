"""Weights of a program as indices into lookup tables: constants become `constexpr_lut_to_dense`.

Source: coremltools' operator of that name (iOS 16): indices lie one behind the other, the lowest bit first.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from edge_deit.common.errors import EdgeDeitError
from edge_deit.quantization.packed import PackedWeight, TableWeight

__all__ = ["append_tables"]

_NAME: Final = "edge_deit::hold_weights_in_tables"


def append_tables(passes: Any, packed: Mapping[str, PackedWeight]) -> None:
    """Let the pipeline `passes` end with one that puts the weights in `packed` into tables.

    The pass raises EdgeDeitError where the converter has changed a layer's weights before.
    """
    _register()
    passes.append_pass(_NAME)
    passes.set_options(_NAME, {"packed": packed})


@functools.cache
def _register() -> None:
    """Make the pass known to coremltools, once in a process."""
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import register_pass

    class Tables(AbstractGraphPass):  # type: ignore[misc]
        """Replaces constants; coremltools sets `packed`."""

        packed: Mapping[str, PackedWeight] = MappingProxyType({})

        def apply(self, prog: Any) -> None:
            for function in prog.functions.values():
                _replace(function, self.packed)

    space, _, name = _NAME.partition("::")
    register_pass(namespace=space, name=name, override=True)(Tables)


def _replace(block: Any, packed: Mapping[str, PackedWeight]) -> None:
    """Each constant of a block that holds weights of `packed` becomes indices and a table."""
    layers = {_key(one.weight().numpy(), kind): n for n, one in packed.items() for kind in "ef"}
    found = set()
    for operation in list(block.operations):
        value = operation.outputs[0].val if operation.op_type == "const" else None
        if not isinstance(value, np.ndarray) or value.dtype.char not in "ef":
            continue
        layer = layers.get(_key(value, value.dtype.char))
        if layer is not None:
            found.add(layer)
            _in_table(block, operation, packed[layer])
    weights = {_key(packed[layer].weight().numpy(), "f") for layer in found}
    if lost := [n for n, one in packed.items() if _key(one.weight().numpy(), "f") not in weights]:
        raise EdgeDeitError(
            f"the converter changed the weights of {', '.join(lost[:3])}, so that no table holds them; "
            "add --keep-float for them"
        )


def _in_table(block: Any, operation: Any, weight: PackedWeight) -> None:
    """One constant; the table has its type."""
    from coremltools.converters.mil.mil import Builder

    assert isinstance(weight, TableWeight)
    assert len(weight.tables) == 1, "one table a layer, as iOS 16 has it"
    (old,) = operation.outputs
    bits = np.unpackbits(weight.indices.numpy().reshape(-1, 1), axis=1, bitorder="little")
    with block:
        new = Builder.constexpr_lut_to_dense(
            indices=np.packbits(bits[:, : weight.bits], bitorder="little"),
            lut=weight.tables[0].numpy().astype(old.val.dtype),
            shape=np.array(old.val.shape, np.uint32),
            name=f"{old.name}_in_table",
            before_op=operation,
        )
    block.replace_uses_of_var_after_op(
        anchor_op=operation, old_var=old, new_var=new, force_replace=True
    )
    block.remove_ops([operation])


def _key(values: np.ndarray, kind: str) -> bytes:
    """The bytes of the values in half (`e`) or single (`f`) precision, whatever their shape."""
    with np.errstate(over="ignore"):
        return kind.encode() + np.ascontiguousarray(values, kind).tobytes()
