"""The model against transformers' own classes, on the same pixels, from folders that transformers wrote."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edge_deit.checkpoint.load import load_model
from edge_deit.common.errors import EdgeDeitError
from weights_examples import randomise

pytestmark = pytest.mark.newest

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
transformers = pytest.importorskip("transformers", reason="transformers is the referee")
transformers.utils.logging.disable_progress_bar()

SMALL = {
    "image_size": 64,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
}
BASE_384 = {"image_size": 384, "num_hidden_layers": 2}  # 768 wide, 12 heads, 24 x 24 patches
CLASSES = {"id2label": {index: f"class {index}" for index in range(7)}}


@dataclass(frozen=True)
class Case:
    """A class of transformers, its settings and what our configuration must say."""

    name: str
    settings: dict[str, Any]
    distilled: bool
    heads: int  # classifiers


CASES = {
    "plain": Case("ViTForImageClassification", SMALL | CLASSES, False, 1),
    "distilled": Case("DeiTForImageClassificationWithTeacher", SMALL | CLASSES, True, 2),
    "token without head": Case("DeiTForImageClassification", SMALL | CLASSES, True, 1),
    "deit features": Case("DeiTModel", SMALL, True, 0),
    "vit features": Case("ViTModel", SMALL, False, 0),
    "masked image": Case("DeiTForMaskedImageModeling", SMALL, True, 0),
    "no qkv bias, other eps": Case(
        "ViTForImageClassification",
        SMALL | CLASSES | {"qkv_bias": False, "layer_norm_eps": 1e-3},
        False,
        1,
    ),
    "base 384": Case("DeiTForImageClassificationWithTeacher", BASE_384 | CLASSES, True, 2),
    "base 384 plain": Case("ViTForImageClassification", BASE_384 | CLASSES, False, 1),
}


def referee(case: Case) -> Any:
    """The case's model with every parameter random, norms, biases and tokens too."""
    kind = getattr(transformers, case.name)
    return randomise(kind(kind.config_class(**case.settings)).eval())


def save(model: Any, folder: Path, **options: Any) -> None:
    """The folder that transformers writes for a model and its image processor."""
    model.save_pretrained(folder, **options)
    processor = {"image_processor_type": "ViTImageProcessor", "size": model.config.image_size}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def write(model: Any, folder: Path, layout: str) -> None:
    """`hub`: what save_pretrained writes; `modules`: the names of transformers 5's modules."""
    save(model, folder)
    if layout == "modules":
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        save_file(state, folder / "model.safetensors")


@pytest.mark.parametrize("layout", ["hub", "modules"])
@pytest.mark.parametrize("name", CASES)
def test_same_output(name: str, layout: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = referee(case)
    write(model, tmp_path, layout)
    names = set(load_file(tmp_path / "model.safetensors"))
    assert any("attention.attention.query" in key for key in names) == (layout == "hub")
    assert any("attention.q_proj" in key for key in names) == (layout == "modules")

    loaded = load_model(str(tmp_path))
    size = case.settings["image_size"]
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        if case.heads:
            expected = model(pixels).logits
        elif name == "masked image":
            expected = model.deit(pixels).last_hidden_state
        else:
            expected = model(pixels).last_hidden_state
        actual = loaded.model(pixels)
    assert actual.shape == expected.shape
    assert expected.std() > 0.1
    assert (actual - expected).abs().max() < 1e-4

    assert loaded.config.distilled == case.distilled
    assert loaded.config.distillation_head == (case.heads == 2)
    assert loaded.config.layer_norm_eps == model.config.layer_norm_eps
    assert loaded.labels == tuple(CLASSES["id2label"].values() if case.heads else ())
    assert loaded.preprocess.crop_size == loaded.config.image_size == size


def test_other_image_size_is_transformers_interpolation(tmp_path: Path) -> None:
    model = referee(CASES["distilled"])
    save(model, tmp_path)
    loaded = load_model(str(tmp_path), image_size=96)
    pixels = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(pixels, interpolate_pos_encoding=True).logits
        assert (loaded.model(pixels) - expected).abs().max() < 1e-4


def test_sharded_and_pickled_folders(tmp_path: Path) -> None:
    model = referee(CASES["plain"])
    save(model, tmp_path / "one")
    save(model, tmp_path / "many", max_shard_size="50KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    (tmp_path / "pickle").mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / "pickle" / name).write_bytes((tmp_path / "one" / name).read_bytes())
    torch.save(
        load_file(tmp_path / "one" / "model.safetensors"),
        tmp_path / "pickle" / "pytorch_model.bin",
    )
    one = load_model(str(tmp_path / "one"))
    for folder in ("many", "pickle"):
        other = load_model(str(tmp_path / folder))
        assert len(other.sha256) == 64
        assert other.sha256 != one.sha256
        for key, value in one.model.state_dict().items():
            assert torch.equal(value, other.model.state_dict()[key])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu'; only gelu"),
        ({"hidden_act": "gelu_new"}, "only gelu"),
        ({"model_type": "swin"}, r"model_type is 'swin' \(window attention\); deit, vit"),
        ({"image_size": [64, 32]}, r"image_size is \[64, 32\]; only squares"),
        ({"num_hidden_layers": 3}, r"lacks blocks.2.norm1.weight \(64,\)"),
        ({"hidden_size": 128}, "its width is 64"),
        ({"model_type": "vit"}, "a distilled checkpoint described as a plain one"),
        ({"num_attention_heads": "many"}, "not readable"),
    ],
)
def test_config_is_refused(change: dict[str, Any], expected: str, tmp_path: Path) -> None:
    save(referee(CASES["distilled"]), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(EdgeDeitError, match=expected) as caught:
        load_model(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_every_tensor_counts(tmp_path: Path) -> None:
    save(referee(CASES["distilled"]), tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    for key in state:
        save_file({name: value for name, value in state.items() if name != key}, path)
        with pytest.raises(EdgeDeitError):
            load_model(str(tmp_path))
    save_file({**state, "deit.extra.weight": torch.ones(1)}, path)
    with pytest.raises(EdgeDeitError, match=r"unknown deit\.extra\.weight \(1,\)"):
        load_model(str(tmp_path))
