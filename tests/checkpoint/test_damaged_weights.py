"""Damaged files and descriptions: read, or refused by name; nothing else leaves the loader."""

from __future__ import annotations

import json
import pickle
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from edge_deit.checkpoint.load import load_model
from edge_deit.common.errors import EdgeDeitError
from weights_examples import hub_state, plain_state

pytestmark = pytest.mark.filterwarnings("ignore")

STATE: Final = plain_state()
texts = st.text(max_size=8)
numbers = st.integers() | st.floats() | st.booleans() | st.none()
values = st.recursive(
    numbers | texts, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4)
)  # fmt: skip


def read_or_refused(path: Path) -> None:
    try:
        loaded = load_model(str(path))
    except EdgeDeitError as error:
        message = str(error)
        assert "\n" not in message
        assert path.name in message
    else:
        assert all(value.isfinite().all() for value in loaded.model.state_dict().values())


def pickled() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pth"
        torch.save({"model": STATE, "epoch": 3, "args": {"lr": 0.1}}, path)
        with zipfile.ZipFile(path) as archive:
            return archive.read("a/data.pkl")


PICKLE: Final = pickled()
HEADER: Final = save(STATE)


@st.composite
def damage(draw: st.DrawFn, content: bytes, reach: int) -> bytes:
    """A few bytes changed, put in or taken out, near the beginning."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, min(reach, len(changed)) - 1))
        kind = draw(st.integers(0, 2))
        new = draw(st.binary(min_size=1, max_size=4))
        changed[place : place + (len(new) if kind == 0 else kind == 2)] = new if kind < 2 else b""
    return bytes(changed)


@given(damage(PICKLE, len(PICKLE)))
def test_damaged_pickles(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.pth"
        torch.save({"model": STATE}, path)
        with zipfile.ZipFile(path) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, record in records.items():
                archive.writestr(name, content if name.endswith("data.pkl") else record)
        read_or_refused(path)


@given(st.lists(st.sampled_from([bytes([code]) for code in range(256)]), max_size=30))
def test_random_pickles(codes: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.pth"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", b"\x80\x02" + b"".join(codes) + b".")
        read_or_refused(path)


@given(damage(HEADER, 4000))
def test_damaged_safetensors(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.safetensors"
        path.write_bytes(content)
        read_or_refused(path)


@given(
    st.dictionaries(
        st.sampled_from(["dtype", "shape", "data_offsets", "x"]), values | st.sampled_from(["F32", "F4"])
    )
)  # fmt: skip
def test_random_safetensors_headers(entry: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.safetensors"
        header = json.dumps({"patch_embed.proj.weight": entry}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
        read_or_refused(path)


CONFIG: Final = {
    "model_type": "vit", "image_size": 32, "patch_size": 8, "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 1, "intermediate_size": 96, "layer_norm_eps": 1e-6, "qkv_bias": True,
    "num_channels": 3, "num_labels": 4, "id2label": {str(index): f"name {index}" for index in range(4)},
    "label2id": {}, "problem_type": None, "hidden_act": "gelu",
}  # fmt: skip
TIMM: Final = {
    "architecture": "deit_tiny_patch16_224", "num_classes": 4, "label_names": ["a", "b", "c", "d"],
    "label_descriptions": {"a": "first"}, "model_args": {"embed_dim": 64, "num_heads": 1},
    "pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 0.9},
}  # fmt: skip
PROCESSOR: Final = {"image_processor_type": "ViTImageProcessor", "size": 32, "resample": 3}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for kind, state in (("hub", hub_state(STATE)), ("timm", STATE)):
        made[kind] = tmp_path_factory.mktemp(kind)
        save_file(state, made[kind] / "model.safetensors")
        (made[kind] / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return made


def read_folder_or_refused(folder: Path) -> None:
    try:
        load_model(str(folder))
    except EdgeDeitError as error:
        assert "\n" not in str(error)
        assert folder.name in str(error)


@given(st.sampled_from(sorted(CONFIG)), values)
def test_random_fields(folders: dict[str, Path], name: str, value: Any) -> None:
    (folders["hub"] / "config.json").write_text(json.dumps(CONFIG | {name: value}))
    read_folder_or_refused(folders["hub"])


@given(st.sampled_from(sorted(TIMM)), values)
def test_random_timm_fields(folders: dict[str, Path], name: str, value: Any) -> None:
    (folders["timm"] / "config.json").write_text(json.dumps(TIMM | {name: value}))
    read_folder_or_refused(folders["timm"])


@given(st.text() | st.binary(), st.sampled_from(["config.json", "preprocessor_config.json"]))
def test_random_texts(folders: dict[str, Path], text: str | bytes, name: str) -> None:
    folder = folders["hub"]
    (folder / "config.json").write_text(json.dumps(CONFIG))
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    (folder / name).write_bytes(content)
    read_folder_or_refused(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))


@given(
    st.sampled_from(["edge_deit_config", "edge_deit_preprocess", "edge_deit_labels"]),
    values.map(json.dumps) | st.text(st.characters(codec="utf-8")),
)
def test_random_metadata(key: str, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.safetensors"
        said = {"edge_deit_config": "{}", "edge_deit_preprocess": "{}", "edge_deit_labels": "[]"}
        save_file(STATE, path, metadata=said | {key: text})
        read_or_refused(path)


def test_every_prefix_of_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "cut.pth"
    for end in range(0, len(PICKLE), 37):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", PICKLE[:end])
        read_or_refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"a": 1}, 2))
    read_or_refused(path)
