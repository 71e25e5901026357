"""Files with 4-bit weights: they compute what the packed weights say, and runtimes take them whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_deit.exporters import target
from edge_deit.metrics.outputs import closeness
from edge_deit.model.deploy import deploy
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.quantization.groups import pack_in_groups
from edge_deit.quantization.mix import with_weights
from edge_deit.quantization.packed import GroupedWeight
from edge_deit.quantization.scheme import Scheme
from exporter_models import fresh_model, images, outputs_of, request_for
from shared import once

PIXELS = images(6, seed=4)
EIGHT = ("patch_embed", "blocks.0.attn.v", "head")
LEAST_DB = {"tflite": 25.0, "executorch": 25.0, "onnx": 80.0}


def decibels(exact: np.ndarray, found: np.ndarray) -> float:
    return closeness(exact, found, classes=False).snr_db


def packed_form() -> tuple[DeployDeiT, dict[str, GroupedWeight]]:
    form = deploy(fresh_model("plain"))
    layers = quantizable_layers(form)
    weights = {name: form.get_submodule(name).get_parameter("weight") for name in layers}
    packed = pack_in_groups(weights, {n: 8 if n in EIGHT else 4 for n in layers}, {})
    return with_weights(form, packed), packed


@pytest.fixture(params=[*LEAST_DB])
def file(request: pytest.FixtureRequest, shared: Path) -> Path:
    one = target(request.param)
    if missing := one.missing():
        pytest.skip(f"{', '.join(missing)} not installed")

    def write(path: Path) -> None:
        form, packed = packed_form()
        asked = request_for(one, form, Scheme("int4", eight=EIGHT), path, photos=0)
        one.export(replace(asked, packed=packed))

    return once(shared / f"int4{one.suffix}", write)


def name_of(path: Path) -> str:
    return next(name for name in LEAST_DB if target(name).suffix == path.suffix)


def test_numbers_are_those_of_the_packed_weights(file: Path) -> None:
    form, packed = packed_form()
    name = name_of(file)
    rounded = [] if name == "onnx" else list(packed)
    with torch.inference_mode():
        exact = torch.cat([with_weights(form, packed, rounded)(one) for one in PIXELS.split(1)])
        other = torch.cat([deploy(fresh_model("plain"))(one) for one in PIXELS.split(1)])
    found = outputs_of(target(name), file, PIXELS)
    level = decibels(exact.numpy(), found)
    assert level > LEAST_DB[name]
    assert decibels(other.numpy(), found) < level, "the exact weights are others"


def test_weights_lie_in_the_file_as_they_are_packed(file: Path) -> None:
    _, packed = packed_form()
    size = {name: one.integers.numel() * one.bits // 8 for name, one in packed.items()}
    scales = {name: 2 * one.scales.numel() for name, one in packed.items()}
    spare = 60_000  # the float rest of a small model, and the graph
    assert file.stat().st_size < sum(size.values()) + sum(scales.values()) + spare
    content = file.read_bytes()
    flat = packed["blocks.1.mlp.fc1"].integers.numpy().astype(np.int16)
    shift = 8 if name_of(file) == "onnx" else 0
    levels = (flat + shift).astype(np.uint8) & 0xF
    pairs = levels.reshape(-1, 2)
    if name_of(file) != "executorch":  # whose order of halves is another
        assert (pairs[:, 0] | pairs[:, 1] << 4).tobytes() in content
    whole = packed["blocks.0.attn.v"].integers.numpy()
    shifted = (whole.astype(np.int16) + (128 if shift else 0)).astype(np.uint8)
    assert shifted.tobytes() in content, "8-bit weights"


def test_the_runtime_takes_the_graph_whole(file: Path) -> None:
    if name_of(file) == "tflite":
        from edge_deit.exporters.tflite.export import delegation

        assert delegation(file) == (1, [])
    elif name_of(file) == "executorch":
        from edge_deit.exporters.executorch.export import delegation as delegated

        assert delegated(file) == (1, [])
    else:
        import onnx

        graph = onnx.load(file).graph
        bits = [
            {one.name: one.i for one in node.attribute}["bits"]
            for node in graph.node
            if node.op_type == "MatMulNBits"
        ]
        assert sorted(bits) == [4] * 11 + [8] * 2
        assert not any(node.op_type in ("Gemm", "MatMulInteger") for node in graph.node)


def test_a_plain_session_is_right(shared: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = shared / "int4.onnx"
    if not path.exists():
        pytest.skip("another worker has not made it yet")
    session = onnxruntime.InferenceSession(path)
    feeds = ({"pixels": one.numpy()} for one in PIXELS.split(1))
    found = np.concatenate([session.run(None, feed)[0] for feed in feeds])
    form, packed = packed_form()
    with torch.inference_mode():
        exact = torch.cat([with_weights(form, packed)(one) for one in PIXELS.split(1)]).numpy()
    assert decibels(exact, found) > LEAST_DB["onnx"]
