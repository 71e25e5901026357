"""The look inside artefacts: points are the same in every form, and a damaged layer is named."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from condition_examples import SPEC, grey_photos
from conftest import TINY, random_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.quiet import quiet
from edge_deit.evaluation.layers import compare_layers, first_drop
from edge_deit.exporters import TARGETS
from edge_deit.exporters import target as find_target
from edge_deit.exporters.graph_points import Step, find_points
from edge_deit.model.deit import DeiT
from edge_deit.model.deploy import deploy
from edge_deit.model.form import DeployDeiT
from edge_deit.model.hooks import watching
from edge_deit.model.points import LayerReader, Points, float_points, point_names, shaped
from edge_deit.quantization.condition import condition
from edge_deit.quantization.narrow import (
    scale_tokens,
    split_coarse,
    token_scalable,
    use_grey_levels,
)
from edge_deit.quantization.rotate import rotate
from edge_deit.quantization.scheme import Precision, Scheme
from edge_deit.report.report import Layers
from exporter_models import outputs_of, request_for

CONFIG = replace(TINY, depth=3)
CONFIGS = {
    "plain": CONFIG,
    "distilled": replace(CONFIG, distilled=True, distillation_head=True),
    "distillation token without a head": replace(CONFIG, distilled=True),
    "features": replace(CONFIG, num_classes=0),
}
READABLE = [name for name in TARGETS if find_target(name).layer_reader is not None]
CASES = [
    (name, precision)
    for name in READABLE
    for precision in find_target(name).precisions
    if precision in ("fp16", "int8", "int8-dynamic", "int8-full")
]
SAME_DB = 60.0  # float rounding is all that may differ
MIN_DB = {"fp32": SAME_DB, "fp16": 40.0, "int8": 15.0, "int8-dynamic": 15.0, "int8-full": 5.0}


def photos(count: int) -> Iterable[Tensor]:
    """Pixels (1, 3, 64, 64) that no export has seen."""
    return grey_photos(count, seed=3)


def prepared(model: DeiT, damage: float = 1.0) -> DeployDeiT:
    """All that conditioning does to a form but rounding; `damage` multiplies one layer's weights."""
    form = deploy(model)
    use_grey_levels(form, SPEC)
    split_coarse(form)
    form = rotate(form)
    for name in token_scalable(form)[::2]:
        scale_tokens(form, name)
    with torch.no_grad():
        form.get_submodule("blocks.1.mlp.fc1").get_parameter("weight").mul_(damage)
    return form


def reader_of(form: DeployDeiT) -> LayerReader:
    """The points of a form that torch runs."""
    modules: dict[str, nn.Module] = {"embedding": form.get_submodule("blocks.0.norm1")}
    for index, block in enumerate(form.blocks):
        name = f"blocks.{index}"
        modules |= {f"{name}.q": block.attn.q, f"{name}.k": block.attn.k}
        modules |= {f"{name}.attn": block.norm2, f"{name}.mlp": block}

    def read(pixels: np.ndarray) -> Points:
        seen: dict[str, Tensor] = {}

        def keep(name: str, layer: nn.Module, x: Tensor, y: Tensor) -> None:
            seen[name] = y if name.rpartition(".")[2] in ("q", "k", "mlp") else x

        with watching(modules, keep), torch.inference_mode():
            seen[point_names(form.config)[-1]] = form(torch.from_numpy(pixels))
        for index in range(len(form.blocks)):
            q, k = (
                seen[f"blocks.{index}.{part}"][0].unflatten(-1, (form.config.num_heads, -1))
                for part in ("q", "k")
            )
            seen[f"blocks.{index}.attention"] = torch.einsum("rhd,nhd->hrn", q, k).softmax(-1)
        return shaped({name: value.numpy() for name, value in seen.items()}, form.config)

    return LayerReader("torch", read)


def below(layers: Layers, limit_db: float) -> dict[str, float]:
    """Points under the limit."""
    pairs = zip(layers.names, layers.snr_db, strict=True)
    return {name: value for name, value in pairs if value < limit_db}


# The float model and the comparison


@pytest.mark.parametrize("kind", CONFIGS)
def test_points_are_the_same_in_every_form(kind: str) -> None:
    model = random_model(CONFIGS[kind])
    for form in (deploy(model), prepared(model)):
        layers = compare_layers(model, reader_of(form), photos(2))
        assert layers.names == point_names(model.config)
        assert layers.images == 2
        assert not below(layers, SAME_DB)
        assert layers.first_drop is None


