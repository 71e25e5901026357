"""Precision schemes, named for what they are."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from edge_deit.common.errors import EdgeDeitError

if TYPE_CHECKING:  # so that the list of precisions costs no torch
    from torch import nn

__all__ = ["PRECISIONS", "LayerRanges", "Precision", "Range", "Scheme"]

Range = tuple[float, float]
"""Least and greatest value that an integer tensor can hold; zero lies between them."""

Precision = Literal[
    "fp32", "fp16", "int8", "int8-dynamic", "int8-full", "int4", "palettized-6", "palettized-4"
]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class LayerRanges:
    """Static ranges of one layer, per tensor: of its input, and of its output where that is integer too."""

    input: Range
    output: Range


@dataclass(frozen=True)
class Scheme:
    """How an artefact's numbers are stored and computed.

    * `fp32`, `fp16`: float throughout.
    * `int8`: Linear and convolution with int8 weights (symmetric, per output channel) and int8
      activations (static, per tensor, ranges from calibration photos); everything else float.
    * `int8-dynamic`: the same weights, activation ranges found at run time.
    * `int8-full`: every operator integer, for processors that take nothing else.
    * `int4`: weights in 4 bits with a scale for each group of input channels, activations as the runtime
      has it: a range for each token found at run time, or float.
    * `palettized-6`, `palettized-4`: weights as indices of 6 or 4 bits into tables, activations float.

    In the last three, `eight` holds names of layers whose weights take 8 bits. `keep_float` holds shell
    patterns of deployment-form layer names (`blocks.0.mlp.fc*`) that stay in float although the precision
    is another; `dynamic` holds names of layers that have their ranges found at run time although the
    precision is `int8`, `float_inputs` names of layers whose weights are integer and whose activations stay
    float.
    """

    precision: Precision
    keep_float: tuple[str, ...] = ()
    dynamic: tuple[str, ...] = ()
    float_inputs: tuple[str, ...] = ()
    eight: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise EdgeDeitError(
                f"unknown precision {self.precision!r}; choose one of: {', '.join(PRECISIONS)}"
            )
        if self.keep_float and not (self.quantized or self.packed):
            raise EdgeDeitError(f"--keep-float means nothing in {self.precision}; leave it out")

    @property
    def quantized(self) -> bool:
        """Whether any layer is integer."""
        return self.precision.startswith("int8")

    @property
    def packed(self) -> bool:
        """Whether weights take fewer than 8 bits."""
        return self.precision in ("int4", "palettized-6", "palettized-4")

    @property
    def tabled(self) -> bool:
        """Whether weights are indices into tables."""
        return self.precision.startswith("palettized")

    @property
    def halved(self) -> bool:
        """Whether all layers compute in half precision that can."""
        return self.precision == "fp16" or self.tabled

    @property
    def grouped(self) -> bool:
        """Whether weights are integers with a scale for each group of input channels."""
        return self.precision == "int4"

    @property
    def needs_calibration(self) -> bool:
        """Whether there is no such file without calibration photos: they settle its ranges or weights."""
        return self.precision in ("int8", "int8-full") or self.packed

    @property
    def looks_at_photos(self) -> bool:
        """Whether anything in the file is chosen on calibration photos."""
        return self.quantized or self.packed or self.precision == "fp16"

    def dynamic_layers(self, model: nn.Module) -> list[str]:
        """Those of `quantized_layers` whose activation ranges are found at run time."""
        layers = self.quantized_layers(model)
        if self.precision == "int8-dynamic":
            return layers
        return [name for name in layers if name in self.dynamic]

    def static_layers(self, model: nn.Module) -> list[str]:
        """Those of `quantized_layers` whose activation ranges are fixed in the file."""
        others = {*self.dynamic_layers(model), *self.float_inputs}
        return [name for name in self.quantized_layers(model) if name not in others]

    def float_input_layers(self, model: nn.Module) -> list[str]:
        """Those of `quantized_layers` whose weights alone are integer, as they are not dynamic either."""
        floats = set(self.float_inputs).difference(self.dynamic)
        return [name for name in self.quantized_layers(model) if name in floats]

    def quantized_layers(self, model: nn.Module) -> list[str]:
        """Names of the deployment form's layers that this scheme makes integer.

        Raises:
            EdgeDeitError: a pattern of `keep_float` matches no layer.
        """
        from edge_deit.model.form import quantizable_layers

        if not (self.quantized or self.packed):
            return []
        layers = quantizable_layers(model)
        for pattern in self.keep_float:
            if not fnmatch.filter(layers, pattern):
                raise EdgeDeitError(
                    f"--keep-float {pattern!r} matches no layer; names look like {layers[0]}, "
                    f"{layers[1]}, {layers[-1]}"
                )
        kept = {name for pattern in self.keep_float for name in fnmatch.filter(layers, pattern)}
        return [name for name in layers if name not in kept]
