"""How each stock file is made: the toolchains' own calls with their own defaults, nothing of ours.

The model is `edge_deit.model.deit.DeiT`, with `scaled_dot_product_attention` and LayerNorm; neither
`model.deploy` nor the exporters take part. `stock_recipes` says in words what each builder does.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from edge_deit.common.errors import EdgeDeitError

__all__ = [
    "Source",
    "coreai_float32",
    "coreai_static",
    "coreai_weights",
    "coreml_float16",
    "coreml_float32",
    "coreml_static",
    "coreml_tables_4",
    "coreml_tables_6",
    "coreml_weights",
    "executorch_dynamic",
    "executorch_float",
    "executorch_groups",
    "executorch_static",
    "litert_dynamic",
    "litert_float",
    "litert_groups",
    "litert_static",
    "onnx_dynamic",
    "onnx_float",
    "onnx_groups",
    "onnx_static",
    "onnx_static_preprocessed",
]

_LITERT_INPUT: Final = "args_0"  # the converter's name for the first positional input
_LITERT_SIGNATURE: Final = "serving_default"
_QUANTIZER_THREADS: Final = 2
_GROUP: Final = 32  # input channels with one scale, in 4-bit files


@dataclass(frozen=True)
class Source:
    """What every recipe starts from: the plain model (eval, float32) and photos, (1, 3, H, W) each.

    `histogram_photos` is how many of the photos the ExecuTorch recipe's histogram observer sees.
    """

    model: nn.Module
    photos: tuple[Tensor, ...]
    histogram_photos: int

    @property
    def example(self) -> tuple[Tensor]:
        """The positional arguments to trace with."""
        return (self.photos[0],)

    def fewer_photos(self) -> list[Tensor]:
        """At most `histogram_photos` of the photos, evenly spaced over them."""
        count = min(len(self.photos), self.histogram_photos)
        return [self.photos[index * len(self.photos) // count] for index in range(count)]


# LiteRT


def litert_float(source: Source, path: Path) -> None:
    import litert_torch

    litert_torch.convert(source.model, source.example).export(str(path))


def litert_static(source: Source, path: Path) -> None:
    from litert_quantizer import recipe

    feeds = [{_LITERT_INPUT: photo.numpy()} for photo in source.photos]
    _litert_quantize(source, path, recipe.static_wi8_ai8(), {_LITERT_SIGNATURE: feeds})


def litert_dynamic(source: Source, path: Path) -> None:
    from litert_quantizer import recipe

    _litert_quantize(source, path, recipe.dynamic_wi8_afp32(), None)


def litert_groups(source: Source, path: Path) -> None:
    from litert_quantizer import recipe

    _litert_quantize(source, path, recipe.dynamic_wi4b32_afp32(), None)


def _litert_quantize(
    source: Source, path: Path, recipe: Any, feeds: dict[str, list[dict[str, np.ndarray]]] | None
) -> None:
    """Convert in float, then quantize the file (litert-quantizer's manual)."""
    from litert_quantizer import quantizer

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain = Path(folder) / "float.tflite"
        litert_float(source, plain)
        maker = quantizer.Quantizer(str(plain), recipe)
        ranges = (
            maker.calibrate(feeds, num_threads=_QUANTIZER_THREADS) if feeds is not None else None
        )
        maker.quantize(ranges).export_model(str(path))


# ONNX


def onnx_float(source: Source, path: Path) -> None:
    """The weights stay in the one file, which changes where they lie and nothing else."""
    program = torch.onnx.export(source.model, source.example, dynamo=True, external_data=False)
    if program is None:
        raise EdgeDeitError("torch.onnx returned no program; install torch 2.13")
    program.save(str(path), external_data=False)


def onnx_static(source: Source, path: Path) -> None:
    _onnx_quantize_static(source, path, preprocess=False)


def onnx_static_preprocessed(source: Source, path: Path) -> None:
    _onnx_quantize_static(source, path, preprocess=True)


def _onnx_quantize_static(source: Source, path: Path, *, preprocess: bool) -> None:
    """quantize_static with its defaults; the manual advises the preprocessing step before it."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain = Path(folder) / "float.onnx"
        onnx_float(source, plain)
        name = onnx.load(plain).graph.input[0].name
        if preprocess:
            prepared = Path(folder) / "prepared.onnx"
            quant_pre_process(plain, prepared)
            plain = prepared

        class Photos(quantization.CalibrationDataReader):  # type: ignore[misc]
            """The calibration photos, one feed at a time."""

            def __init__(self) -> None:
                self._feeds: Iterator[dict[str, np.ndarray]] = (
                    {name: photo.numpy()} for photo in source.photos
                )

            def get_next(self) -> dict[str, np.ndarray] | None:
                return next(self._feeds, None)

        quantization.quantize_static(plain, path, Photos())


def onnx_dynamic(source: Source, path: Path) -> None:
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain = Path(folder) / "float.onnx"
        onnx_float(source, plain)
        quantization.quantize_dynamic(plain, path)


def onnx_groups(source: Source, path: Path) -> None:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain = Path(folder) / "float.onnx"
        onnx_float(source, plain)
        maker = MatMulNBitsQuantizer(str(plain), block_size=_GROUP)
        maker.process()
        onnx.save(maker.model.model, path)


# ExecuTorch


def executorch_float(source: Source, path: Path) -> None:
    _executorch_lower(source.model, source, path)


def executorch_static(source: Source, path: Path) -> None:
    _executorch_quantize(source, path, dynamic=False)


def executorch_dynamic(source: Source, path: Path) -> None:
    _executorch_quantize(source, path, dynamic=True)


def executorch_groups(source: Source, path: Path) -> None:
    """torchao's 8da4w, as ExecuTorch's manual has it for XNNPACK."""
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerGroup

    model = copy.deepcopy(source.model)
    config = Int8DynamicActivationIntxWeightConfig(
        weight_dtype=torch.int4, weight_granularity=PerGroup(_GROUP)
    )
    quantize_(model, config)
    _executorch_lower(model, source, path)


def _executorch_quantize(source: Source, path: Path, *, dynamic: bool) -> None:
    """PT2E with the XNNPACK quantizer's own symmetric per-channel configuration on the whole model."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )

    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic)
    photos = [source.photos[0]] if dynamic else source.fewer_photos()
    model = _pt2e(source, XNNPACKQuantizer().set_global(config), photos)
    _executorch_lower(model, source, path)