def test_of_one_block_the_tokens_that_are_read_are_compared() -> None:
    """Its files add to no other token, so what enters the block is not in them whole."""
    model = random_model(replace(CONFIGS["distilled"], depth=1))
    whole = reader_of(deploy(model)).read

    def read(pixels: np.ndarray) -> Points:
        points = whole(pixels)
        return points | {"embedding": points["embedding"][:2]}

    layers = compare_layers(model, LayerReader("", read), photos(2))
    assert not below(layers, SAME_DB)
    assert len(layers.names) == 5


def test_conditioning_changes_no_point() -> None:
    model = random_model(CONFIG)
    conditioned = condition(deploy(model), grey_photos(4), SPEC)
    assert not below(compare_layers(model, reader_of(conditioned.unrounded), photos(2)), SAME_DB)
    rounded = compare_layers(model, reader_of(conditioned.form), photos(2))
    assert set(below(rounded, SAME_DB)) == set(rounded.names)


def test_float_points_are_those_of_the_model() -> None:
    model = random_model(CONFIG)
    (pixels,) = photos(1)
    points = float_points(model, pixels)
    with torch.inference_mode():
        block = model.blocks[1]
        stream = model.blocks[0](_embedded(model, pixels))  # (1, N, D)
        values = block.attn.qkv(block.norm1(stream))[0, :, 2 * CONFIG.embed_dim :]
        heads = torch.from_numpy(points["blocks.1.attention"]).float() @ values.unflatten(
            -1, (CONFIG.num_heads, -1)
        ).transpose(0, 1)  # (h, N, d)
        changed = stream + block.attn.proj(heads.transpose(0, 1).flatten(1))
    centred = (changed - changed.mean(-1, keepdim=True))[0]
    np.testing.assert_allclose(points["blocks.1.attn"], centred, atol=1e-5)
    np.testing.assert_allclose(points["logits"], model(pixels)[0].detach(), atol=1e-6)
    assert points["blocks.2.attention"].shape == (CONFIG.num_heads, 1, CONFIG.num_tokens)
    assert points["blocks.2.mlp"].shape == (1, CONFIG.embed_dim)


def _embedded(model: DeiT, pixels: Tensor) -> Tensor:
    return torch.cat([model.cls_token, model.patch_embed(pixels)], 1) + model.pos_embed


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        ("patch_embed", None),  # nothing stands in front of it
        ("blocks.0.mlp.fc2", "blocks.0.mlp"),
        ("blocks.1.attn.k", "blocks.1.attention"),
        ("blocks.1.attn.proj", "blocks.1.attn"),
        ("blocks.1.mlp.fc1", "blocks.1.mlp"),
        ("blocks.2.mlp.fc1", "blocks.2.mlp"),
        ("head", "logits"),
    ],
)
def test_the_damaged_layer_is_named(layer: str, named: str | None) -> None:
    model = random_model(CONFIG)
    form = prepared(model)
    with torch.no_grad():
        form.get_submodule(layer).get_parameter("weight").mul_(2)
    assert compare_layers(model, reader_of(form), photos(2)).first_drop == named


def test_snr_sums_powers_over_photos() -> None:
    model = random_model(CONFIG)
    form_points = reader_of(deploy(model)).read
    errors = iter((0.1, 0.3))

    def read(pixels: np.ndarray) -> Points:
        points = form_points(pixels)
        return points | {"logits": points["logits"] * (1 + next(errors))}

    layers = compare_layers(model, LayerReader("", read), photos(2))
    with torch.inference_mode():
        powers = [float((model(pixels) ** 2).sum()) for pixels in photos(2)]
    noise = 0.01 * powers[0] + 0.09 * powers[1]
    assert layers.snr_db[-1] == pytest.approx(10 * np.log10(sum(powers) / noise), abs=1e-3)


