"""Weights files and folders that strangers may send: each must be refused, quickly and in little memory.

    python tests/hostile_weights.py FOLDER

loads them all with 1 GB of address space beyond what the imports took, and prints a line for each.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import socket
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from edge_deit.checkpoint.load import load_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deit import DeiT

__all__ = ["HOSTILE", "load_all"]

_SHAPE: Final = DeiTConfig(
    image_size=32, patch_size=16, embed_dim=64, depth=1, num_heads=1, mlp_dim=64, num_classes=3
)
_GIGABYTE: Final = 1 << 30
_CONFIG: Final = {
    "model_type": "vit", "image_size": 32, "patch_size": 16, "hidden_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 1, "intermediate_size": 64, "num_labels": 3,
}  # fmt: skip


def _state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn_like(value) for name, value in DeiT(_SHAPE).state_dict().items()}


# PyTorch's files


def _pickled(path: Path, value: object) -> None:
    """A zip of PyTorch's whose pickle is `value`, or its bytes."""
    content = value if isinstance(value, bytes) else pickle.dumps(value, 2)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/byteorder", "little")


def _stride_zero(path: Path) -> None:
    state = _state()
    state["pos_embed"] = torch.zeros(1, 1, 1).expand(1, 50_000, 1_000_000)
    torch.save(state, path)


def _windows(path: Path) -> None:
    state = _state()
    state["head.weight"] = torch.zeros(200_000).as_strided((100_000, 100_000), (1, 1))
    torch.save(state, path)


def _shared_storage(path: Path) -> None:
    state, one = _state(), torch.zeros(1000, 1000)
    torch.save(state | {f"blocks.{index}.x.weight": one for index in range(2000)}, path)