def _executorch_lower(model: nn.Module, source: Source, path: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = torch.export.export(model, source.example)
    manager = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    path.write_bytes(manager.to_executorch().buffer)


def _pt2e(source: Source, quantizer: Any, photos: list[Tensor]) -> nn.Module:
    """Export, prepare, run the photos, convert: torchao's post-training flow."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    graph = torch.export.export(source.model, source.example).module()
    prepared = prepare_pt2e(graph, quantizer)
    for photo in photos:
        prepared(photo)
    converted: nn.Module = convert_pt2e(prepared)
    return converted


# Core ML


def coreml_float32(source: Source, path: Path) -> None:
    import coremltools as ct

    _coreml_convert(source.model, source, ct.precision.FLOAT32).save(str(path))


def coreml_float16(source: Source, path: Path) -> None:
    import coremltools as ct

    _coreml_convert(source.model, source, ct.precision.FLOAT16).save(str(path))


def coreml_weights(source: Source, path: Path) -> None:
    import coremltools as ct
    from coremltools.optimize import coreml as optimise

    plain = _coreml_convert(source.model, source, ct.precision.FLOAT16)
    config = optimise.OptimizationConfig(
        global_config=optimise.OpLinearQuantizerConfig(mode="linear_symmetric")
    )
    optimise.linear_quantize_weights(plain, config).save(str(path))


def coreml_tables_6(source: Source, path: Path) -> None:
    _coreml_tables(source, path, 6)


def coreml_tables_4(source: Source, path: Path) -> None:
    _coreml_tables(source, path, 4)


def _coreml_tables(source: Source, path: Path, bits: int) -> None:
    import coremltools as ct
    from coremltools.optimize import coreml as optimise

    plain = _coreml_convert(source.model, source, ct.precision.FLOAT16)
    config = optimise.OptimizationConfig(
        global_config=optimise.OpPalettizerConfig(mode="kmeans", nbits=bits)
    )
    optimise.palettize_weights(plain, config).save(str(path))


def coreml_static(source: Source, path: Path) -> None:
    """ExecuTorch's Core ML quantizer on the whole model, then coremltools."""
    import coremltools as ct
    from coremltools.optimize.torch.quantization import LinearQuantizerConfig, QuantizationScheme
    from executorch.backends.apple.coreml.quantizer import CoreMLQuantizer

    config = LinearQuantizerConfig.from_dict(
        {
            "global_config": {
                "quantization_scheme": QuantizationScheme.affine,
                "activation_dtype": torch.quint8,
                "weight_dtype": torch.qint8,
                "weight_per_channel": True,
            }
        }
    )
    model = _pt2e(source, CoreMLQuantizer(config), list(source.photos))
    _coreml_convert(model, source, ct.precision.FLOAT16).save(str(path))


def _coreml_convert(model: nn.Module, source: Source, precision: Any) -> Any:
    import coremltools as ct

    program = torch.export.export(model, source.example).run_decompositions({})
    return ct.convert(
        program,
        convert_to="mlprogram",
        compute_precision=precision,
        minimum_deployment_target=ct.target.iOS17,
        skip_model_load=True,
    )


# Core AI


def coreai_float32(source: Source, path: Path) -> None:
    _coreai_convert(source.model, source, path)


def coreai_static(source: Source, path: Path) -> None:
    """coreai-opt's default: int8 weights per channel, int8 activations per tensor."""
    from coreai_opt import ExportBackend
    from coreai_opt.quantization import Quantizer, QuantizerConfig

    quantizer = Quantizer(source.model, QuantizerConfig())
    prepared = quantizer.prepare(source.example)
    with quantizer.calibration_mode():
        for photo in source.photos:
            prepared(photo)
    _coreai_convert(quantizer.finalize(backend=ExportBackend.CoreAI), source, path)


def coreai_weights(source: Source, path: Path) -> None:
    from coreai_opt import ExportBackend
    from coreai_opt.quantization import Quantizer, QuantizerConfig

    quantizer = Quantizer(source.model, QuantizerConfig.presets.w8())
    quantizer.prepare(source.example)
    _coreai_convert(quantizer.finalize(backend=ExportBackend.CoreAI), source, path)


def _coreai_convert(model: nn.Module, source: Source, path: Path) -> None:
    from coreai_torch import TorchConverter, get_decomp_table

    program = torch.export.export(model, source.example)
    program = program.run_decompositions(get_decomp_table())
    TorchConverter().add_exported_program(program).to_coreai().save_asset(path)
