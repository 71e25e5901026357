"""The files that a competent user of each toolchain makes from the plain float model, one row each.

Each recipe is the toolchain's own default. What was chosen where there is no default is said in the
description, which goes into every table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import toolchains.builders as build
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.host import version_of
from toolchains.builders import Source

__all__ = ["RECIPES", "StockRecipe", "at_hand", "find_recipe"]


@dataclass(frozen=True)
class StockRecipe:
    """One stock file; `name` is TARGET.RECIPE, `calibrates` says whether the photos matter.

    `needs` is a distribution that the project's pins do not bring, with the version that was tried.
    """

    name: str
    precision: str
    suffix: str
    description: str
    calibrates: bool
    build: Callable[[Source, Path], None]
    needs: tuple[str, str] | None = None

    @property
    def remedy(self) -> str | None:
        """None where the file can be made, otherwise one line that says what to install."""
        if self.needs is None or version_of(self.needs[0]) == self.needs[1]:
            return None
        wanted = "==".join(self.needs)
        return (
            f"{self.name} needs {wanted}, which the pins leave out: pip install --target FOLDER --no-deps "
            f"{wanted} ninja, and PYTHONPATH=FOLDER"
        )

    @property
    def target(self) -> str:
        """The target whose runner executes the file."""
        return self.name.partition(".")[0]

    @property
    def recipe(self) -> str:
        """The toolchain's name for what was done."""
        return self.name.partition(".")[2]

    @property
    def file_name(self) -> str:
        """The file's name in the output folder."""
        return f"stock.{self.recipe}{self.suffix}"


_COREAI_OPT: Final = ("coreai-opt", "0.4.0")

RECIPES: Final = (
    StockRecipe(
        "tflite.float",
        "fp32",
        ".tflite",
        "litert_torch.convert",
        False,
        build.litert_float,
    ),
    StockRecipe(
        "tflite.static_wi8_ai8",
        "int8-full",
        ".tflite",
        "litert_torch.convert, then litert-quantizer's recipe static_wi8_ai8 with its own ranges",
        True,
        build.litert_static,
    ),
    StockRecipe(
        "tflite.dynamic_wi8_afp32",
        "int8-dynamic",
        ".tflite",
        "litert_torch.convert, then litert-quantizer's recipe dynamic_wi8_afp32",
        False,
        build.litert_dynamic,
    ),
    StockRecipe(
        "tflite.dynamic_wi4b32_afp32",
        "int4",
        ".tflite",
        "litert_torch.convert, then litert-quantizer's recipe dynamic_wi4b32_afp32",
        False,
        build.litert_groups,
    ),
    StockRecipe(
        "onnx.float",
        "fp32",
        ".onnx",
        "torch.onnx.export (dynamo), its own opset; weights in the one file",
        False,
        build.onnx_float,
    ),
    StockRecipe(
        "onnx.quantize_static",
        "int8",
        ".onnx",
        "torch.onnx.export, then quantize_static with its defaults (Q/DQ, every operator, per tensor)",
        True,
        build.onnx_static,
    ),
    StockRecipe(
        "onnx.quantize_static_preprocessed",
        "int8",
        ".onnx",
        "the same after quant_pre_process, which ONNX Runtime's manual advises",
        True,
        build.onnx_static_preprocessed,
    ),
    StockRecipe(
        "onnx.quantize_dynamic",
        "int8-dynamic",
        ".onnx",
        "torch.onnx.export, then quantize_dynamic with its defaults",
        False,
        build.onnx_dynamic,
    ),
    StockRecipe(
        "onnx.matmul_nbits",
        "int4",
        ".onnx",
        "torch.onnx.export, then MatMulNBitsQuantizer with blocks of 32 and its other defaults",
        False,
        build.onnx_groups,
    ),
    StockRecipe(
        "executorch.float",
        "fp32",
        ".pte",
        "torch.export, to_edge_transform_and_lower with XnnpackPartitioner",
        False,
        build.executorch_float,
    ),
    StockRecipe(
        "executorch.static",
        "int8",
        ".pte",
        "PT2E, XNNPACKQuantizer with get_symmetric_quantization_config(is_per_channel=True), histogram "
        "observers (slow, so they see the evenly spaced part of the photos that the table names)",
        True,
        build.executorch_static,
    ),
    StockRecipe(
        "executorch.dynamic",
        "int8-dynamic",
        ".pte",
        "PT2E, XNNPACKQuantizer with get_symmetric_quantization_config(is_per_channel=True, "
        "is_dynamic=True)",
        False,
        build.executorch_dynamic,
    ),
    StockRecipe(
        "executorch.8da4w",
        "int4",
        ".pte",
        "torchao's Int8DynamicActivationIntxWeightConfig (int4, groups of 32), then as the float file",
        False,
        build.executorch_groups,
    ),
    StockRecipe(
        "coreml.float32",
        "fp32",
        ".mlpackage",
        "coremltools.convert, compute_precision FLOAT32",
        False,
        build.coreml_float32,
    ),
    StockRecipe(
        "coreml.float16",
        "fp16",
        ".mlpackage",
        "coremltools.convert, its default precision (FLOAT16)",
        False,
        build.coreml_float16,
    ),
    StockRecipe(
        "coreml.weights",
        "int8-weights",
        ".mlpackage",
        "coremltools.convert, then linear_quantize_weights (int8 weights, float16 activations)",
        False,
        build.coreml_weights,
    ),
    StockRecipe(
        "coreml.tables_6",
        "palettized-6",
        ".mlpackage",
        "coremltools.convert, then palettize_weights with mode kmeans and nbits 6 (float16 activations)",
        False,
        build.coreml_tables_6,
    ),
    StockRecipe(
        "coreml.tables_4",
        "palettized-4",
        ".mlpackage",
        "coremltools.convert, then palettize_weights with mode kmeans and nbits 4 (float16 activations)",
        False,
        build.coreml_tables_4,
    ),
    StockRecipe(
        "coreml.static",
        "int8",
        ".mlpackage",
        "PT2E with ExecuTorch's CoreMLQuantizer on the whole model (affine, per channel), then "
        "coremltools.convert",
        True,
        build.coreml_static,
    ),
    StockRecipe(
        "coreai.float32",
        "fp32",
        ".aimodel",
        "coreai_torch.TorchConverter with its get_decomp_table, both as its manual has them",
        False,
        build.coreai_float32,
    ),
    StockRecipe(
        "coreai.static",
        "int8",
        ".aimodel",
        "coreai-opt 0.4.0, QuantizerConfig() (its default: int8 weights per channel, int8 activations per "
        "tensor), then as the float file",
        True,
        build.coreai_static,
        _COREAI_OPT,
    ),
    StockRecipe(
        "coreai.weights",
        "int8-weights",
        ".aimodel",
        "coreai-opt 0.4.0, QuantizerConfig.presets.w8() (int8 weights, float32 activations), then as the "
        "float file",
        False,
        build.coreai_weights,
        _COREAI_OPT,
    ),
)
"""Every stock file, one row each."""


def at_hand() -> list[StockRecipe]:
    """Those that can be made here."""
    return [recipe for recipe in RECIPES if recipe.remedy is None]


def find_recipe(name: str) -> StockRecipe:
    """The recipe called `name`.

    Raises:
        EdgeDeitError: there is none; the message lists those there are.
    """
    for recipe in RECIPES:
        if recipe.name == name:
            return recipe
    known = ", ".join(recipe.name for recipe in RECIPES)
    raise EdgeDeitError(f"unknown stock file {name!r}; choose one of: {known}")