def _packed_record(path: Path) -> None:
    """Zeros that unpack to far more than their record takes in the file."""
    torch.save({"patch_embed.proj.weight": torch.zeros(1 << 24)}, path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in records.items():
            archive.writestr(name, content)


def _long_record(path: Path) -> None:
    torch.save(_state(), path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content + bytes(1 << 20) if "/data/" in name else content)


def _memo(path: Path) -> None:
    _pickled(path, b"\x80\x02}r" + struct.pack("<I", 0x7FFFFFF0) + b".")


def _deep_key(path: Path) -> None:
    _pickled(path, b"\x80\x02})" + b"\x85" * 300_000 + b"K\x01s.")


def _deep_lists(path: Path) -> None:
    _pickled(path, b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".")


def _many_sets(path: Path) -> None:
    _pickled(path, b"\x80\x04(" + b"\x8f" * 20_000_000 + b"t.")


def _many_classes(path: Path) -> None:
    names = b"".join(b"cm\nc%d\n" % index for index in range(100_000))
    _pickled(path, b"\x80\x02(" + names + b"t.")


def _huge_bytearray(path: Path) -> None:
    _pickled(path, b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".")


def _huge_integer(path: Path) -> None:
    _pickled(path, b"\x80\x02I" + b"9" * 500_000 + b"\n.")


class _Claim:
    """Pickled as a tensor of `size` on a storage that says it has `count` values."""

    def __init__(self, count: int, size: tuple[int, ...]) -> None:
        self.count, self.size = count, size

    def __reduce__(self) -> tuple[Any, ...]:
        return torch._utils._rebuild_tensor_v2, (
            _Storage(self.count),
            0,
            self.size,
            (1,),
            False,
            None,
        )


class _Storage:
    def __init__(self, count: int) -> None:
        self.count = count


class _Pickler(pickle.Pickler):
    legacy = False

    def persistent_id(self, obj: object) -> object:
        if not isinstance(obj, _Storage):
            return None
        view = (None,) if self.legacy else ()
        return ("storage", torch.FloatStorage, "0", "cpu", obj.count, *view)


def _claim(count: int, size: tuple[int, ...], legacy: bool = False) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        body = io.BytesIO()
        pickler = _Pickler(body, 2)
        pickler.legacy = legacy
        pickler.dump({"patch_embed.proj.weight": _Claim(count, size)})
        if not legacy:
            _pickled(path, body.getvalue())
            return
        heads = [
            pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
        ]
        tail = pickle.dumps(["0"], 2) + struct.pack("<q", count)
        path.write_bytes(b"".join(heads) + body.getvalue() + tail)

    return write


# safetensors


def _safetensors(header: bytes, data: bytes = b"") -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(struct.pack("<Q", len(header)) + header + data)

    return write


def _long_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")


def _described(key: str, text: str) -> Callable[[Path], None]:
    """A sound file of ours but for one text of its metadata."""

    def write(path: Path) -> None:
        spec = {
            "resize": "shortest", "resize_size": 35, "crop_size": 32, "crop_rounding": "floor",
            "resample": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3,
        }  # fmt: skip
        said = {
            "edge_deit_config": json.dumps({f: getattr(_SHAPE, f) for f in _SHAPE.__dict__}),
            "edge_deit_preprocess": json.dumps(spec),
            "edge_deit_labels": '["a", "b", "c"]',
        }
        save_file(_state(), path, metadata={**said, key: text})

    return write


def _config_text(**changes: Any) -> str:
    return json.dumps({f: getattr(_SHAPE, f) for f in _SHAPE.__dict__} | changes)


# Folders


def _folder(text: str | bytes | None = None, **changes: Any) -> Callable[[Path], None]:
    """A Hugging Face folder whose config.json is `text`, or a sound one with `changes`."""

    def write(path: Path) -> None:
        path.mkdir()
        said = json.dumps({**_CONFIG, **changes}) if text is None else text
        (path / "config.json").write_bytes(said if isinstance(said, bytes) else said.encode())
        tensors = {
            "vit.embeddings.cls_token": torch.zeros(1, 1, 64),
            "vit.embeddings.patch_embeddings.projection.weight": torch.zeros(64, 3, 16, 16),
        }
        save_file(tensors, path / "model.safetensors")

    return write


def _pipe_config(path: Path) -> None:
    path.mkdir()
    os.mkfifo(path / "config.json")


def _pipe_weights(path: Path) -> None:
    _folder()(path)
    (path / "model.safetensors").unlink()
    os.mkfifo(path / "model.safetensors")


def _zero_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's name may have 107 bytes
        one.bind(path.name)
        os.chdir(here)


def _circle(path: Path) -> None:
    path.symlink_to(path.name)


_BRACKETS: Final = "[" * 200_000
_SURROGATE: Final = '{"model_type": "vit", "id2label": {"0": "\\ud800"}}'

HOSTILE: Final[dict[str, Callable[[Path], None]]] = {
    "stride_zero.pth": _stride_zero,
    "windows.pth": _windows,
    "shared.pth": _shared_storage,
    "packed.pth": _packed_record,
    "long.pth": _long_record,
    "memo.pth": _memo,
    "deep_key.pth": _deep_key,
    "deep_lists.pth": _deep_lists,
    "sets.pth": _many_sets,
    "classes.pth": _many_classes,
    "bytearray.pth": _huge_bytearray,
    "integer.pth": _huge_integer,
    "storage.pth": _claim(10**12, (10**12,)),
    "beyond.pth": _claim(4, (10**12,)),
    "negative.pth": _claim(-4, (4,)),
    "old_storage.pth": _claim(10**12, (10**12,), legacy=True),
    "header.safetensors": _safetensors(b"{" * 100_000),
    "length.safetensors": _long_header,
    "claims.safetensors": _safetensors(
        b'{"patch_embed.proj.weight":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "four_bits.safetensors": _safetensors(
        b'{"patch_embed.proj.weight":{"dtype":"F4","shape":[8],"data_offsets":[0,4]}}', bytes(4)
    ),
    "depth.safetensors": _described("edge_deit_config", _config_text(depth=10**9)),
    "width.safetensors": _described("edge_deit_config", _config_text(embed_dim=10**12)),
    "classes.safetensors": _described("edge_deit_config", _config_text(num_classes=10**6)),
    "true.safetensors": _described("edge_deit_config", _config_text(num_heads=True)),
    "fraction.safetensors": _described("edge_deit_config", _config_text(depth=1.0)),
    "text.safetensors": _described("edge_deit_config", _config_text(qkv_bias="yes")),
    "epsilon.safetensors": _described("edge_deit_config", _config_text(layer_norm_eps=10**400)),
    "nan.safetensors": _described("edge_deit_config", _config_text(layer_norm_eps=float("nan"))),
    "brackets.safetensors": _described("edge_deit_config", _BRACKETS),
    "labels.safetensors": _described("edge_deit_labels", '"abc"'),
    "surrogate.safetensors": _described("edge_deit_labels", '["a", "b", "\\ud800"]'),
    "resize.safetensors": _described(
        "edge_deit_preprocess",
        '{"resize": "shortest", "resize_size": 30000, "crop_size": 32, "crop_rounding": "floor", '
        '"resample": "bicubic", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}',
    ),
    "layers": _folder(num_hidden_layers=10**9),
    "hidden": _folder(hidden_size=10**12),
    "heads": _folder(num_attention_heads=True),
    "float": _folder(hidden_size=64.0),
    "digits": _folder('{"model_type": "vit", "hidden_size": ' + "9" * 5000 + "}"),
    "infinite": _folder('{"model_type": "vit", "layer_norm_eps": 1e400}'),
    "nested": _folder(_BRACKETS),
    "objects": _folder('{"a":' * 200_000),
    "half_pair": _folder(_SURROGATE),
    "twice": _folder('{"model_type": "vit", "model_type": "deit"}'),
    "utf16": _folder("{}".encode("utf-16")[:-1]),
    "large": _folder(b'{"a": "' + b"x" * (17 << 20) + b'"}'),
    "pipe_config": _pipe_config,
    "pipe_weights": _pipe_weights,
    "pipe.pth": lambda path: os.mkfifo(path),
    "zero.pth": _zero_device,
    "socket.pth": _socket,
    "circle.pth": _circle,
}


def load_all(folder: Path) -> int:
    """Write and load each; print name, seconds, message. Returns how many were not refused in one line."""
    wrong = 0
    for name, write in HOSTILE.items():
        write(folder / name)
    with Path("/proc/self/statm").open(encoding="ascii") as status:
        used = int(status.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _GIGABYTE, resource.RLIM_INFINITY))
    for name in HOSTILE:
        started = time.monotonic()
        try:
            load_model(str(folder / name))
            said = "LOADED"
        except EdgeDeitError as error:
            said = str(error)
        wrong += said == "LOADED" or "\n" in said or name not in said
        print(f"{name} {time.monotonic() - started:.1f} {said}", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(load_all(Path(sys.argv[1])))
