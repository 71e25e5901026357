"""Core AI: one `.aimodel` folder for the systems of 2026 (iOS 27, macOS 27), Apple's successor to Core ML.

What each precision means here:

* `fp32`: float32 throughout.
* `fp16`: float16 weights and arithmetic, which the Neural Engine takes; layers that do not fit
  stay float32.
* `int8`: the scheme's layers have int8 weights, symmetric per output channel, and their inputs pass through
  uint8, asymmetric per tensor with the request's ranges; the rest is float32.
* `palettized-6`, `palettized-4`: the scheme's layers have weights as indices into tables; the rest is as in
  `fp16`, or, in the form `cpu`, as in `fp32`.

Input and output are float32 in every precision. The converter (`coreai-torch`) and the runtime
(`coreai-core`) are Apple's, and the runtime executes the file on Linux too, so that no stand-in is needed.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters.channels_first import in_form
from edge_deit.exporters.coreai.layers import with_integer_layers, with_tables
from edge_deit.exporters.coreai.packages import PINS, check_version
from edge_deit.exporters.coreai.runtime import (
    FUNCTION,
    METADATA,
    PRECISIONS,
    check,
    is_half,
    load_runner,
    runs_on,
)
from edge_deit.exporters.target import ExportRequest
from edge_deit.model.form import DeployDeiT
from edge_deit.model.mixed import MixedForm

__all__ = ["export", "load_runner", "read_metadata", "runs_on"]

_OTHERS: Final = "creatorDefinedMetadata"  # as the asset's own JSON calls texts of other names
_FIELDS: Final = {  # name of a text -> attribute of the asset's metadata
    "author": "author",
    "license": "license",
    "description": "model_description",
}


def export(request: ExportRequest) -> Path:
    """Write the folder `request.output`.

    Sources: coreai-torch's TorchConverter; coreai-core's AIProgram.save_asset.

    Raises:
        EdgeDeitError: a precision that this target does not have, int8 without ranges, or a package of
            another version.
    """
    if request.scheme.precision not in PRECISIONS:
        raise EdgeDeitError(
            f"target coreai has no {request.scheme.precision}; it has: {', '.join(PRECISIONS)}"
        )
    for distribution in PINS:
        check_version(distribution)
    from coreai_torch import TorchConverter, get_decomp_table

    with torch.no_grad():
        program = torch.export.export(_module(request), request.examples)
        program = program.run_decompositions(get_decomp_table())
    converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)  # no stack traces: they hold paths
    converter.add_exported_program(
        program,
        input_names=list(request.inputs),
        output_names=[request.output_name],
        entrypoint_name=FUNCTION,
    )
    converter.to_coreai().save_asset(request.output, _metadata(request))
    _settle_texts(request.output / METADATA)
    return request.output


def read_metadata(path: Path) -> dict[str, str]:
    """The texts embedded in a file, by name.

    Raises:
        EdgeDeitError: not a whole `.aimodel`.
    """
    check(path)
    fields = json.loads((path / METADATA).read_text(encoding="utf-8"))
    found = {name: str(fields.get(name, "")) for name in _FIELDS}
    return found | {name: str(text) for name, text in fields.get(_OTHERS, {}).items()}


# Making the graph


class _Ends(nn.Module):
    """A model in half precision whose input and output are float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        found: Tensor = self.model(*(one.half() for one in inputs))
        return found.float()


def _module(request: ExportRequest) -> nn.Module:
    """The request's model in its form and precision."""
    scheme, half = request.scheme, is_half(request.scheme.precision, request.form)
    dtype = torch.float16 if half else torch.float32
    layers = [] if request.packed else scheme.static_layers(request.model)
    floats = [] if request.packed else scheme.float_input_layers(request.model)
    model = in_form(request)
    if isinstance(model, DeployDeiT) and len(request.example) == 1:
        model = _flat(model)
    if request.packed:
        model = with_tables(model, request.packed)
    if request.single and half:
        return MixedForm(model, request.single).eval()
    model = with_integer_layers(model, layers, floats, request.ranges, dtype)
    return _Ends(model).eval() if half else model


def _flat(model: DeployDeiT) -> nn.Module:
    """The same with tokens as a matrix: a product of two matrices needs no sizes worked out at run time."""
    made = copy.deepcopy(model)
    made.flat_stream = True
    return made


def _settle_texts(file: Path) -> None:
    """Give equal assets equal bytes: their texts come in any order, and with the second of their making."""
    texts = json.loads(file.read_text(encoding="utf-8"))
    texts.pop("creationDate", None)
    file.write_text(json.dumps(texts, ensure_ascii=False, sort_keys=True), encoding="utf-8")


def _metadata(request: ExportRequest) -> Any:
    """The asset's own fields, and the other texts as custom ones."""
    from coreai.runtime import AIModelAssetMetadata

    metadata, texts = AIModelAssetMetadata(), dict(request.metadata)
    for name, attribute in _FIELDS.items():
        setattr(metadata, attribute, texts.pop(name, ""))
    for name, text in texts.items():
        metadata.set_custom(name, text)
    return metadata
