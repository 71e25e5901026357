"""The loader: every source it takes, and one clear line for everything it refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from conftest import TINY, random_model
from edge_deit import assets
from edge_deit.checkpoint.load import Checkpoint, load_model
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import PreprocessSpec, default_spec
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deit import DeiT, interpolate_positions
from weights_examples import refused

DISTILLED = replace(TINY, distilled=True, distillation_head=True)
HEAD_64 = replace(TINY, num_heads=1)  # what bare tensors 64 wide say
SHALLOW = DeiTConfig(image_size=32, depth=1, num_classes=5)  # DeiT-tiny's widths
COMMIT = "0123456789abcdef0123456789abcdef01234567"

State = dict[str, Tensor]


def same_tensors(one: DeiT, other: DeiT) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def own_file(path: Path, config: DeiTConfig, labels: tuple[str, ...] = ()) -> DeiT:
    model = random_model(config)
    spec = default_spec(config.image_size)
    save_checkpoint(path, model, spec, labels, half=False)
    return model


# Our own file


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("config", [TINY, DISTILLED, TINY.without_head()])
def test_round_trip(config: DeiTConfig, half: bool, tmp_path: Path) -> None:
    config = replace(config, layer_norm_eps=1e-5)
    model, path = random_model(config), tmp_path / "own.safetensors"
    labels = tuple(f"name {index}" for index in range(config.num_classes))
    spec = PreprocessSpec("exact", 70, 64, "floor", "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    save_checkpoint(path, model, spec, labels, half=half, metadata={"made by": "a test"})
    loaded = load_model(str(path))
    assert (loaded.config, loaded.preprocess, loaded.labels) == (config, spec, labels)
    assert loaded.source == str(path)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not loaded.model.training
    assert all(value.requires_grad for value in loaded.model.parameters())
    assert {value.dtype for value in loaded.model.state_dict().values()} == {torch.float32}
    assert {value.dtype for value in load_file(path).values()} == {
        torch.float16 if half else torch.float32
    }
    for name, value in loaded.model.state_dict().items():
        stored = model.state_dict()[name].half().float() if half else model.state_dict()[name]
        assert torch.equal(value, stored)
    with safe_open(path, "pt") as file:
        assert file.metadata()["made by"] == "a test"
    assert [file.name for file in tmp_path.iterdir()] == ["own.safetensors"]


def test_saving_is_all_or_nothing(tmp_path: Path) -> None:
    path, model = tmp_path / "own.safetensors", random_model(TINY)
    path.write_bytes(b"former")
    spec = default_spec(64)
    with pytest.raises(EdgeDeitError, match="3 labels for 10 classes"):
        save_checkpoint(path, model, spec, ("a", "b", "c"), half=False)
    with pytest.raises(EdgeDeitError, match="edge_deit_config is written by"):
        save_checkpoint(path, model, spec, (), half=False, metadata={"edge_deit_config": ""})
    with torch.no_grad():
        model.norm.weight[3] = 1e6
    with pytest.raises(EdgeDeitError, match=r"norm\.weight .*float16"):
        save_checkpoint(path, model, spec, (), half=True)
    assert path.read_bytes() == b"former"
    assert [file.name for file in tmp_path.iterdir()] == ["own.safetensors"]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("edge_deit_config", "{"),
        ("edge_deit_config", '{"unknown": 1}'),
        ("edge_deit_config", '{"patch_size": 0}'),
        ("edge_deit_preprocess", "[]"),
        ("edge_deit_preprocess", '{"resize": "up"}'),
        ("edge_deit_labels", "7"),
    ],
)
def test_wrong_self_description(key: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    own_file(path, TINY)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, metadata={**metadata, key: text})
    assert f"{path} describes itself wrongly" in refused(path)


def test_labels_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    own_file(path, TINY)
    assert load_model(str(path)).labels == tuple("0123456789")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, metadata={**metadata, "edge_deit_labels": '["a"]'})
    assert "names 1 labels for 10 classes" in refused(path)


# timm's and the original's files


def wrapped(state: State) -> dict[str, Any]:
    return {"model": state, "optimizer": {"lr": 0.1}, "epoch": 3}


def parallel(state: State) -> dict[str, Any]:
    return {"state_dict": {f"module.{key}": value for key, value in state.items()}}


@pytest.mark.parametrize("wrap", [dict, wrapped, parallel])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
def test_pickled_state_dicts(
    wrap: Callable[[State], dict[str, Any]], suffix: str, tmp_path: Path
) -> None:
    model, path = random_model(HEAD_64), tmp_path / f"weights{suffix}"
    torch.save(wrap(dict(model.state_dict())), path)
    loaded = load_model(str(path))
    assert loaded.config == HEAD_64
    assert same_tensors(loaded.model, model)
    assert loaded.preprocess == default_spec(64)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"distilled": True, "distillation_head": True},
        {"distilled": True},
        {"num_classes": 0},
        {"num_classes": 0, "distilled": True},
        {"qkv_bias": False, "depth": 3, "mlp_dim": 96, "patch_size": 8},
        {"embed_dim": 128, "num_heads": 2},
    ],
)
def test_shape_is_inferred(change: dict[str, Any], tmp_path: Path) -> None:
    config = replace(HEAD_64, **change)
    model, path = random_model(config), tmp_path / "bare.safetensors"
    save_file({f"module.{key}": value for key, value in model.state_dict().items()}, path)
    loaded = load_model(str(path))
    assert loaded.config == config
    assert same_tensors(loaded.model, model)


def test_names_and_crop_ratios(tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    for image_size, name, resize in ((224, "deit_tiny", 248), (384, "deit_d192_l12_h3_384", 384)):
        save_file(DeiT(DeiTConfig(image_size=image_size, num_classes=3)).state_dict(), path)
        loaded = load_model(str(path))
        assert (loaded.name, loaded.preprocess.resize_size) == (name, resize)
        assert loaded.config.layer_norm_eps == 1e-6
    own_file(path, DISTILLED)
    assert load_model(str(path)).name == "deit_d64_l2_h2_64_distilled"


# Options


def test_image_size_interpolates_and_scales(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    model = own_file(path, DISTILLED)
    loaded = load_model(str(path), image_size=96)
    assert loaded.config == replace(DISTILLED, image_size=96)
    positions = interpolate_positions(model.pos_embed.detach(), 2, 6)
    assert torch.equal(loaded.model.pos_embed, positions)
    assert (loaded.preprocess.crop_size, loaded.preprocess.resize_size) == (96, 106)  # 71 x 1.5
    assert "scaled along to 96 pixels (short side to 106" in loaded.assumptions[-1]
    assert loaded.model(torch.zeros(1, 3, 96, 96)).shape == (1, 10)
    assert "100 is not a multiple of patch_size 16" in refused(path, image_size=100)
    assert "image_size is 0" in refused(path, image_size=0)


def test_features_task(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    model = own_file(path, DISTILLED)
    loaded = load_model(str(path), task="features")
    assert (loaded.config, loaded.labels) == (DISTILLED.without_head(), ())
    pixels = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded.model(pixels), model.features(pixels))
    own_file(path, TINY.without_head())
    assert load_model(str(path)).config.task == "features"
    assert "has no classifier" in refused(path, task="classification")


def test_new_heads(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    model = own_file(path, DISTILLED)
    assert "has 10 classes, 4 are expected" in refused(path, num_classes=4)
    loaded = load_model(str(path), num_classes=4, allow_new_head=True)
    assert loaded.config == replace(DISTILLED, num_classes=4)
    assert loaded.labels == ("0", "1", "2", "3")
    assert torch.equal(loaded.model.pos_embed, model.pos_embed)
    assert loaded.model.head.weight.std() > 0
    kept = load_model(str(path), num_classes=10, allow_new_head=True)
    assert same_tensors(kept.model, model)
    own_file(path, DISTILLED.without_head())
    grown = load_model(str(path), num_classes=4, allow_new_head=True)
    assert grown.config == replace(DISTILLED, num_classes=4)


def test_a_lost_head_is_not_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    own_file(path, DISTILLED)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    state = load_file(path)
    del state["head_dist.bias"]
    save_file(state, path, metadata=metadata)
    for classes in (10, 4):
        message = refused(path, num_classes=classes, allow_new_head=True)
        assert "lacks head_dist.bias (10,) (1 in all)" in message


def test_variant_must_match(tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    full = DeiTConfig(image_size=32, num_classes=5)
    save_file(random_model(full).state_dict(), path)
    message = refused(path, "deit_tiny")
    assert "it takes 32 pixels a side, deit_tiny takes 224" in message
    assert "--image-size 224 to interpolate" in message
    loaded = load_model(str(path), "deit_tiny", image_size=224)
    assert (loaded.name, loaded.config) == ("deit_tiny", DeiTConfig(num_classes=5))
    assert load_model(str(path), "deit_tiny", image_size=32).config == full
    message = refused(path, "deit_tiny_distilled")
    assert "distilled is False, True is expected; it is a plain checkpoint" in message
    assert "embed_dim is 192, 384 is expected" in refused(path, "deit_small")
    assert "choose one of: deit_tiny" in refused(path, "deit_huge")
    save_file(random_model(SHALLOW).state_dict(), path)
    assert "depth is 1, 12 is expected" in refused(path, "deit_tiny")
    distilled = replace(full, distilled=True, distillation_head=True)
    save_file(random_model(distilled).state_dict(), path)
    assert "it is a distilled checkpoint" in refused(path, "deit_tiny")
    save_file(random_model(replace(distilled, distillation_head=False)).state_dict(), path)
    assert "distillation_head is False" in refused(path, "deit_tiny_distilled")
    found = load_model(str(path), "deit_tiny_distilled", image_size=32, task="features")
    assert found.config == distilled.without_head()


# Refusals


def test_damaged_tensors(tmp_path: Path) -> None:
    state = random_model(replace(HEAD_64, distilled=True, distillation_head=True)).state_dict()
    path = tmp_path / "bad.safetensors"

    def message(**changes: Tensor | None) -> str:
        changed = {**state, **changes}
        save_file({key: value for key, value in changed.items() if value is not None}, path)
        return refused(path)

    gone = message(**{"blocks.1.norm1.weight": None, "blocks.1.mlp.fc2.bias": None})
    assert "lacks blocks.1.norm1.weight (64,), blocks.1.mlp.fc2.bias (64,) (2 in all)" in gone
    assert "has unknown norm.gamma (64,) (1 in all)" in message(**{"norm.gamma": torch.ones(64)})
    odd = message(**{"blocks.0.norm1.bias": torch.ones(65)})
    assert "blocks.0.norm1.bias has shape (65,), (64,) is expected" in odd
    assert "described as a distilled one" in message(**{"head_dist.weight": torch.ones(3, 64)})
    assert "described as a plain one" in message(dist_token=None, pos_embed=torch.zeros(1, 17, 64))
    assert "no square of patches" in message(pos_embed=torch.zeros(1, 17, 64))
    classes = message(**{"head.bias": torch.ones(4)})
    assert "its classifier is not one of 10 classes" in classes
    assert "in_channels is 1" in message(**{"patch_embed.proj.weight": torch.ones(64, 1, 16, 16)})
    assert "16, 8" in message(**{"patch_embed.proj.weight": torch.ones(64, 3, 16, 8)})
    assert "no DeiT" in message(pos_embed=torch.ones(18, 64))
    assert "no DeiT: it lacks pos_embed" in message(pos_embed=None)
    assert "pos_embed has shape" in message(pos_embed=torch.zeros(1, 2, 64))
    for value in (torch.nan, torch.inf, -torch.inf):
        bad = state["blocks.1.attn.qkv.weight"].clone()
        bad[5, 7] = value
        assert "blocks.1.attn.qkv.weight holds NaN" in message(**{"blocks.1.attn.qkv.weight": bad})
    whole = torch.ones(64, dtype=torch.int32)
    assert "norm.weight is torch.int32; float" in message(**{"norm.weight": whole})


def test_another_variant_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    own_file(path, replace(TINY, embed_dim=192, num_heads=3))
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    described = json.loads(metadata["edge_deit_config"]) | {"embed_dim": 384, "num_heads": 6}
    metadata["edge_deit_config"] = json.dumps(described)
    save_file(load_file(path), path, metadata=metadata)
    assert "its widths are those of deit_tiny" in refused(path)


def test_unknown_head_count(tmp_path: Path) -> None:
    path = tmp_path / "bare.safetensors"
    config = replace(TINY, embed_dim=96, num_heads=2)
    save_file(random_model(config).state_dict(), path)
    message = refused(path)
    assert "width 96, no multiple of 64" in message
    assert "--heads N" in message
    assert load_model(str(path), num_heads=2).config == config
    assert "96 is not a multiple of num_heads 5" in refused(path, num_heads=5)


def test_files_that_are_none(tmp_path: Path) -> None:
    whole = tmp_path / "whole.safetensors"
    own_file(whole, TINY)
    pickled = tmp_path / "whole.pth"
    torch.save(load_file(whole), pickled)
    assert "do not exist; give a file" in refused(tmp_path / "none.safetensors")
    assert ".pth, .pt or .bin is expected" in refused(shutil.copy(whole, tmp_path / "a.onnx"))
    assert "another format" in refused(shutil.copy(whole, tmp_path / "a.pth"))
    assert "another format" in refused(shutil.copy(pickled, tmp_path / "a.safetensors"))
    assert "has no config.json" in refused(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "deit"}')
    assert "neither model.safetensors nor" in refused(tmp_path)
    (tmp_path / "config.json").write_text("{")
    shutil.copy(whole, tmp_path / "model.safetensors")
    assert "config.json is not readable" in refused(tmp_path)
    hf = {"deit.embeddings.cls_token": torch.ones(1, 1, 4)}
    save_file(hf, tmp_path / "hf.safetensors")
    assert "give its folder" in refused(tmp_path / "hf.safetensors")
    for name, value in {"list": [1], "empty": {}, "number": 3, "strings": {"a": "b"}}.items():
        torch.save(value, tmp_path / f"{name}.pth")
        assert f"{name}.pth hold" in refused(tmp_path / f"{name}.pth")
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "sparse.pth")
    assert "a plain tensor under a" in refused(tmp_path / "sparse.pth")


def test_shards_stay_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "deit"}')
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../outside.safetensors"}}')
    assert "lies outside its folder" in refused(tmp_path)
    index.write_text('{"weight_map": {"a": "lost.safetensors"}}')
    assert "lost.safetensors do not exist" in refused(tmp_path)
    index.write_text('{"weight_map": 3}')
    assert "is not readable" in refused(tmp_path)


class Payload:
    """Creates a file when it is unpickled by something that runs code."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return subprocess.check_call, (["touch", str(self.target)],)


