"""Every reader of a file from elsewhere reads it, or refuses it in one line; nothing else leaves it."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from artefact_examples import manifest_of
from damage import damaged_bytes, damaged_json
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payloads import payloads
from safetensors.torch import save
from torch import nn

from edge_deit.artefacts.manifest import (
    manifest_path,
    read_manifest,
    write_manifest,
)
from edge_deit.checkpoint.folders import read_folder
from edge_deit.checkpoint.huggingface import config_from_json
from edge_deit.checkpoint.processors import spec_named
from edge_deit.checkpoint.reading import open_weights, read_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.text import shortened
from edge_deit.data.label_choice import read_label_choice
from edge_deit.data.tables import read_table
from edge_deit.evaluation.journal import Journal, Judged
from edge_deit.evaluation.tally import Answer, Seen
from edge_deit.gating.thresholds import read_thresholds
from edge_deit.report.device_report import read_device_report
from edge_deit.report.report import read_report, write_report
from edge_deit.training.recipe import Recipe
from edge_deit.training.state import RunKey, restore_state, save_state
from report_examples import DEVICE_REPORT, artefact, report
from weights_examples import hub_state, plain_state, vit_folder

INPUTS = 40 * settings().max_examples
"""2,000 in `make test`, 100,000 in `make fuzz`."""


@dataclass(frozen=True)
class Reader:
    """A sound file, and what reads it; `json` says that its values may be replaced too."""

    path: Path
    read: Callable[[], object]
    json: bool


def manifest(folder: Path) -> Reader:
    path = folder / "model.int8.onnx"
    path.write_bytes(b"weights")
    ends = {"input": [-1.0, 1.0], "output": [-2.0, 2.0], "methods": ["MSE", "MSE"]}
    made = manifest_of(
        path,
        labels=["cat", "dog"],
        weights={"source": "bundled", "sha256": "0" * 64, "options": {"heads": 3}},
        output={"name": "logits", "shape": [1, 2], "dtype": "float32"},
        scheme={"precision": "int8", "layers": ["head"], "ranges": {"head": ends}},
        calibration={
            "images": 2,
            "sha256": "1" * 64,
            "source": "photos",
            "photo_sha256": ["2" * 64],
        },
        parity={"cosine": 0.99},
        tools={"torch": "2.13.0"},
    )
    write_manifest(made, manifest_path(path))
    return Reader(manifest_path(path), lambda: read_manifest(path), json=True)


def validation_report(folder: Path) -> Reader:
    path = folder / "report.json"
    write_report(report(artefact()), path)
    return Reader(path, lambda: read_report(path), json=True)


def device_report(folder: Path) -> Reader:
    path = folder / "device.json"
    path.write_text(json.dumps(DEVICE_REPORT), encoding="utf-8")
    return Reader(path, lambda: read_device_report(path), json=True)


def thresholds(folder: Path) -> Reader:
    path = folder / "thresholds.toml"
    path.write_text(
        '[[rule]]\ntarget = "onnx"\nprecision = "int8"\nmin_agreement = 0.9\nmax_top1_drop = 1.5\n'
        "max_size_ratio = 0.3\n\n[baseline]\nmax_snr_db_decrease = 3\n",
        encoding="utf-8",
    )
    return Reader(path, lambda: read_thresholds(path), json=False)


def label_list(folder: Path) -> Reader:
    path = folder / "labels.json"
    path.write_text('{"0": "cat", "1": "dog", "2": "\\u00dcber"}', encoding="utf-8")
    return Reader(path, lambda: read_label_choice(str(path)), json=True)


def label_lines(folder: Path) -> Reader:
    path = folder / "labels.txt"
    path.write_text("cat\ndog\nÜbergröße\n", encoding="utf-8")
    return Reader(path, lambda: read_label_choice(str(path)), json=False)


def label_table(folder: Path) -> Reader:
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(b"photo")
    path = folder / "labels.csv"
    path.write_text(
        'file,label,split\na.png,cat,train\n"b.png","dog, old",validation\n', encoding="utf-8"
    )
    return Reader(path, lambda: read_table(path, None, "validation"), json=False)


def hub_config(folder: Path) -> Reader:
    state = hub_state(plain_state())
    path = vit_folder(folder / "hub", plain_state()) / "config.json"
    shapes = {name: tuple(value.shape) for name, value in state.items()}

    def read() -> object:
        found = read_folder(path.parent)
        return config_from_json(path, found.config, shapes)

    return Reader(path, read, json=True)


def processor(folder: Path) -> Reader:
    path = folder / "preprocessor_config.json"
    data = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": 224, "width": 224},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    path.write_text(json.dumps(data), encoding="utf-8")
    return Reader(path, lambda: spec_named(str(path), 224), json=True)


def safetensors_header(folder: Path) -> Reader:
    path = folder / "a.safetensors"
    path.write_bytes(save({"a": torch.zeros(3, 2), "b": torch.ones(4)}, {"format": "pt"}))
    return Reader(path, lambda: read_model(open_weights(path)), json=False)


def journal(folder: Path) -> Reader:
    path = folder / "journal.jsonl"
    seen = Seen(Answer((1, 0), 0.5), 2.0, 0.1, 0.9, 0.01, ((1.0, 0.9),))
    with Journal(path, {"a": 1}) as kept:
        for index in range(3):
            kept.add(Judged(index, f"{index}.png", 1, "0" * 64, Answer((1, 0), 0.5), (seen,)))

    def read() -> object:
        found = Journal(path, {"a": 1})
        found.restore(lambda one: True)
        return list(found.kept())

    return Reader(path, read, json=False)


def training_state(folder: Path) -> Reader:
    path, model = folder / "state.pt", nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    key = RunKey(("a", "b"), "0" * 64, 32, "none", "none", {})
    save_state(path, model, optimizer, Recipe(), key, 3)
    return Reader(path, lambda: restore_state(path, model, optimizer, Recipe(), key), json=False)


READERS: dict[str, Callable[[Path], Reader]] = {
    "manifest": manifest,
    "report": validation_report,
    "device report": device_report,
    "thresholds": thresholds,
    "labels in JSON": label_list,
    "labels, one a line": label_lines,
    "labels.csv": label_table,
    "config.json": hub_config,
    "preprocessor_config.json": processor,
    "safetensors header": safetensors_header,
    "journal": journal,
    "training state": training_state,
}


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Reader:
    return READERS[request.param](tmp_path)


def test_the_sound_file_is_read(reader: Reader) -> None:
    reader.read()


@settings(max_examples=INPUTS, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**40))
def test_damaged(reader: Reader, sound: bytes, seed: int) -> None:
    change: Any = damaged_json if reader.json and seed % 2 else damaged_bytes
    reader.path.write_bytes(change(sound, seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            reader.read()
        except EdgeDeitError as error:
            message = str(error)
            assert "\n" not in message
            assert len(shortened(message)) < 2500


@pytest.fixture
def sound(reader: Reader) -> bytes:
    return reader.path.read_bytes()


def test_no_reader_runs_a_pickle(reader: Reader, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for content in payloads(mark).values():
        reader.path.write_bytes(content)
        with contextlib.suppress(EdgeDeitError):
            reader.read()
    assert not mark.exists()


def test_the_payloads_are_real(tmp_path: Path) -> None:
    for name, content in payloads(tmp_path / "ran").items():
        if name == "npz":
            with (
                np.load(io.BytesIO(content), allow_pickle=True) as file,
                contextlib.suppress(TypeError),
            ):
                file["a"]
        elif name == "pickle":
            pickle.loads(content)  # noqa: S301 # it is ours
        else:
            torch.load(io.BytesIO(content), weights_only=False)
        (tmp_path / "ran").unlink()
