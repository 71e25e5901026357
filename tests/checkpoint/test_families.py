"""Relatives of DeiT: each against transformers or the published equations, or refused by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from conftest import TINY, random_model
from edge_deit.checkpoint.families import (
    check_timm_fields,
    family_of_architecture,
    is_of_family,
)
from edge_deit.checkpoint.load import load_model
from edge_deit.checkpoint.recipes import find_recipe
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import default_spec
from edge_deit.model.config import RECIPES, VARIANTS, DeiTConfig, Family
from weights_examples import randomise, refused

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

State = dict[str, Tensor]
PLAIN = replace(TINY, num_heads=1)  # what bare tensors 64 wide say
PROCESSOR = {
    "do_resize": True, "size": {"shortest_edge": 72}, "resample": 3, "do_center_crop": True,
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
}  # fmt: skip


def noise(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# transformers as the referee


@dataclass(frozen=True)
class Case:
    """A class of transformers, its settings, and the family and registers that we must see."""

    kind: str
    settings: dict[str, Any]
    family: Family
    registers: int = 0
    classes: int = 0


SHAPE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT = SHAPE | {"image_size": 64, "intermediate_size": 96}
DINOV2 = SHAPE | {"image_size": 56, "patch_size": 14, "mlp_ratio": 2}
LABELS = {"id2label": {index: f"class {index}" for index in range(7)}}
CASES = {
    "vit, patch 8": Case(
        "ViTForImageClassification", VIT | LABELS | {"patch_size": 8}, "vit", 0, 7
    ),
    "vit, patch 32": Case(
        "ViTForImageClassification", VIT | LABELS | {"patch_size": 32}, "vit", 0, 7
    ),
    "dino, patch 8": Case("ViTModel", VIT | {"patch_size": 8, "qkv_bias": True}, "vit"),
    "msn": Case("ViTMSNForImageClassification", VIT | LABELS, "vit", 0, 7),
    "dinov2": Case("Dinov2Model", DINOV2, "dinov2"),
    "dinov2, no mask token": Case("Dinov2Model", DINOV2 | {"use_mask_token": False}, "dinov2"),
    "dinov2, no qkv bias": Case("Dinov2Model", DINOV2 | {"qkv_bias": False}, "dinov2"),
    "dinov2, registers": Case("Dinov2WithRegistersModel", DINOV2, "dinov2", 4),
    "dinov2, 3 registers": Case(
        "Dinov2WithRegistersModel", DINOV2 | {"num_register_tokens": 3}, "dinov2", 3
    ),
}


def transformers_model(case: Case) -> Any:
    """The case's model with every tensor random."""
    transformers = pytest.importorskip("transformers", reason="transformers is the referee")
    transformers.utils.logging.disable_progress_bar()
    kind = getattr(transformers, case.kind)
    return randomise(kind(kind.config_class(**case.settings)).eval())