def test_code_in_pickles_never_runs(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    for legacy in (True, False):
        path = tmp_path / "evil.pth"
        torch.save({"model": Payload(target)}, path, _use_new_zipfile_serialization=not legacy)
        assert "holds code, which is never run" in refused(path)
    assert not target.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol", "ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
def test_truncated_and_damaged_files(suffix: str, tmp_path: Path) -> None:
    state = random_model(HEAD_64).state_dict()
    path = tmp_path / f"damaged{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=suffix == ".pth")
    content = path.read_bytes()
    for length in (0, 1, 7, 8, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert path.name in refused(path)
    generator = np.random.default_rng(0)
    messages: list[str] = []
    for _ in range(120):  # either refused by name or read; nothing else escapes
        damaged = bytearray(content)
        for place in generator.integers(0, 3000, 3):
            damaged[place] = generator.integers(0, 256)
        path.write_bytes(damaged)
        try:
            load_model(str(path))
        except EdgeDeitError as error:
            messages.append(str(error))
    assert messages
    assert all(path.name in message for message in messages)


# The bundled file and the hub


def test_bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / assets.CHECKPOINT

    @contextmanager
    def bundled() -> Any:
        yield path

    monkeypatch.setattr(assets, "bundled_checkpoint", bundled)
    assert "no bundled weights" in refused("bundled")
    own_file(path, DISTILLED)
    loaded = load_model("bundled")
    assert (loaded.source, loaded.config) == ("bundled", DISTILLED)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with one repository at one commit, and no network."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="hub: needs it")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    root = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root))
    repository = root / "models--org--name"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    transformers = pytest.importorskip("transformers", reason="it writes the repository")
    transformers.utils.logging.disable_progress_bar()
    settings = {
        "image_size": 64, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 96, "num_labels": 3,
    }  # fmt: skip
    config = transformers.DeiTConfig(**settings)
    transformers.DeiTForImageClassification(config).save_pretrained(snapshot)
    processor = {"size": 72, "crop_size": 64, "resample": 2}
    (snapshot / "preprocessor_config.json").write_text(json.dumps(processor))
    return root


def check_hub(loaded: Checkpoint, source: str) -> None:
    assert loaded.source == source
    assert loaded.config.num_classes == 3
    assert loaded.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert (loaded.preprocess.resize, loaded.preprocess.resize_size) == ("exact", 72)
    assert loaded.preprocess.resample == "bilinear"


def test_hub_from_the_cache(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for source in ("hub:org/name", "hub:org/name@main", f"hub:org/name@{COMMIT}"):
        check_hub(load_model(source, cache_dir=hub), source)
    snapshot = hub / "models--org--name" / "snapshots" / COMMIT
    state = load_file(snapshot / "model.safetensors")
    (snapshot / "model.safetensors").unlink()
    torch.save(state, snapshot / "pytorch_model.bin")
    check_hub(load_model("hub:org/name", cache_dir=hub), "hub:org/name")


def test_hub_refusals(hub: Path) -> None:
    offline = refused("hub:org/other", cache_dir=hub)
    assert "hub:org/other cannot be fetched: not in the cache" in offline
    assert "hub:org/name@v2 cannot be fetched" in refused("hub:org/name@v2", cache_dir=hub)
    for name in ("nonsense", "", "a/b/c", "org/name@", "org/na me"):
        message = refused(f"hub:{name}", cache_dir=hub)
        assert "write hub:ORG/NAME or hub:ORG/NAME@REVISION" in message
        assert "pins the download" in message
    assert "no valid name" in refused("hub:org/..name--", cache_dir=hub)


def test_hub_asks_only_for_what_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub", reason="hub: needs it")
    asked: list[tuple[str, str | None, list[str]]] = []

    def fetch(name: str, *, revision: str | None, allow_patterns: list[str], cache_dir: Any) -> str:
        asked.append((name, revision, list(allow_patterns)))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert "has no config.json" in refused(f"hub:org/name@{COMMIT}")
    safe = [
        "config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "adapter_config.json",
        "*.safetensors",
        "*.safetensors.index.json",
    ]
    pickled = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]
    assert asked == [("org/name", COMMIT, safe), ("org/name", COMMIT, [*safe, *pickled])]
    asked.clear()
    (tmp_path / "model.safetensors").write_bytes(b"")
    refused("hub:org/name")
    assert asked == [("org/name", None, safe)]


# Real weights


def test_real_checkpoint(real: Path) -> None:
    path = real / "deit_tiny_patch16_224" / "model.safetensors"
    loaded = load_model(str(path), "deit_tiny")
    assert (loaded.config, loaded.name) == (DeiTConfig(), "deit_tiny")
    assert loaded.preprocess == default_spec(224)
    assert sum(p.numel() for p in loaded.model.parameters()) == 5_717_416
    assert loaded.sha256.startswith("b2e17235172c1dcddacb55aa8914e2f8")
    stored = load_file(path)
    for key, value in loaded.model.state_dict().items():
        assert torch.equal(value, stored.pop(key))
    assert not stored
