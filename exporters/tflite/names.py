"""Names in a converted file: each layer is found by its weights, then called as in the model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from torch import nn

from edge_deit.common.errors import EdgeDeitError
from edge_deit.exporters.patch_rows import row_weight
from edge_deit.exporters.tflite.file import contents, kind, word
from edge_deit.model.form import quantizable_layers

__all__ = ["SIGNATURE", "layer_operators", "name_ends", "name_layers"]

SIGNATURE: Final = "serving_default"


def name_ends(model: Any, input_names: Sequence[str], output_name: str) -> None:
    """Give the inputs and the one output their names, as tensors and in the signature."""
    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    sources = zip(input_names, graph.inputs, _entries(signature.inputs), strict=True)
    results = zip((output_name,), graph.outputs, _entries(signature.outputs), strict=True)
    for name, index, entry in (*sources, *results):
        for tensor in graph.tensors:  # a quantized output keeps its name beside the float one
            if word(tensor.name) == name:
                tensor.name = f"{name}_inner".encode()
        graph.tensors[index].name = name.encode()
        entry.name = name.encode()
        entry.tensorIndex = int(index)
    signature.signatureKey = SIGNATURE.encode()


def _entries(entries: Sequence[Any]) -> list[Any]:
    """A signature's entries in the order of the arguments, which the converter counts in their names."""
    return sorted(entries, key=lambda entry: word(entry.name))


def name_layers(model: Any, module: nn.Module) -> None:
    """Call each Linear's and convolution's output `NAME` and its weights `NAME.weight`."""
    (graph,) = model.subgraphs
    taken: set[str] = set()
    for operator, name in layer_operators(model, module):
        graph.tensors[operator.outputs[0]].name = name.encode()
        graph.tensors[operator.inputs[1]].name = f"{name}.weight".encode()
        taken |= {name, f"{name}.weight"}
    called = _called_modules(module)
    for index, tensor in enumerate(graph.tensors):
        if word(tensor.name) not in taken:
            path = _module_path(word(tensor.name))
            tensor.name = f"{called.get(path, path)}#{index}".encode()


def layer_operators(model: Any, module: nn.Module) -> Iterator[tuple[Any, str]]:
    """Each quantizable layer's operator and name; the weights' bytes are the identity.

    Of layers with equal weights (a fresh model may have some) the first in the module's order is the
    first in the file's.

    Raises:
        EdgeDeitError: a layer without an operator.
    """
    names: dict[bytes, list[str]] = {}
    for name in quantizable_layers(module):
        first, *others = _weight_bytes(module.get_submodule(name))
        names.setdefault(first, []).append(name)
        names |= dict.fromkeys(others, names[first])
    (graph,) = model.subgraphs
    for operator in graph.operators:
        if len(operator.inputs) < 2 or kind(model, operator) not in ("FULLY_CONNECTED", "CONV_2D"):
            continue
        weight = graph.tensors[operator.inputs[1]]
        waiting = names.get(contents(model.buffers[weight.buffer]))
        if waiting:
            yield operator, waiting.pop(0)
    if lost := [name for waiting in names.values() for name in waiting]:
        raise EdgeDeitError(
            f"the converted file has no operator for {', '.join(lost[:3])} ({len(lost)} in all); "
            "install the tested converter: pip install 'edge-deit[tflite]'"
        )


def _called_modules(module: nn.Module) -> dict[str, str]:
    """A module's path without the lists on the way, as the converter records it -> its full path."""
    lists = {name for name, child in module.named_modules() if isinstance(child, nn.ModuleList)}
    found: dict[str, str] = {}
    for name, _ in module.named_modules():
        parts = name.split(".")
        kept = [p for i, p in enumerate(parts) if ".".join(parts[: i + 1]) not in lists]
        found.setdefault(".".join(kept), name or "model")
    return found


def _module_path(name: str) -> str:
    """The attribute names in a converter's tensor name.

    >>> _module_path("a_b.c.DeiT/a_b.c.Block_0/a_b.c.Mlp_mlp/torch.nn.GELU_act;3")
    '0.mlp.act'
    """
    parts = name.partition(";")[0].split("/")[1:]
    return ".".join(re.sub(r"^(?:\w+\.)*[A-Za-z0-9]+_", "", part) for part in parts)


def _weight_bytes(layer: nn.Module) -> list[bytes]:
    """Weights as a file may store them: Linear (out, in), convolution (out, height, width, in).

    A convolution may also be a Linear over patches there (`exporters.patch_rows`).
    """
    weight = layer.get_parameter("weight").detach()
    orders = [weight]
    if isinstance(layer, nn.Conv2d):
        rows = [row_weight(layer, filled=filled) for filled in (False, True)]
        orders = [weight.permute(0, 2, 3, 1), *rows]
    return [order.contiguous().numpy().tobytes() for order in orders]
