"""What is named as weights and is none: said in one line, with what to do instead."""

from __future__ import annotations

import os
import socket
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conftest import random_model
from edge_deit.checkpoint.load import load_model
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.data.preprocess import default_spec
from weights_examples import SHAPE, hub_state, plain_state, refused, vit_folder

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 22883064\n"
PAGES = [
    "<!DOCTYPE html><html>",
    "  <html lang=en>",
    '<?xml version="1.0"?><Error>',
    "<!doctype HTML>",
]


@pytest.mark.parametrize(
    ("address", "instead"),
    [
        ("https://example.org/deit.pth", "hub:ORG/NAME"),
        ("s3://bucket/deit.safetensors", "hub:ORG/NAME"),
        ("file:///tmp/deit.pth", "hub:ORG/NAME"),
        (
            "https://huggingface.co/facebook/deit-tiny-patch16-224",
            "hub:facebook/deit-tiny-patch16-224",
        ),
        ("https://hf.co/timm/a/resolve/main/model.safetensors", "hub:timm/a"),
        ("hf://timm/a", "hub:timm/a"),
    ],
)
def test_addresses(address: str, instead: str) -> None:
    message = refused(address)
    assert f"weights {address} are an address" in message
    assert message.endswith(f"write {instead}")


def test_a_hub_name_without_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "for the hub's write hub:facebook/deit-tiny" in refused("facebook/deit-tiny")
    assert "do not exist; give a file" in refused("deit.pth")


@pytest.mark.parametrize(
    "suffix", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".7z", ".rar", ".pth.gz", ".ZIP"]
)
@pytest.mark.parametrize("there", [False, True])
def test_archives(suffix: str, there: bool, tmp_path: Path) -> None:
    path = tmp_path / f"deit{suffix}"
    if there:
        path.write_bytes(b"x")
    message = refused(path)
    assert f"weights {path} are an archive" in message
    assert "unpack it" in message


def test_archives_under_a_checkpoints_name(tmp_path: Path) -> None:
    torch.save(plain_state(), tmp_path / "inner.pth")
    with tarfile.open(tmp_path / "a.pth.tar", "w") as tar:
        tar.add(tmp_path / "inner.pth", "inner.pth")
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.write(tmp_path / "inner.pth", "inner.pth")
    for name in ("a.pth.tar", "a.pth"):
        assert "cannot be read as plain tensors" in refused(tmp_path / name)


def test_programs_are_no_weights(tmp_path: Path) -> None:
    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    torch.jit.save(torch.jit.trace(Net(), torch.ones(1)), str(tmp_path / "a.pt"))
    torch.export.save(torch.export.export(Net(), (torch.ones(1),)), tmp_path / "b.pt2")
    (tmp_path / "b.pt2").rename(tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        assert "a program (TorchScript, torch.export) or another archive" in refused(
            tmp_path / name
        )


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".npz", ".h5", "", ".txt"])
def test_other_suffixes(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"deit{suffix}"
    path.write_bytes(b"x")
    assert ".pth, .pt or .bin is expected" in refused(path)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.bin", "a.ckpt"])
def test_what_a_download_left(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(POINTER)
    message = refused(path)
    assert f"{path} is a pointer of Git LFS" in message
    assert "git lfs pull" in message
    for page in PAGES:
        path.write_text(page)
        assert f"{path} is a web page, not the file itself" in refused(path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_what_a_clone_left_in_a_folder(name: str, tmp_path: Path) -> None:
    folder = vit_folder(tmp_path / "a")
    (folder / name).write_text(POINTER)
    assert f"{folder / name} is a pointer of Git LFS" in refused(folder)
    (folder / name).write_text(PAGES[0])
    assert "is a web page" in refused(folder)


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    assert "has no config.json; a Hugging Face or timm folder or a file" in refused(tmp_path)
    save_checkpoint(
        tmp_path / "mine.safetensors", random_model(SHAPE), default_spec(32), (), half=False
    )
    assert "it has mine.safetensors: name that file" in refused(tmp_path)
    folder = vit_folder(tmp_path / "a")
    (folder / "adapter_config.json").write_text("{}")
    message = refused(folder)
    assert "holds an adapter (adapter_config.json)" in message
    assert "merge_and_unload" in message
    (folder / "adapter_config.json").unlink()
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    message = refused(folder)
    assert "neither model.safetensors nor pytorch_model.bin; it has other.safetensors" in message


def test_shards(tmp_path: Path) -> None:
    folder = vit_folder(tmp_path / "a")
    tensors = list(hub_state(plain_state()).items())
    (folder / "model.safetensors").unlink()
    index = folder / "pytorch_model.bin.index.json"
    index.write_text('{"weight_map": {"a": "1.bin", "b": "2.bin"}}')
    torch.save(dict(tensors[:9]), folder / "1.bin")
    torch.save(dict(tensors[8:]), folder / "2.bin")
    assert f"{tensors[8][0]} is in two shards, the second time in 2.bin" in refused(folder)
    torch.save({"state_dict": 1}, folder / "2.bin")
    assert "lacks" in refused(folder)
    torch.save([1], folder / "2.bin")
    assert "2.bin hold no state dict" in refused(folder)


# Only regular files


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pth")
    assert "is a pipe, not a regular file" in refused(tmp_path / "a.pth")
    (tmp_path / "b.pth").symlink_to("/dev/zero")
    assert "is a device" in refused(tmp_path / "b.pth")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(tmp_path / "c.pth"))
        assert "is a socket" in refused(tmp_path / "c.pth")
    (tmp_path / "d.pth").symlink_to("d.pth")
    assert "symbolic links" in refused(tmp_path / "d.pth")
    (tmp_path / "e.pth").symlink_to("nowhere")
    assert "does not exist" in refused(tmp_path / "e.pth")
    assert "File name too long" in refused(tmp_path / f"{'x' * 300}.pth")
    (tmp_path / "f.pth").mkdir()
    assert "has no config.json" in refused(tmp_path / "f.pth")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_pipes_in_a_folder(name: str, tmp_path: Path) -> None:
    folder = vit_folder(tmp_path / "a")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    message = refused(folder)
    assert name in message
    assert "\n" not in message


def test_links_are_followed(tmp_path: Path) -> None:
    save_file(plain_state(), tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").symlink_to("a.safetensors")
    assert load_model(str(tmp_path / "b.safetensors")).config == SHAPE