def write_folder(model: Any, folder: Path, size: int, layout: str = "hub") -> None:
    """`hub`: what save_pretrained writes; `modules`: the names of transformers 5's modules."""
    model.save_pretrained(folder)
    if layout == "modules":
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        save_file(state, folder / "model.safetensors")
    processor = PROCESSOR | {"crop_size": {"height": size, "width": size}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


@pytest.mark.parametrize("layout", ["hub", "modules"])
@pytest.mark.parametrize("name", CASES)
def test_equal_to_transformers(name: str, layout: str, tmp_path: Path) -> None:
    case = CASES[name]
    model, size = transformers_model(case), case.settings["image_size"]
    write_folder(model, tmp_path, size, layout)
    loaded = load_model(str(tmp_path))
    pixels = noise(2, 3, size, size)
    with torch.no_grad():
        found = model(pixels)
        expected = found.logits if case.classes else found.last_hidden_state
        actual = loaded.model(pixels)
    assert expected.std() > 0.1
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() < 1e-4
    config = loaded.config
    assert (config.family, config.register_tokens) == (case.family, case.registers)
    assert config.layer_scale == (case.family == "dinov2")
    assert config.layer_norm_eps == model.config.layer_norm_eps
    assert loaded.name.startswith(f"{case.family}_d64_l2_h2_{size}")


@pytest.mark.parametrize("name", ["dinov2", "dinov2, registers"])
def test_another_size_is_transformers_interpolation(name: str, tmp_path: Path) -> None:
    model = transformers_model(CASES[name])
    write_folder(model, tmp_path, 56)
    for size in (28, 84):
        loaded = load_model(str(tmp_path), image_size=size)
        pixels = noise(1, 3, size, size)
        with torch.no_grad():
            expected = model(pixels).last_hidden_state
            assert (loaded.model(pixels) - expected).abs().max() < 1e-4


def test_dinov2_as_published(tmp_path: Path) -> None:
    """Positions of one size, preprocessing of another: the option that interpolates is named."""
    model = transformers_model(CASES["dinov2"])
    write_folder(model, tmp_path, 28)
    message = refused(tmp_path)
    assert "preprocessing makes 28 pixels a side, the model takes 56" in message
    assert message.endswith("--image-size 28")
    assert "--image-size 28" in refused(tmp_path, image_size=84)
    loaded = load_model(str(tmp_path), image_size=28)
    assert (loaded.preprocess.resize_size, loaded.preprocess.crop_size) == (72, 28)
    pixels = noise(1, 3, 28, 28)
    with torch.no_grad():
        expected = model(pixels).last_hidden_state
        assert (loaded.model(pixels) - expected).abs().max() < 1e-4


# The published equations as the referee


def published(state: State, pixels: Tensor, heads: int, patch: int) -> Tensor:
    """Logits, or all final tokens without a head: from the tensors of timm or the original releases.

    ViT (arXiv 2010.11929, equations 1 to 4), with LayerScale (arXiv 2103.17239, equation 4) and registers
    (arXiv 2309.16588, figure 6) where the tensors have them.
    """

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def scale(block: str, index: int) -> Tensor | float:
        names = (f"{block}.gamma_{index}", f"{block}.ls{index}.gamma")
        return next((state[name] for name in names if name in state), 1.0)

    weight = state["patch_embed.proj.weight"]
    squares = pixels.unfold(2, patch, patch).unfold(3, patch, patch)  # (B, 3, rows, columns, p, p)
    x = torch.einsum("bcyxij,dcij->byxd", squares, weight).flatten(1, 2)
    x = x + state["patch_embed.proj.bias"]
    registers = state.get("reg_token", state.get("register_tokens"))
    front = [state["cls_token"], *([] if registers is None else [registers])]
    table = state["pos_embed"][0]
    without = table.shape[0] - x.shape[1]  # rows of tokens in front of the patches
    x = x + table[without:]
    front[0] = front[0] + (table[:1] if without else 0)
    assert without <= 1
    x = torch.cat([torch.cat(front, 1).expand(len(x), -1, -1), x], 1)
    blocks = {key.split(".")[1] for key in state if key.startswith("blocks.")}
    for block in (f"blocks.{index}" for index in range(len(blocks))):
        y = norm(x, f"{block}.norm1") @ state[f"{block}.attn.qkv.weight"].T
        y = y + state[f"{block}.attn.qkv.bias"]
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in y.chunk(3, -1))
        shares = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        y = (shares @ v).transpose(1, 2).flatten(2) @ state[f"{block}.attn.proj.weight"].T
        x = x + scale(block, 1) * (y + state[f"{block}.attn.proj.bias"])
        y = norm(x, f"{block}.norm2") @ state[f"{block}.mlp.fc1.weight"].T
        y = y + state[f"{block}.mlp.fc1.bias"]
        y = y * (1 + torch.erf(y / 2**0.5)) / 2 @ state[f"{block}.mlp.fc2.weight"].T
        x = x + scale(block, 2) * (y + state[f"{block}.mlp.fc2.bias"])
    x = norm(x, "norm")
    return x[:, 0] @ state["head.weight"].T + state["head.bias"] if "head.weight" in state else x


def tensors(config: DeiTConfig) -> State:
    """Every tensor random, also the positions of all tokens."""
    return dict(random_model(config).state_dict())


def original_deit3() -> State:
    state = tensors(replace(PLAIN, layer_scale=True))
    state["pos_embed"] = state["pos_embed"][:, 1:]
    return {
        key.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): value
        for key, value in state.items()
    }


def timm_deit3() -> State:
    state = tensors(replace(PLAIN, layer_scale=True))
    return state | {"pos_embed": state["pos_embed"][:, 1:]}


