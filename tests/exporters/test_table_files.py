"""Files with weights in lookup tables hold exactly those tables, and compute what the form computes."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from edge_deit.common.quiet import quiet
from edge_deit.exporters import target as find_target
from edge_deit.exporters.target import ExportRequest
from edge_deit.metrics.outputs import closeness
from edge_deit.model.deploy import deploy
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.model.outputs import outputs
from edge_deit.quantization.mix import with_weights
from edge_deit.quantization.packed import PackedWeight
from edge_deit.quantization.palette import see
from edge_deit.quantization.scheme import Scheme
from exporter_models import fresh_model, images, outputs_of, request_for

Form = Literal["ane", "cpu"]


def tabled(kind: str) -> tuple[DeployDeiT, dict[str, PackedWeight]]:
    """A small form, and tables of its layers with 4, 6 and 8 bits."""
    form = deploy(fresh_model(kind))
    palette = see(form, images(2, seed=3).split(1))
    bits = (4, 6, 8)
    packed: dict[str, PackedWeight] = {
        name: palette.table(name, bits[place % 3])
        for place, name in enumerate(quantizable_layers(form))
    }
    return with_weights(form, packed), packed


def request_of(target: str, kind: str, form: Form, output: Path) -> ExportRequest:
    model, packed = tabled(kind)
    request = request_for(find_target(target), model, Scheme("palettized-4"), output)
    return replace(request, packed=packed, form=form)


@pytest.mark.parametrize(
    ("form", "single"), [("cpu", ()), ("ane", ("patch_embed", "blocks.0.mlp.fc2"))]
)
def test_core_ml_holds_the_tables(tmp_path: Path, form: Form, single: tuple[str, ...]) -> None:
    """Every weight of the scheme is looked up, and the rest is half precision."""
    from edge_deit.exporters.mlpackage import operations_of, read_specification

    target = find_target("coreml")
    if missing := target.missing():
        pytest.skip(f"needs {', '.join(missing)}")
    request = request_of("coreml", "plain", form, tmp_path / "a.mlpackage")
    request = replace(request, single=dict.fromkeys(single, "a test"))
    with quiet():
        target.export(request)
    kinds = [operation.type for operation in operations_of(read_specification(request.output))]
    assert kinds.count("constexpr_lut_to_dense") == len(request.packed)
    photos = images(3, seed=4)
    expected = outputs(request.model, photos.split(1)).numpy()
    actual = outputs_of(target, request.output, photos)
    assert closeness(expected, actual, classes=True).snr_db > 40


def test_core_ml_refuses_weights_that_are_not_in_the_graph(tmp_path: Path) -> None:
    """A table whose weights the graph does not have would be lost without a word."""
    from edge_deit.common.errors import EdgeDeitError

    target = find_target("coreml")
    if missing := target.missing():
        pytest.skip(f"needs {', '.join(missing)}")
    request = request_of("coreml", "plain", "cpu", tmp_path / "a.mlpackage")
    other = copy.deepcopy(request.model)
    with torch.no_grad():
        other.get_submodule("blocks.0.attn.q").get_parameter("weight").mul_(2)
    with quiet(), pytest.raises(EdgeDeitError, match=r"weights of blocks\.0\.attn\.q"):
        target.export(replace(request, model=other))


@pytest.mark.parametrize(("form", "least_db"), [("ane", 35), ("cpu", 90)])
def test_core_ai_holds_the_tables(tmp_path: Path, form: Form, least_db: float) -> None:
    """The same tables, the rest in half or in single precision; a weight takes less than 1.2 bytes."""
    target = find_target("coreai")
    if target.remedy() is not None:
        pytest.skip(f"{target.remedy()}")
    request = request_of("coreai", "distilled", form, tmp_path / "a.aimodel")
    with quiet():
        target.export(request)
    photos = images(1, seed=4)
    expected = outputs(request.model, photos.split(1)).numpy()
    actual = outputs_of(target, request.output, photos)
    assert closeness(expected, actual, classes=True).snr_db > least_db
    weights = sum(one.indices.numel() for one in request.packed.values())
    assert size_of_program(request.output) < 1.2 * weights


def size_of_program(path: Path) -> int:
    return (path / "main.mlirb").stat().st_size
