"""Layers whose rounding costs the most have finer activations, in the plan and in the files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from condition_examples import SPEC, grey_photos, outliers
from conftest import TINY
from edge_deit.checkpoint.load import load_model
from edge_deit.common.quiet import quiet
from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.finer import with_finer_layers
from edge_deit.exporters import target
from edge_deit.exporters.target import Target
from edge_deit.metrics.outputs import closeness
from edge_deit.quantization.condition import Conditioned, condition
from edge_deit.quantization.fakequant import fake_quantize
from edge_deit.quantization.scheme import Scheme
from exporter_models import outputs_of, request_for

BAD = "blocks.1.mlp.fc2"
EMBEDDING = "patch_embed"
QUERIES = {f"blocks.0.attn.{name}" for name in "qkv"}


@pytest.fixture(scope="module")
def conditioned() -> Conditioned:
    return condition(outliers(), grey_photos(6), SPEC)


def refined(
    found: Conditioned, weights: Path, one: Target, backend: str | None = None
) -> tuple[ExportContext, Scheme]:
    photos = grey_photos(6)
    context = ExportContext(
        load_model(str(weights)),
        found.unrounded,
        lambda: found,
        photos,
        photos.pixels,
        np.zeros((6, TINY.num_classes)),
        Path(),
        1,
    )
    scheme = one.fit(Scheme("int8"), context.form)
    _, scheme, _ = with_finer_layers(context, (one, scheme, backend or one.backends[0]))
    return context, scheme


def with_noise(found: Conditioned, loud: dict[str, tuple[float, float]]) -> Conditioned:
    return replace(found, noise=dict.fromkeys(found.noise, (1e-9, 1e-9)) | loud)


def test_the_loudest_layer_is_finer_in_the_target_s_way(
    conditioned: Conditioned, tiny_weights: Path
) -> None:
    found = with_noise(conditioned, {BAD: (1.0, 0.0)})
    _, scheme = refined(found, tiny_weights, target("executorch"))
    assert (scheme.dynamic, scheme.float_inputs) == ((BAD,), ())
    others = ("executorch", "coreml"), ("coreml", None), ("coreai", None), ("onnx", None)
    for name, backend in others:
        _, scheme = refined(found, tiny_weights, target(name), backend)
        assert (scheme.dynamic, scheme.float_inputs) == ((), (BAD,))
    context, scheme = refined(found, tiny_weights, target("tflite"))
    assert scheme == target("tflite").fit(
        Scheme("int8"), context.form
    )  # it is dynamic there anyway


def test_only_what_is_rounded_counts(conditioned: Conditioned, tiny_weights: Path) -> None:
    found = with_noise(conditioned, {BAD: (0.0, 1.0), EMBEDDING: (1e-3, 1.0)})
    _, scheme = refined(found, tiny_weights, target("executorch"))
    assert set(scheme.dynamic) == {BAD, EMBEDDING}  # results are rounded there
    _, scheme = refined(found, tiny_weights, target("coreml"))
    assert set(scheme.float_inputs) == {EMBEDDING}  # and here they are not


def test_queries_keys_and_values_are_finer_together(
    conditioned: Conditioned, tiny_weights: Path
) -> None:
    found = with_noise(conditioned, {"blocks.0.attn.v": (0.0, 1.0)})
    _, scheme = refined(found, tiny_weights, target("executorch"))
    assert set(scheme.dynamic) == QUERIES
    found = with_noise(conditioned, dict.fromkeys(QUERIES, (1.0, 0.0)))
    _, scheme = refined(found, tiny_weights, target("coreml"))
    assert set(scheme.float_inputs) == QUERIES


@pytest.mark.slow
@pytest.mark.parametrize("name", ["executorch", "coreml", "coreai", "onnx"])
def test_files_compute_what_torch_says(
    name: str, conditioned: Conditioned, tiny_weights: Path, tmp_path: Path
) -> None:
    """One layer of each kind is finer: the file is nearer to that form than to the one without."""
    one = target(name)
    if missing := one.missing():
        pytest.skip(f"needs {', '.join(missing)}")
    finer = (EMBEDDING, BAD, *sorted(QUERIES), "head")
    way = "float_inputs" if one.fine[one.backends[0]].way == "float" else "dynamic"
    scheme = Scheme("int8", **{way: finer})
    found = conditioned
    layers, form = scheme.quantized_layers(found.form), found.form
    dynamic, floats = scheme.dynamic_layers(form), scheme.float_input_layers(form)
    model = found.with_layers(layers, dynamic, floats, token_ranges=one.token_ranges)
    ranges = {layer: found.ranges[layer] for layer in scheme.static_layers(form)}
    request = replace(
        request_for(one, model, scheme, tmp_path / f"finer{one.suffix}"), ranges=ranges
    )
    with quiet():
        one.export(request)
    pixels = grey_photos(4, seed=5).pixels
    actual = outputs_of(one, request.output, pixels)
    expected = fake_quantize(
        model,
        scheme.static_layers(form),
        found.ranges,
        outputs=one.integer_outputs,
        dynamic=dynamic,
        float_inputs=floats,
    )
    with torch.inference_mode():
        simulated = torch.cat([expected(photo) for photo in pixels.split(1)]).numpy()
    assert closeness(simulated, actual, classes=True).snr_db > 30