def original_dinov2(registers: int) -> State:
    config = DeiTConfig(
        image_size=56, patch_size=14, embed_dim=64, depth=2, num_heads=1, mlp_dim=128,
        num_classes=0, layer_scale=True, register_tokens=registers,
    )  # fmt: skip
    state = tensors(config) | {"mask_token": torch.ones(1, 64)}
    if registers:
        state["register_tokens"] = state.pop("reg_token")
        rows = state["pos_embed"]
        state["pos_embed"] = torch.cat([rows[:, :1], rows[:, 1 + registers :]], 1)
    return state


def timm_dinov2() -> State:
    state = original_dinov2(4)
    state["reg_token"] = state.pop("register_tokens")
    del state["mask_token"]
    return state | {"pos_embed": state["pos_embed"][:, 1:]}


PUBLISHED: dict[str, tuple[Callable[[], State], int, Family]] = {
    "vit, augreg": (lambda: tensors(PLAIN), 16, "deit"),
    "dino": (lambda: tensors(PLAIN.without_head()), 16, "deit"),
    "dino, patch 8": (lambda: tensors(replace(PLAIN.without_head(), patch_size=8)), 8, "deit"),
    "deit3, original": (original_deit3, 16, "deit3"),
    "deit3, timm": (timm_deit3, 16, "deit3"),
    "dinov2, original": (lambda: original_dinov2(0), 14, "dinov2"),
    "dinov2 with registers, original": (lambda: original_dinov2(4), 14, "dinov2"),
    "dinov2 with registers, timm": (timm_dinov2, 14, "dinov2"),
}


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", PUBLISHED)
def test_equal_to_the_published_equations(name: str, wrapped: bool, tmp_path: Path) -> None:
    make, patch, family = PUBLISHED[name]
    state, path = make(), tmp_path / "weights.pth"
    torch.save({"model": state} if wrapped else state, path)
    loaded = load_model(str(path))
    side = 4 * patch if patch > 8 else 64
    pixels = noise(2, 3, side, side)
    expected = published(state, pixels, 1, patch)
    with torch.no_grad():
        actual = loaded.model(pixels)
    assert expected.std() > 0.1
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() < 1e-4
    assert loaded.config.family == family
    assert loaded.config.image_size == side


def test_what_is_added_is_noticed() -> None:
    """The referee sees LayerScale and registers: without them its answer is another one."""
    pixels = noise(1, 3, 56, 56)
    state = original_dinov2(4)
    whole = published(state, pixels, 1, 14)
    flat = {key: torch.ones_like(value) if "ls1" in key else value for key, value in state.items()}
    assert (published(flat, pixels, 1, 14) - whole).abs().max() > 0.1
    other = {key: value for key, value in state.items() if key != "register_tokens"}
    assert (published(other, pixels, 1, 14)[:, 0] - whole[:, 0]).abs().max() > 0.01


def test_positions_that_fit_two_ways(tmp_path: Path) -> None:
    state = tensors(replace(PLAIN, image_size=48, register_tokens=4))  # 9 patches
    state["pos_embed"] = state["pos_embed"][:, :9]  # 9 patches, or 4 and 5 tokens
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "a.safetensors")
    assert "0 or 5 of the 9 rows of pos_embed" in refused(tmp_path / "a.safetensors")


# Names and round trips