@pytest.mark.parametrize(
    ("embedding", "blocks", "logits", "named"),
    [
        (55, "40 39 34 / 31 33 31 / 31 29 28", 30, None),  # noise that builds up
        (120, "118 117 116 / 112 114 112 / 112 110 108", 106, None),  # a float file
        (120, "118 117 116 / 112 114 60 / 61 60 60", 60, "blocks.1.mlp"),
        (55, "40 39 34 / 31 33 8 / 7 8 8", 9, "blocks.1.mlp"),
        (55, "40 39 34 / 5 12 8 / 7 8 8", 9, "blocks.1.attention"),
        (55, "40 39 34 / 31 12 8 / 7 8 8", 9, "blocks.1.attn"),
        (55, "40 39 34 / 25 33 31 / 25 29 28", 30, None),  # a sharp attention
        (55, "40 39 34 / 31 33 31 / 31 29 28", 20, "logits"),
        (8, "3 5 5 / 4 4 4 / 4 3 3", 3, None),  # bad throughout
    ],
)
def test_first_drop(embedding: float, blocks: str, logits: float, named: str | None) -> None:
    snr_db = [embedding, *map(float, blocks.replace("/", "").split()), logits]
    names = point_names(CONFIG)
    assert first_drop(names, dict(zip(names, snr_db, strict=True)), 6.0) == named


def test_another_rotation_is_refused() -> None:
    model = random_model(CONFIG)
    with pytest.raises(EdgeDeitError, match="rotated"):
        compare_layers(model, reader_of(rotate(deploy(model), seed=1)), photos(1))
    turned = reader_of(rotate(deploy(model), seed=1))
    assert not below(compare_layers(model, turned, photos(1), seed=1), SAME_DB)


def test_what_cannot_be_compared_is_refused() -> None:
    model = random_model(CONFIG)
    whole = reader_of(deploy(model))
    with pytest.raises(EdgeDeitError, match="no photos"):
        compare_layers(model, whole, [])
    broken = LayerReader("", lambda x: whole.read(x) | {"logits": np.full(10, np.nan)})
    with pytest.raises(EdgeDeitError, match="logits holds values that are NaN"):
        compare_layers(model, broken, photos(1))
    other = random_model(replace(CONFIG, num_classes=9))
    with pytest.raises(EdgeDeitError, match="shape"):
        compare_layers(other, whole, photos(1))


@pytest.mark.parametrize("depth", [1, 3])
def test_a_graph_of_another_depth_is_refused(depth: int) -> None:
    block = [
        Step("softmax", ("x",), ("p",)),
        Step("add", ("x", "p"), ("y",)),
        Step("add", ("y", "p"), ("z",)),
    ]
    with pytest.raises(EdgeDeitError, match="deployment form"):
        find_points([*block, *block], "x", "z", replace(CONFIG, depth=depth))
    assert find_points(block, "x", "z", replace(CONFIG, depth=1))["embedding"] == "x"


# Artefacts


def export(
    name: str, model: DeiT, form: DeployDeiT, precision: Precision, folder: Path
) -> tuple[Path, LayerReader]:
    """A file and the reader of its points."""
    target = find_target(name)
    if missing := target.missing():
        pytest.skip(f"needs {', '.join(missing)}")
    request = request_for(target, form, Scheme(precision), folder / f"model{target.suffix}")
    with quiet():
        path = target.export(request)
        assert target.layer_reader is not None
        return path, target.layer_reader(path, model.config)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "precision"), CASES)
def test_a_whole_artefact(name: str, precision: Precision, tmp_path: Path) -> None:
    model = random_model(CONFIG)
    path, reader = export(name, model, prepared(model), precision, tmp_path)
    layers = compare_layers(model, reader, photos(2))
    assert not below(layers, MIN_DB[precision])
    assert layers.first_drop is None
    (pixels,) = photos(1)
    logits = outputs_of(find_target(name), path, pixels)
    np.testing.assert_allclose(reader.read(pixels.numpy())["logits"], logits[0], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", READABLE)
def test_a_damaged_artefact(name: str, tmp_path: Path) -> None:
    model = random_model(CONFIG)
    path, reader = export(name, model, prepared(model, damage=2), "fp32", tmp_path)
    layers = compare_layers(model, reader, photos(2))
    assert layers.first_drop == "blocks.1.mlp"
    damaged = layers.names.index("blocks.1.mlp")
    assert tuple(below(layers, SAME_DB)) == layers.names[damaged:]

    open_file = find_target(name).layer_reader
    assert open_file is not None
    with pytest.raises(EdgeDeitError, match="deployment form"):
        open_file(path, replace(CONFIG, depth=2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind != "plain"])
@pytest.mark.parametrize(("name", "precision"), [("onnx", "fp32"), ("tflite", "int8-full")])
def test_other_models(name: str, precision: Precision, kind: str, tmp_path: Path) -> None:
    model = random_model(CONFIGS[kind])
    _, reader = export(name, model, prepared(model), precision, tmp_path)
    assert not below(compare_layers(model, reader, photos(2)), MIN_DB[precision])
