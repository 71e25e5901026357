"""`fp16` files of all targets, of weights that fit half precision and of some whose squares leave it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_deit.common.quiet import quiet
from edge_deit.exporters import TARGETS
from edge_deit.exporters import target as find_target
from edge_deit.exporters.executorch.export import delegation
from edge_deit.exporters.tflite import export as tflite
from edge_deit.exporters.tflite.file import read, word
from edge_deit.metrics.outputs import closeness
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deit import DeiT
from edge_deit.model.deploy import deploy
from edge_deit.model.form import DeployDeiT
from edge_deit.model.mixed import MixedForm
from edge_deit.quantization.half import beyond_half
from edge_deit.quantization.scheme import Scheme
from exporter_models import images, outputs_of, request_for
from shared import once

CONFIG = DeiTConfig(depth=1, image_size=64, embed_dim=64, num_heads=2, mlp_dim=128, num_classes=10)
NORMS = {"blocks.0.norm1", "blocks.0.norm2", "norm"}
LEAST_DB = 45.0


def form(kind: str) -> DeployDeiT:
    """A seeded model; of the `large` one the squares in its norms reach 1e7."""
    torch.manual_seed(0)
    made = deploy(DeiT(CONFIG).eval())
    with torch.no_grad():
        for parameter in made.blocks.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        made.token_table.copy_(torch.randn_like(made.token_table))
        made.head.weight.normal_(std=0.2)
        for norm in (made.blocks[0].norm1, made.blocks[0].norm2, made.norm):
            norm.mean_square.weight.fill_(1 / CONFIG.embed_dim)
            norm.mean_square.bias.fill_(CONFIG.layer_norm_eps)
        if kind == "large":
            for tensor in (made.patch_embed.weight, made.patch_embed.bias, made.token_table):
                assert tensor is not None
                tensor.mul_(1000)
    return made


def single_of(made: DeployDeiT) -> dict[str, str]:
    return beyond_half(made, [(photo[None],) for photo in images(4, seed=1)])


def snr_db(found: np.ndarray, made: DeployDeiT, pixels: torch.Tensor) -> float:
    with torch.inference_mode():
        reference = torch.cat([made(photo) for photo in pixels.split(1)]).numpy()
    return closeness(reference, found, classes=True).snr_db


@pytest.fixture
def file(shared: Path, name: str, kind: str) -> Path:
    folder = shared / "half"
    folder.mkdir(exist_ok=True)
    target, made = find_target(name), form(kind)
    if missing := target.missing():
        pytest.skip(f"needs {', '.join(missing)}")
    request = request_for(target, made, Scheme("fp16"), folder / f"{kind}{target.suffix}")
    beyond = single_of(made)
    single = {**request.single, **beyond}
    request = replace(request, single=single, half_remainder=not beyond)
    with quiet():
        return once(request.output, lambda _: target.export(request))


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "large") for name in TARGETS), ("executorch", "plain"), ("tflite", "plain")],
)
def test_outputs_are_those_of_the_float_model(name: str, kind: str, file: Path) -> None:
    made, pixels = form(kind), images(4, seed=3)
    found = outputs_of(find_target(name), file, pixels)
    assert found.dtype == np.float32
    assert snr_db(found, made, pixels) >= LEAST_DB


@pytest.mark.parametrize("kind", ["large"])
@pytest.mark.parametrize("name", ["coreml"])
def test_all_in_half_precision_such_weights_are_wrong(file: Path, name: str, kind: str) -> None:
    """The test above could fail: Core ML's reference follows the overflow, and so does torch."""
    made, pixels = form(kind), images(4, seed=3)
    assert set(single_of(made)) == NORMS
    assert single_of(form("plain")) == {}
    target = find_target(name)
    wrong = file.with_name(f"wrong{target.suffix}")
    request = request_for(target, made, Scheme("fp16"), wrong)
    with quiet():
        once(wrong, lambda _: target.export(request))
    some = pixels[:1]
    assert not snr_or_none(outputs_of(target, wrong, some), made, some) >= LEAST_DB
    with torch.inference_mode():
        mixed = MixedForm(made, ()).eval()(some).numpy()
    assert not snr_or_none(mixed, made, some) >= LEAST_DB


def snr_or_none(found: np.ndarray, made: DeployDeiT, pixels: torch.Tensor) -> float:
    return snr_db(found, made, pixels) if np.isfinite(found).all() else float("nan")


@pytest.mark.parametrize("kind", ["plain", "large"])
@pytest.mark.parametrize("name", ["tflite"])
def test_litert_has_half_weights_and_a_note_where_all_fits(
    name: str, kind: str, file: Path
) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = read(file)
    (graph,) = model.subgraphs
    halves = [one for one in graph.tensors if one.type == schema.TensorType.FLOAT16]
    assert len(halves) == 8  # patches, q, k, v, proj, fc1, fc2, head
    notes = {word(entry.name) for entry in model.metadata}
    assert ("reduced_precision_support" in notes) is (kind == "plain")
    with quiet():
        assert tflite.delegation(file) == (1, [])


@pytest.mark.parametrize("kind", ["plain"])
@pytest.mark.parametrize("name", ["executorch"])
def test_executorch_is_one_subgraph(name: str, kind: str, file: Path) -> None:
    assert delegation(file) == (1, [])
