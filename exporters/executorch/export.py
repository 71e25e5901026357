"""ExecuTorch: one `.pte` file for XNNPACK (Arm and x86 processors) or Core ML (iPhone, iPad, Mac).

XNNPACK takes the whole deployment form as a single subgraph in every precision (`delegation` counts
it). What each precision means here:

* `fp32`: float throughout.
* `fp16`: the layers' weights in half precision, widened when the file is loaded; float arithmetic, as
  XNNPACK's in half precision leaves 34 dB of a real DeiT-tiny.
* `int8`: the scheme's layers compute int8 x int8 -> int8; weights symmetric per output channel, inputs
  and outputs asymmetric per tensor with the request's ranges. XNNPACK's static kernels also write
  int8, so outputs are quantized too. Everything between the layers is float.
* `int8-dynamic`: the same weights and float outputs; a Linear's input is quantized at run time, one
  range a token. The patch embedding stays float: it has 3 % of the weights at most, and its input range
  would be one for the whole photo.
* `int4`: weights in groups with a scale each, or 8-bit ones (`exporters.executorch.packed`); inputs as in
  `int8-dynamic`. The patch embedding is a Linear over patches, in 8 bits.

The Core ML delegate has `fp32` (weights and arithmetic, so the GPU and the CPU execute it), `fp16` and
`int8` (the same layers, the float rest in fp16), both for the Neural Engine too; iOS 17 or macOS 14 at
least. Core ML has no dynamic ranges. Such a file is written on any system and executed on Apple's only.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters.executorch.half import halved_weights
from edge_deit.exporters.executorch.packed import with_packed
from edge_deit.exporters.executorch.passes import needed_passes
from edge_deit.exporters.executorch.runtime import (
    BACKENDS,
    RUNTIME,
    load_program,
    load_runner,
    runs_on,
)
from edge_deit.exporters.patch_rows import with_patch_rows
from edge_deit.exporters.pt2e import quantize_graph
from edge_deit.exporters.target import ExportRequest
from edge_deit.model.form import DeployDeiT
from edge_deit.model.mixed import MixedForm

__all__ = ["delegation", "export", "load_runner", "read_metadata", "runs_on"]

_METHOD_PREFIX: Final = "get_"  # get_labels, get_preprocessing: methods that return a text
_MIN_SCALE: Final = 2.0**-20  # a smaller step could leave the range of XNNPACK's requantization


def export(request: ExportRequest) -> Path:
    """Write `request.output`.

    Sources: torch.export; torchao's PT2E quantization; executorch.exir.to_edge_transform_and_lower.

    Raises:
        EdgeDeitError: int8 without ranges, a backend that is not offered, or a precision that the Core ML
            delegate does not have.
    """
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    scheme, backend = request.scheme, request.backend
    if backend not in BACKENDS:
        raise EdgeDeitError(
            f"target executorch has no backend {backend!r}; it has: {', '.join(BACKENDS)}"
        )
    if backend == "coreml" and scheme.precision in ("int8-dynamic", "int4"):
        raise EdgeDeitError(
            f"{scheme.precision} finds ranges at run time, which Core ML does not; "
            "choose --precision int8, or the backend xnnpack"
        )
    model = _model(request)
    with torch.no_grad():
        program = torch.export.export(model, request.examples)
    with _weights(request, model), needed_passes():
        manager = to_edge_transform_and_lower(
            program,
            partitioner=[_partitioner(request)],
            constant_methods=_constant_methods(request.metadata),
            compile_config=EdgeCompileConfig(_check_ir_validity=backend != "xnnpack"),
        )
    request.output.write_bytes(manager.to_executorch().buffer)
    return request.output


def delegation(path: Path) -> tuple[int, list[str]]:
    """How many subgraphs a file hands to its backend, and the operators that stay outside.

    Raises:
        EdgeDeitError: not a whole `.pte` file.
    """
    from executorch.exir._serialize._program import deserialize_pte_binary
    from executorch.exir.schema import DelegateCall, KernelCall

    load_program(path)
    program = deserialize_pte_binary(path.read_bytes()).program
    (plan,) = [plan for plan in program.execution_plan if plan.name == "forward"]
    steps = [step.instr_args for chain in plan.chains for step in chain.instructions or []]
    outside = [plan.operators[step.op_index] for step in steps if isinstance(step, KernelCall)]
    count = sum(isinstance(step, DelegateCall) for step in steps)
    return count, [operator.name for operator in outside]


def read_metadata(path: Path) -> dict[str, str]:
    """The texts embedded in a file, by name.

    Raises:
        EdgeDeitError: not a whole `.pte` file.
    """
    program = load_program(path)
    names = sorted(name for name in program.method_names if name.startswith(_METHOD_PREFIX))
    return {
        name.removeprefix(_METHOD_PREFIX): str(program.load_method(name)([])[0]) for name in names
    }


# Lowering


def _model(request: ExportRequest) -> nn.Module:
    """What is lowered."""
    if request.packed:
        return with_packed(request.model, request.packed)
    if request.scheme.quantized:
        return _quantize(request)
    if request.scheme.precision == "fp32":
        return request.model
    assert isinstance(request.model, DeployDeiT)
    if request.backend == "xnnpack":
        return with_patch_rows(request.model)
    return MixedForm(request.model, request.single).eval() if request.single else request.model


def _weights(request: ExportRequest, model: nn.Module) -> AbstractContextManager[None]:
    """What makes the lowered weights those of the precision."""
    if request.scheme.precision == "fp16" and request.backend == "xnnpack":
        return halved_weights(model, request.single)
    return nullcontext()


def _partitioner(request: ExportRequest) -> Any:
    """What decides which operators the backend takes."""
    if request.backend == "xnnpack":
        return _xnnpack_partitioner()
    precision = request.scheme.precision
    halved = not request.single if precision == "fp16" else request.half_remainder
    import coremltools as ct
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner

    specs = CoreMLBackend.generate_compile_specs(
        compute_unit=ct.ComputeUnit.ALL,
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT16 if halved else ct.precision.FLOAT32,
        model_type=CoreMLBackend.MODEL_TYPE.MODEL,
    )
    return CoreMLPartitioner(compile_specs=specs)


def _xnnpack_partitioner() -> Any:
    """XNNPACK's own choice of operators, as one subgraph wherever that makes no cycle.

    Its greedy merging stops at every attention whose q, k and v read one dynamically quantized tensor,
    and would leave depth + 1 subgraphs.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from torch.fx.passes.infra.partitioner import Partition
    from torch.fx.passes.utils.fuser_utils import validate_partition

    class OneSubgraph(XnnpackPartitioner):  # type: ignore[misc]
        """Tries the union of all that matches first."""

        def generate_partitions(self, ep: torch.export.ExportedProgram) -> list[Partition]:
            groups = self.get_matched_nodes_from_configs(ep)
            nodes = [node for group in groups for node in group]
            if nodes and validate_partition(nodes):
                return [Partition(id=0, nodes=nodes)]
            partitions: list[Partition] = super().generate_partitions(ep)
            return partitions

    return OneSubgraph()


def _constant_methods(metadata: Mapping[str, str]) -> dict[str, str]:
    """`get_labels` and the like: methods without arguments that return a text."""
    return {f"{_METHOD_PREFIX}{name}": text for name, text in metadata.items()}


# Quantization


def _quantize(request: ExportRequest) -> nn.Module:
    """The model with quantize and dequantize operators around the scheme's layers."""
    return quantize_graph(
        request,
        extra=RUNTIME.extra,
        unsigned=request.backend == "coreml",
        outputs=request.backend == "xnnpack",
        min_scale=_MIN_SCALE,
    )
