"""Folders for Hugging Face's tools: whole or not at all, read by every command, and back again."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_deit.artefacts.artefact import read_artefact
from edge_deit.artefacts.float_model import find_float_models
from edge_deit.artefacts.manifest import read_manifest
from edge_deit.artefacts.predict import predict_photos
from edge_deit.checkpoint.load import load_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.quiet import quiet
from edge_deit.conversion import job
from edge_deit.conversion.layout import Layout
from edge_deit.conversion.parity import check_batches
from edge_deit.conversion.run import export_model
from edge_deit.data.photos import list_photos
from edge_deit.exporters import target
from edge_deit.exporters.huggingface import FILE_NAMES
from edge_deit.model.file_form import InputKind
from edge_deit.quantization.scheme import Scheme
from shared import once

if missing := target("onnx").missing():
    pytest.skip(f"needs {', '.join(missing)}", allow_module_level=True)

PARTS = {"config.json", "preprocessor_config.json", "model.safetensors", "README.md", "onnx"}


def export(weights: Path, photos: Path, output: Path, **options: Any) -> None:
    with quiet():
        export_model(
            str(weights),
            layout="huggingface",
            output=output,
            calibration=photos,
            parity_images=4,
            threads=1,
            **options,
        )


@pytest.fixture(scope="module")
def folder(shared: Path, tiny_weights: Path, photos: Path) -> Path:
    """The folder of the tiny model, in all precisions."""
    return once(shared / "hf-folder", lambda made: export(tiny_weights, photos, made))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_folder_holds_what_the_tools_look_for(folder: Path) -> None:
    import onnx

    assert {path.name for path in folder.iterdir()} == PARTS
    files = {path.name for path in (folder / "onnx").iterdir()}
    assert files == {name + end for name in FILE_NAMES.values() for end in ("", ".json")}
    for precision, name in FILE_NAMES.items():
        graph = onnx.load(folder / "onnx" / name).graph
        (source,), (result,) = graph.input, graph.output
        assert (source.name, result.name) == ("pixel_values", "logits")
        assert source.type.tensor_type.shape.dim[0].dim_param == "batch"
        manifest = read_manifest(folder / "onnx" / name)
        assert manifest.precision == precision
        assert manifest.input["free_batch"] is True
        assert manifest.weights["source"] == folder.name
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert all(name in card for name in FILE_NAMES.values())
    assert "/" not in json.loads((folder / "config.json").read_text())["_name_or_path"]


def test_every_file_answers_as_the_float_model_of_the_folder(
    folder: Path, tiny_weights: Path, photos: Path
) -> None:
    """The folder's own model.safetensors is the float model; its weights are those of the export."""
    artefacts = [read_artefact(folder / "onnx" / name) for name in FILE_NAMES.values()]
    (found,) = find_float_models(artefacts, None)
    before = load_model(str(tiny_weights)).model.state_dict()
    after = found.checkpoint.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert len(found.artefacts) == len(FILE_NAMES)
    images = [one.path for one in list_photos(photos).photos][:3]
    said = predict_photos(folder / "onnx" / "model.onnx", images, threads=1)
    assert [one.top[0].label.split()[0] for one in said] == ["class"] * 3


def test_a_former_folder_is_replaced_and_other_contents_are_not(
    folder: Path, tiny_weights: Path, photos: Path, tmp_path: Path
) -> None:
    """The way back is taken too: the second export starts from a folder of the first."""
    output = tmp_path / "out"
    output.mkdir()
    export(tiny_weights, photos, output, precisions=["fp32"])
    first = contents(output)
    export(folder, photos, output, precisions=["fp32"])
    second = contents(output)
    assert first.keys() == second.keys()
    for name in ("model.safetensors", "config.json", "preprocessor_config.json"):
        assert first[name] == second[name]
    (output / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(EdgeDeitError, match=r"holds notes\.txt"):
        export(tiny_weights, photos, output, precisions=["fp32"])
    assert contents(output) == second | {"notes.txt": b"mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_the_former_folder_and_nothing_else(
    tiny_weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"

    def fail(*_: object) -> None:
        raise EdgeDeitError("wrong for three photos at once")

    monkeypatch.setattr(job, "check_batches", fail)
    with pytest.raises(EdgeDeitError, match="three photos"):
        export(tiny_weights, photos, output, precisions=["fp32"])
    assert not list(tmp_path.iterdir())


def test_a_file_that_mixes_photos_up_is_refused() -> None:
    """The check on three photos at once sees answers that depend on the neighbours."""

    def honest(pixels: np.ndarray) -> np.ndarray:
        return pixels.mean(axis=(2, 3))

    def mixed(pixels: np.ndarray) -> np.ndarray:
        return honest(pixels) - honest(pixels).mean(axis=0)

    photos = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    check_batches(honest, photos, Scheme("fp32"))
    with pytest.raises(EdgeDeitError, match="3 photos at once"):
        check_batches(mixed, photos, Scheme("fp32"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["tflite"]}, "holds onnx files, no tflite"),
        ({"precisions": ["int8-dynamic"]}, "no name for int8-dynamic"),
        ({"layout": "zip"}, "choose one of: plain, huggingface"),
        (
            {"layout": "plain", "dynamic_batch": True, "targets": ["tflite"]},
            "leave --dynamic-batch",
        ),
        (
            {
                "layout": "plain",
                "dynamic_batch": True,
                "targets": ["onnx"],
                "precisions": ["int8-dynamic"],
            },
            "no int8-dynamic with a free batch",
        ),
        ({"task": "features"}, "for classifiers"),
    ],
)
def test_requests_without_meaning_are_refused(
    tiny_weights: Path, photos: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    asked = {"layout": "huggingface", "calibration": photos, **options}
    with pytest.raises(EdgeDeitError, match=message):
        export_model(str(tiny_weights), output=tmp_path / "out", **asked)
    assert not list(tmp_path.rglob("*.onnx"))


@pytest.mark.parametrize("takes", ["pixels", "image"])
def test_a_plain_file_may_have_a_free_batch(
    takes: InputKind, tiny_weights: Path, photos: Path, tmp_path: Path
) -> None:
    with quiet():
        result = export_model(
            str(tiny_weights),
            targets=["onnx"],
            precisions=["fp32"],
            output=tmp_path,
            dynamic_batch=True,
            input_kind=takes,
            parity_images=4,
        )
    (done,) = result.artefacts
    assert done.manifest.input["name"] == takes
    assert done.manifest.input["free_batch"] is True
    random = np.random.default_rng(0)
    source = random.normal(size=(32, 3, 64, 64)).astype(np.float32)
    if takes == "image":
        source = random.integers(0, 256, (32, 64, 64, 3), dtype=np.uint8)
    runner = target("onnx").load_runner(done.path, 1)
    together = runner(source)
    single = np.concatenate([runner(source[index : index + 1]) for index in range(32)])
    assert together.shape == (32, 10)
    assert np.abs(together - single).max() <= 1e-4 * np.abs(single).max()


def test_a_folder_that_cannot_be_written_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: Any) -> str:
        raise PermissionError(13, "Permission denied", str(options["dir"]))

    with Layout("plain").opened(tmp_path) as folder:
        assert not list(folder.iterdir())
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(PermissionError), Layout("plain").opened(tmp_path):
        pytest.fail("the work began")
