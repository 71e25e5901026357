"""LiteRT (TensorFlow Lite): a `.tflite` file that XNNPACK runs whole, float, half or int8.

The deployment form is converted in float. In `fp16` the layers' weights are then stored in half precision,
and a note lets XNNPACK compute all of the graph in it where a core can; XNNPACK knows no graph of both
kinds, so the note is left out where a layer needs single precision. `int8` and `int8-dynamic` are made from
the float file with litert-quantizer, layer by layer (`exporters.tflite.quantize`). In `int8`, queries,
keys and values have fixed ranges: they read one tensor, which is then rounded once, and on cores with half
precision what comes behind them is computed in it. In all other layers XNNPACK finds a range for each token
and leaves the output in float: that is finer, and takes fewer instructions on cores without half precision
(docs/arm64.md). `int8-full`, every operator int8, starts from another graph of the same function
(`exporters.tflite.integer_form`, `exporters.tflite.full`); XNNPACK takes most of it.

`int4` stores weights in groups, or in 8 bits (`exporters.tflite.packed`), all with ranges for each token.

A layer is found in the file by its weights, bit for bit, so the mapping does not depend on how a converter
names things; afterwards tensors carry the names of the deployment form (`blocks.0.attn.q`), which also
makes the file readable in a viewer.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters.patch_rows import with_patch_rows
from edge_deit.exporters.target import ExportRequest
from edge_deit.exporters.tflite.file import add_entry, allow_half, embed, pack, read, texts, unpack
from edge_deit.exporters.tflite.full import quantize_fully
from edge_deit.exporters.tflite.half import halve_weights
from edge_deit.exporters.tflite.integer_form import IntegerDeiT, fit_to_photos
from edge_deit.exporters.tflite.names import name_ends, name_layers
from edge_deit.exporters.tflite.packed import pack_layers
from edge_deit.exporters.tflite.quantize import quantize_layers
from edge_deit.exporters.tflite.runtime import load_runner, open_interpreter, runs_on
from edge_deit.exporters.tflite.task_metadata import ENTRY, image_metadata, labels_archive
from edge_deit.exporters.tflite.versions import declare_versions
from edge_deit.model.file_form import GREATEST_LEVEL
from edge_deit.model.form import DeployDeiT

__all__ = ["delegation", "export", "load_runner", "read_metadata", "runs_on"]


def export(request: ExportRequest) -> Path:
    """Write `request.output`.

    Sources: litert_torch.convert; litert_quantizer.Quantizer; the schema of LiteRT.

    Raises:
        EdgeDeitError: a static precision without photos or without a layer's range, or a converted file
            whose layers are not those of the model.
    """
    scheme, form = request.scheme, request.model
    if scheme.precision == "int8-full":
        content = _export_fully(request)
    else:
        content = _convert(request, form, in_rows="patch_embed" in scheme.dynamic_layers(form))
        if scheme.quantized and scheme.quantized_layers(form):
            static, dynamic = scheme.static_layers(form), scheme.dynamic_layers(form)
            content = quantize_layers(content, form, static, dynamic, request.ranges)
    model = unpack(content)
    if request.packed:
        pack_layers(model, form, request.packed)
    if scheme.precision == "fp16":
        halve_weights(model, form, request.single)
    name_ends(model, list(request.inputs), request.output_name)
    embed(model, request.metadata)
    declare_versions(model)
    if request.half_remainder:
        allow_half(model)
    archive = b""
    if _classifies_images(request):
        ends = request.input_name, request.output_name
        add_entry(model, ENTRY.encode(), image_metadata(request.metadata, *ends))
        archive = labels_archive(request.metadata["labels"])
    request.output.write_bytes(pack(model) + archive)
    return request.output


def _classifies_images(request: ExportRequest) -> bool:
    """Whether MediaPipe's image classifier can take the file."""
    form = request.model
    one = len(request.example) == 1  # it takes no more at a time
    return (
        one
        and isinstance(form, DeployDeiT)
        and form.image is not None
        and bool(form.config.num_classes)
    )


def read_metadata(path: Path) -> dict[str, str]:
    """The texts embedded in a file, by name.

    Raises:
        EdgeDeitError: not a whole `.tflite` file.
    """
    return texts(read(path))


def delegation(path: Path) -> tuple[int, list[str]]:
    """How many partitions XNNPACK took, and the operators that were left to the built-in kernels.

    The interpreter lists the original operators and one DELEGATE a partition; walking back from the
    outputs, a tensor that a DELEGATE writes needs none of the original operators behind it.

    Raises:
        EdgeDeitError: as `load_runner`.
    """
    interpreter = open_interpreter(path, 1)
    ops = interpreter._get_ops_details()
    producers = {int(out): op for op in ops for out in op["outputs"]}
    delegates = [op for op in ops if op["op_name"] == "DELEGATE"]
    producers |= {int(out): op for op in delegates for out in op["outputs"]}
    pending = [int(detail["index"]) for detail in interpreter.get_output_details()]
    outside: dict[int, str] = {}
    seen: set[int] = set()
    while pending:
        tensor = pending.pop()
        if tensor in seen or tensor not in producers:
            continue
        seen.add(tensor)
        op = producers[tensor]
        if op["op_name"] != "DELEGATE":
            outside[int(op["index"])] = str(op["op_name"])
        pending.extend(int(value) for value in op["inputs"])
    return len(delegates), [outside[index] for index in sorted(outside)]


def _convert(request: ExportRequest, module: nn.Module, *, in_rows: bool = False) -> bytes:
    """The float file of a module, with the module's names; `in_rows`: the patch embedding is a Linear."""
    import litert_torch

    converted = module
    if in_rows:
        assert isinstance(module, DeployDeiT)
        converted = with_patch_rows(module, white=_white(module))
    edge_model = litert_torch.convert(converted, request.examples)
    model = unpack(edge_model.model_content())
    name_layers(model, module)
    name_ends(model, list(request.inputs), request.output_name)
    return pack(model)


def _white(form: DeployDeiT) -> float | None:
    """The greatest level that the patch embedding reads, None of normalised pixels."""
    if form.image is not None:
        return float(GREATEST_LEVEL)
    return None if form.grey_levels is None else 1.0


def _export_fully(request: ExportRequest) -> bytes:
    """int8 throughout; the photos give the ranges, as the rewritten graph has other tensors."""
    assert isinstance(request.model, DeployDeiT)
    if request.model.config.depth == 1 and request.model.config.num_classes:
        raise EdgeDeitError(
            "int8-full has no form for a model of one block, whose queries do not depend on the photo; "
            "take int8"
        )
    if not request.calibration:
        raise EdgeDeitError("int8-full needs calibration photos: --calibration DIR")
    module = IntegerDeiT(request.model)
    fit_to_photos(module, request.calibration_inputs())
    photos = (photo.numpy() for photo in request.calibration_inputs())
    grey = module.grey_levels is not None
    return quantize_fully(_convert(request, module), photos, grey_levels=grey)