def test_name_follows_family(tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    save_file(random_model(DeiTConfig(num_classes=3)).state_dict(), path)
    for model in (None, "deit_tiny", "vit_tiny"):
        loaded = load_model(str(path), model)
        assert loaded.name == (model or "deit_tiny")
        assert loaded.config.family == loaded.name.split("_")[0]
    assert "embed_dim is 192, 384 is expected" in refused(path, "dino_small")
    assert "embed_dim is 192" in refused(path, "deit3_small")
    state = tensors(replace(VARIANTS["deit_small"], image_size=32, depth=12))
    save_file(state, path)
    assert load_model(str(path), "dino_small", image_size=224).name == "dino_small"
    assert "layer_scale is False, True is expected" in refused(path, "deit3_small", image_size=224)


@pytest.mark.parametrize(
    ("folder", "given", "name"),
    [
        ("anything", {}, "vit_tiny"),
        ("deit-tiny-patch16-224", {}, "deit_tiny"),
        ("models--facebook--deit-tiny-patch16-224/snapshots/0123", {}, "deit_tiny"),
        ("models--google--vit-tiny/snapshots/0123", {}, "vit_tiny"),
        ("anything", {"_name_or_path": "facebook/deit-tiny-patch16-224"}, "deit_tiny"),
    ],
)
def test_plain_deit_is_declared_as_vit(
    folder: str, given: dict[str, str], name: str, tmp_path: Path
) -> None:
    settings = {
        "image_size": 224,
        "hidden_size": 192,
        "num_attention_heads": 3,
        "intermediate_size": 768,
    }
    model = transformers_model(Case("ViTForImageClassification", settings, "vit"))
    path = tmp_path / folder
    write_folder(model, path, 224)
    fields = json.loads((path / "config.json").read_text())
    fields.pop("_name_or_path", None)
    (path / "config.json").write_text(json.dumps(fields | given))
    assert load_model(str(path)).name == name
    assert load_model(str(path), "deit_tiny").name == "deit_tiny"


@pytest.mark.parametrize(
    "change", [{"layer_scale": True}, {"register_tokens": 2}, {"family": "vit"}]
)
def test_round_trip(change: dict[str, Any], tmp_path: Path) -> None:
    config, path = replace(TINY, **change), tmp_path / "own.safetensors"
    model = random_model(config)
    save_checkpoint(path, model, default_spec(64), (), half=False)
    loaded = load_model(str(path))
    assert loaded.config == config
    pixels = noise(1, 3, 64, 64)
    assert torch.equal(loaded.model(pixels), model(pixels))


def test_files_from_before_the_families_load(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, random_model(TINY), default_spec(64), (), half=False)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    fields = json.loads(metadata["edge_deit_config"])
    for name in ("layer_scale", "register_tokens", "family"):
        del fields[name]
    save_file(load_file(path), path, metadata={**metadata, "edge_deit_config": json.dumps(fields)})
    assert load_model(str(path)).config == TINY


def test_every_variant_has_a_recipe() -> None:
    assert {row.family for row in VARIANTS.values()} == set(RECIPES)
    for family, name in RECIPES.items():
        assert find_recipe(name) is not None
        assert is_of_family(name, family)
    assert all(name.split("_")[0] == row.family for name, row in VARIANTS.items())


# Not taken


@pytest.mark.parametrize(
    ("tensor", "meaning"),
    [
        ("blocks.0.attn.relative_position_bias_table", "relative position bias"),
        ("rel_pos_bias.relative_position_bias_table", "relative position bias"),
        ("layers.0.blocks.0.norm1.weight", "window attention"),
        ("blocks.0.attn.q_bias", "keys without"),
        ("blocks.0.attn.q_norm.weight", "qk_norm"),
        ("blocks.0.mlp.w12.weight", "SwiGLU"),
        ("blocks.0.mlp.fc1_g.weight", "SwiGLU"),
        ("norm_pre.weight", "a norm in front of the first block"),
        ("blocks.0.attns.0.ls.gamma", "parallel blocks"),
        ("blocks_token_only.0.norm1.weight", "class attention"),
        ("cls_attn_blocks.0.norm1.weight", "class attention"),
        ("patch_embed.proj.0.0.weight", "a convolutional stem"),
        ("patch_embed.backbone.stem.conv.weight", "a convolutional stem"),
        ("fc_norm.weight", "the mean of the patches"),
        ("attn_pool.latent", "attention pooling"),
        ("pre_logits.fc.weight", "pre_logits"),
        ("rope.periods", "rotary positions"),
        ("blocks.0.attn.norm.weight", "norms inside the branches"),
    ],
)
def test_tensors_of_other_graphs_are_named(tensor: str, meaning: str, tmp_path: Path) -> None:
    state = {key: value.contiguous() for key, value in tensors(PLAIN).items()}
    for name, kept in (("more", state), ("alone", {})):
        path = tmp_path / f"{name}.safetensors"
        save_file({**kept, tensor: torch.ones(2)}, path)
        message = refused(path)
        assert f"{tensor} is " in message
        assert meaning in message


def test_packed_swiglu_is_named(tmp_path: Path) -> None:
    state = tensors(PLAIN)
    state["blocks.0.mlp.fc1.weight"], state["blocks.0.mlp.fc2.weight"] = (
        noise(128, 64),
        noise(64, 64),
    )
    save_file(state, tmp_path / "a.safetensors")
    assert "which is SwiGLU" in refused(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("case", "change", "expected"),
    [
        ("vit, patch 8", {"model_type": "swin"}, "model_type is 'swin' (window attention)"),
        ("vit, patch 8", {"model_type": "beit"}, "model_type is 'beit' (relative position bias)"),
        ("vit, patch 8", {"model_type": "dinov3_vit"}, "(rotary positions)"),
        ("vit, patch 8", {"model_type": "vit_mae"}, "vit_mae"),
        ("vit, patch 8", {"model_type": None}, "deit, vit, vit_msn, dinov2, dinov2_with_registers"),
        ("vit, patch 8", {"hidden_act": "quick_gelu"}, "hidden_act is 'quick_gelu'; only gelu"),
        ("dinov2", {"use_swiglu_ffn": True}, "use_swiglu_ffn is true; SwiGLU is not supported"),
        ("dinov2", {"mlp_ratio": "much"}, "not readable"),
        ("dinov2, registers", {"num_register_tokens": 5}, "reg_token has shape (1, 4, 64)"),
        ("dinov2, registers", {"model_type": "dinov2"}, "has unknown reg_token"),
        ("dinov2", {"model_type": "dinov2_with_registers"}, "lacks reg_token"),
    ],
)
def test_fields_of_other_graphs_are_named(
    case: str, change: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    write_folder(transformers_model(CASES[case]), tmp_path, CASES[case].settings["image_size"])
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert expected in refused(tmp_path)


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("BeitForImageClassification", VIT, "'beit' (relative position bias)"),
        (
            "Dinov2ForImageClassification",
            DINOV2,
            "classifier.weight reads the class token and the mean",
        ),
        ("Dinov2Model", DINOV2 | {"use_swiglu_ffn": True}, "use_swiglu_ffn is true"),
    ],
)
def test_models_of_other_graphs_are_refused(
    kind: str, settings: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    model = transformers_model(Case(kind, settings, "vit"))
    write_folder(model, tmp_path, settings["image_size"])
    assert expected in refused(tmp_path)


# timm's config.json


@pytest.mark.parametrize(
    ("architecture", "family"),
    [
        ("deit_tiny_patch16_224", "deit"),
        ("deit_base_distilled_patch16_384", "deit"),
        ("deit3_small_patch16_224.fb_in1k", "deit3"),
        ("deit3_huge_patch14_224_in21ft1k", "deit3"),
        ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", "vit"),
        ("vit_base_patch8_224", "vit"),
        ("vit_small_patch8_224.dino", "dino"),
        ("vit_base_patch16_224_dino", "dino"),
        ("vit_small_patch14_dinov2.lvd142m", "dinov2"),
        ("vit_base_patch14_reg4_dinov2.lvd142m", "dinov2"),
    ],
)
def test_architectures(architecture: str, family: Family) -> None:
    assert family_of_architecture(Path("config.json"), architecture) == family


@pytest.mark.parametrize(
    "architecture",
    [
        "vit_relpos_small_patch16_224", "vit_base_patch16_clip_224", "vit_base_patch16_siglip_224",
        "vit_small_patch16_dinov3", "vit_giant_patch14_dinov2", "vit_small_r26_s32_224",
        "vit_small_patch16_18x2_224", "vit_base_patch16_rpn_224", "vit_medium_patch16_reg4_gap_256",
        "swin_tiny_patch4_window7_224", "beit_base_patch16_224", "cait_s24_224", "xcit_tiny_12_p16_224",
        "resnet50",
    ],
)  # fmt: skip
def test_other_architectures(architecture: str) -> None:
    with pytest.raises(EdgeDeitError, match=f"architecture is '{architecture}'; taken are"):
        family_of_architecture(Path("config.json"), architecture)


def test_fields_of_timm() -> None:
    path = Path("config.json")
    args = {"img_size": 224, "init_values": 1e-6, "no_embed_class": True, "qk_norm": False}
    check_timm_fields(path, {"architecture": "a", "global_pool": "token", "model_args": args})
    check_timm_fields(path, {"architecture": "a"})
    for data, message in (
        ({"global_pool": "avg"}, "global_pool is 'avg'; only 'token' is supported"),
        ({"model_args": {"global_pool": "map"}}, "global_pool is 'map'"),
        ({"model_args": {"qk_norm": True}}, "qk_norm is True; only False"),
        ({"model_args": {"pre_norm": True}}, "pre_norm is True"),
        ({"model_args": {"class_token": False}}, "class_token is False; only True"),
        ({"model_args": {"act_layer": "quick_gelu"}}, "act_layer is 'quick_gelu'; only 'gelu'"),
        ({"model_args": {"block_fn": "Parallel"}}, "model_args has block_fn"),
    ):
        with pytest.raises(EdgeDeitError) as caught:
            check_timm_fields(path, data)
        assert message in str(caught.value)
