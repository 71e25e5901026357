"""Quantize and dequantize operators around named layers of a torch.export graph.

ExecuTorch and Core ML files are both made from such graphs. Static ranges are given, so no photo is run.
Source: torchao's PT2E quantization (prepare_pt2e, convert_pt2e).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters.target import ExportRequest
from edge_deit.quantization.scheme import LayerRanges, Range

__all__ = ["quantize_graph"]

_LAYER_OPERATORS: Final = (torch.ops.aten.linear.default, torch.ops.aten.conv2d.default)


def quantize_graph(
    request: ExportRequest,
    *,
    extra: str,
    unsigned: bool,
    outputs: bool,
    min_scale: float,
) -> nn.Module:
    """The request's model with the scheme's layers integer: int8 weights, 8-bit inputs.

    A dynamic Linear's input has a range for each token, found at run time. A convolution has one for the
    whole photo where the scheme names it as dynamic, and stays float in `int8-dynamic`. Of a layer with
    float inputs the weights alone are integer. `unsigned` activations are uint8, otherwise int8; `outputs`
    makes static outputs integer too; no scale is below `min_scale`.

    Raises:
        EdgeDeitError: the exported graph lacks a layer, or a static scheme lacks its range.
    """
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    static = request.scheme.static_layers(request.model)
    dynamic = request.scheme.dynamic_layers(request.model)
    named = request.scheme.dynamic
    dynamic = [
        name
        for name in dynamic
        if name in named or isinstance(request.model.get_submodule(name), nn.Linear)
    ]
    floats = request.scheme.float_input_layers(request.model)
    if lost := [name for name in static if name not in request.ranges]:
        raise EdgeDeitError(f"no ranges for {', '.join(lost[:3])}: give --calibration photos")
    ranges = {name: request.ranges[name] for name in static}
    specs = _Specs(ranges, frozenset(floats), unsigned, outputs, min_scale)
    layers = static + dynamic + floats
    with torch.no_grad():
        graph = torch.export.export(request.model, (request.example,)).module()
        prepared = prepare_pt2e(graph, _quantizer(layers, specs, extra))
        prepared(request.example)  # observers of the weights want to have seen them
        converted: nn.Module = convert_pt2e(prepared)
    return converted


def _quantizer(layers: list[str], specs: _Specs, extra: str) -> Any:
    """Marks exactly the named layers, and no operator between them."""
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, Quantizer
    from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

    wanted = set(layers)

    class NamedLayers(Quantizer):  # type: ignore[misc]
        """A layer is known by the name of its weight."""

        def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
            for node in model.graph.nodes:
                if node.target not in _LAYER_OPERATORS:
                    continue
                name = str(node.args[1].target).removesuffix(".weight")
                if name in wanted:
                    inputs = {} if name in specs.floats else {node.args[0]: specs.input(name)}
                    node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(
                        input_qspec_map={**inputs, node.args[1]: specs.weight()},
                        output_qspec=specs.output(name),
                        _annotated=True,
                    )
            return model

        def validate(self, model: torch.fx.GraphModule) -> None:
            """Every name must have been found.

            Raises:
                EdgeDeitError: the exported graph lacks a layer.
            """
            marked = sum(Q_ANNOTATION_KEY in node.meta for node in model.graph.nodes)
            if marked != len(wanted):
                raise EdgeDeitError(
                    f"the exported graph has {marked} of the {len(wanted)} layers to quantize; "
                    f"install the tested packages: pip install 'edge-deit[{extra}]'"
                )

    return NamedLayers()


class _Specs:
    """How each tensor of a layer is quantized, in torchao's terms."""

    def __init__(
        self,
        ranges: Mapping[str, LayerRanges],
        floats: frozenset[str],
        unsigned: bool,
        outputs: bool,
        min_scale: float,
    ) -> None:
        self.ranges, self.outputs, self.min_scale = ranges, outputs, min_scale
        self.floats = floats
        self.dtype = torch.uint8 if unsigned else torch.int8
        self.least, self.greatest = (0, 255) if unsigned else (-128, 127)

    def input(self, name: str) -> Any:
        """Static and per tensor, or per token at run time."""
        found = self.ranges.get(name)
        return self._dynamic() if found is None else self._static(found.input)

    def output(self, name: str) -> Any:
        """Static and per tensor, or None: float."""
        found = self.ranges.get(name) if self.outputs else None
        return None if found is None else self._static(found.output)

    def weight(self) -> Any:
        """Symmetric, -127 to 127, one scale an output channel."""
        from torchao.quantization.pt2e import PerChannelMinMaxObserver
        from torchao.quantization.pt2e.quantizer import QuantizationSpec

        return QuantizationSpec(
            dtype=torch.int8,
            quant_min=-127,
            quant_max=127,
            qscheme=torch.per_channel_symmetric,
            ch_axis=0,
            observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=self.min_scale),
        )

    def _static(self, ends: Range) -> Any:
        from torchao.quantization.pt2e.quantizer import FixedQParamsQuantizationSpec

        scale = max((ends[1] - ends[0]) / (self.greatest - self.least), self.min_scale)
        return FixedQParamsQuantizationSpec(
            dtype=self.dtype,
            scale=scale,
            zero_point=self.least + round(-ends[0] / scale),
            quant_min=self.least,
            quant_max=self.greatest,
            qscheme=torch.per_tensor_affine,
        )

    def _dynamic(self) -> Any:
        from torchao.quantization.pt2e import PlaceholderObserver
        from torchao.quantization.pt2e.quantizer import QuantizationSpec

        return QuantizationSpec(
            dtype=self.dtype,
            quant_min=self.least,
            quant_max=self.greatest,
            qscheme=torch.per_tensor_affine,
            is_dynamic=True,
            observer_or_fake_quant_ctr=PlaceholderObserver.with_args(eps=self.min_scale),
        )
