"""The one way in: everything that a runtime will read is a plain file that the manifest's hash covers."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from artefact_examples import copy_of, sign

from conftest import ROOT, CommandLine
from edge_deit.artefacts.artefact import read_artefact
from edge_deit.artefacts.manifest import manifest_path
from edge_deit.artefacts.runners import open_runner
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import check_regular

Exported = Callable[[str], Path]


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def listening(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return path


def link_to(path: Path, aim: str) -> Path:
    path.symlink_to(aim)
    return path


ODD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "pipe": (pipe, "is a pipe, not a regular file"),
    "socket": (listening, "is a socket, not a regular file"),
    "device": (lambda path: Path("/dev/zero"), "/dev/zero is a device, not a regular file"),
    "link to a device": (
        lambda path: link_to(path, "/dev/zero"),
        "is a device, not a regular file",
    ),
    "link in a circle": (lambda path: link_to(path, path.name), "cannot be opened"),
    "nothing": (lambda path: path, "does not exist"),
    "name that is too long": (lambda path: path.with_name("x" * 300), "cannot be opened"),
    "below a file": (lambda path: Path(__file__, "x"), "does not exist"),
}


@pytest.mark.parametrize("kind", ODD)
def test_only_plain_files_are_opened(kind: str, tmp_path: Path) -> None:
    make, message = ODD[kind]
    path = make(tmp_path / "odd.onnx")
    with pytest.raises(EdgeDeitError, match=message):
        check_regular(path, "image")
    with pytest.raises(EdgeDeitError, match=message):
        read_artefact(path)


def test_a_folder_where_a_file_belongs(exported: Exported, tmp_path: Path) -> None:
    path = copy_of(exported("onnx"), tmp_path)
    path.unlink()
    path.mkdir()
    (path / "model").write_bytes(b"weights")
    sign(path)
    with pytest.raises(EdgeDeitError, match=r"is a folder, and \.onnx is a file"):
        read_artefact(path)


def test_what_lies_in_or_beside_an_artefact_is_told_apart(
    exported: Exported, tmp_path: Path
) -> None:
    path = copy_of(exported("onnx"), tmp_path)
    with pytest.raises(EdgeDeitError, match=rf"json is a manifest: name {path} itself"):
        read_artefact(manifest_path(path))
    folder = tmp_path / "a.mlpackage" / "Data"
    folder.mkdir(parents=True)
    (folder / "model.mlmodel").write_bytes(b"weights")
    for part in (folder / "model.mlmodel", folder):
        with pytest.raises(EdgeDeitError, match=rf"{part} is a part of {folder.parent}: name that"):
            read_artefact(part)


def test_a_target_that_there_is_not(exported: Exported, tmp_path: Path) -> None:
    path = copy_of(exported("onnx"), tmp_path)
    sign(path, target="tensorrt")
    with pytest.raises(EdgeDeitError, match="tensorrt"):
        read_artefact(path)


@pytest.mark.parametrize("which", ["artefact", "manifest", "image"])
def test_predict_does_not_wait_for_a_pipe(
    which: str, exported: Exported, tmp_path: Path, command_line: CommandLine
) -> None:
    path = copy_of(exported("onnx"), tmp_path)
    image = next((ROOT / "edge_deit/assets/validation").glob("*.png"))
    if which == "image":
        image = pipe(tmp_path / "photo.png")
    else:
        odd = path if which == "artefact" else manifest_path(path)
        odd.unlink()
        pipe(odd)
    done = command_line("predict", path, image)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {which} ")
    assert "is a pipe, not a regular file" in done.stderr
    assert done.stderr.count("\n") == 1


# What lies outside


def change_onnx(path: Path, change: Callable[[Any], None]) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    sign(path)


def keep_outside(tensor: Any, name: str) -> None:
    """As `onnx.save(save_as_external_data=True)` writes it."""
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", name
    tensor.ClearField("raw_data")
    tensor.data_location = tensor.EXTERNAL


def in_an_initializer(model: Any) -> None:
    keep_outside(model.graph.initializer[0], "weights.bin")


def in_a_constant(model: Any) -> None:
    import onnx

    value = onnx.numpy_helper.from_array(np.ones(4, np.float32))
    keep_outside(value, "weights.bin")
    node = onnx.helper.make_node("Constant", [], ["unused"], value=value)
    model.graph.node.append(node)


def in_a_branch(model: Any) -> None:
    import onnx

    value = onnx.numpy_helper.from_array(np.ones(4, np.float32), "w")
    keep_outside(value, "../weights.bin")
    inner = onnx.helper.make_node("Identity", ["w"], ["y"])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4])
    graph = onnx.helper.make_graph([inner], "branch", [], [out], [value])
    yes = onnx.helper.make_tensor("yes", onnx.TensorProto.BOOL, [], [True])
    model.graph.initializer.append(yes)
    model.graph.node.append(
        onnx.helper.make_node("If", ["yes"], ["z"], then_branch=graph, else_branch=graph)
    )


@pytest.mark.parametrize("change", [in_an_initializer, in_a_constant, in_a_branch])
def test_onnx_weights_in_other_files_are_refused(
    change: Callable[[Any], None], exported: Exported, tmp_path: Path
) -> None:
    path = copy_of(exported("onnx"), tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(1 << 20))
    change_onnx(path, change)
    with pytest.raises(EdgeDeitError, match=r"weights in another file, '(\.\./)?weights\.bin'"):
        read_artefact(path)


def test_an_onnx_file_that_only_speaks_of_a_location_is_read(
    exported: Exported, tmp_path: Path
) -> None:
    path = copy_of(exported("onnx"), tmp_path)
    onnx = pytest.importorskip("onnx")

    def speak(model: Any) -> None:
        onnx.helper.set_model_props(model, {"description": "its location is not known"})

    change_onnx(path, speak)
    assert read_artefact(path).path == path


def test_tflite_weights_in_other_files_are_refused(exported: Exported, tmp_path: Path) -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    from edge_deit.exporters.tflite.file import pack, read

    path = copy_of(exported("tflite"), tmp_path)
    model = read(path)
    group = schema.ExternalBufferGroupT()
    group.name = b"weights.bin"
    model.externalBufferGroups = [group]
    path.write_bytes(pack(model))
    sign(path)
    with pytest.raises(EdgeDeitError, match="it keeps weights in other files"):
        open_runner(path, 1)


@pytest.fixture
def package(exported: Exported, tmp_path: Path) -> Path:
    return copy_of(exported("coreml"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Data/link", "link", "Data/com.apple.CoreML/weights/link"])
def test_links_and_pipes_in_a_package_are_refused(name: str, package: Path) -> None:
    (package / name).symlink_to("/etc/passwd")
    sign(package)
    with pytest.raises(EdgeDeitError, match="link is no plain file"):
        read_artefact(package)
    (package / name).unlink()
    pipe(package / name)
    with pytest.raises(EdgeDeitError, match="link is no plain file"):
        read_artefact(package)


@pytest.mark.slow
@pytest.mark.parametrize("named", ["../../outside.mlmodel", "/etc/passwd", "a\0b"])
def test_a_package_that_names_paths_outside_is_refused(named: str, package: Path) -> None:
    table = package / "Manifest.json"
    data = json.loads(table.read_text(encoding="utf-8"))
    for entry in data["itemInfoEntries"].values():
        entry["path"] = named
    table.write_text(json.dumps(data), encoding="utf-8")
    sign(package)
    with pytest.raises(EdgeDeitError, match="outside its folder"):
        read_artefact(package)


@pytest.mark.slow
def test_a_package_with_an_unreadable_table_is_refused(package: Path) -> None:
    for text in ("", "[]", "[" * 100_000, '{"itemInfoEntries": 3}'):
        (package / "Manifest.json").write_text(text, encoding="utf-8")
        sign(package)
        with pytest.raises(EdgeDeitError, match=r"no readable Manifest\.json"):
            read_artefact(package)


@pytest.mark.slow
def test_a_specification_that_names_weights_elsewhere_is_refused(package: Path) -> None:
    from edge_deit.exporters.mlpackage import model_file, operations_of, read_specification

    specification = read_specification(package)
    for operation in operations_of(specification):
        for value in operation.attributes.values():
            if value.WhichOneof("value") == "blobFileValue":
                value.blobFileValue.fileName = "@model_path/../../weights/weight.bin"
    model_file(package).write_bytes(specification.SerializeToString())
    sign(package)
    with pytest.raises(EdgeDeitError, match=r"keeps weights in '@model_path/\.\./\.\./weights"):
        open_runner(package, 1)
