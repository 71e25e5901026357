"""No pickle runs code, wherever in a file it asks for it, and whatever it tries on what it is handed."""

from __future__ import annotations

import pickle
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from edge_deit.checkpoint import pickles, rebuild
from edge_deit.checkpoint.load import load_model
from edge_deit.checkpoint.torch_file import read_torch_file
from edge_deit.common.errors import EdgeDeitError
from weights_examples import plain_state, refused


class Payload:
    """Touches a file when it is unpickled by something that runs code."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return subprocess.check_call, (["touch", str(self.target)],)


class Evaluated(Payload):
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.target)!r}, 'w')",)


class Harmless(Payload):
    """Asks for a function of a module that nobody thinks of; it would write the file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return torch.save, ({}, str(self.target))


PLACES = {
    "top": lambda one, state: one,
    "model": lambda one, state: {"model": one},
    "beside": lambda one, state: {"model": state, "args": one},
    "key": lambda one, state: {"model": state, "keys": [{1: one}]},
    "tensor": lambda one, state: {"model": {**state, "head.weight": one}},
    "list": lambda one, state: {"model": state, "optimizer": {"state": [[one]]}},
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".pth.tar"])
@pytest.mark.parametrize("place", PLACES)
def test_payloads_never_run(place: str, suffix: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / f"evil{suffix}"
    for kind in (Payload, Evaluated, Harmless):
        for legacy in (False, True):
            for protocol in (2, 4):
                torch.save(
                    PLACES[place](kind(mark), plain_state()),
                    path,
                    _use_new_zipfile_serialization=not legacy,
                    pickle_protocol=protocol,
                )
                if kind is Harmless:
                    try:
                        load_model(str(path))
                    except EdgeDeitError as error:
                        assert path.name in str(error)
                else:
                    assert "holds code, which is never run" in refused(path)
                assert not mark.exists()


def test_a_payload_in_each_pickle_of_the_older_layout(tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "evil.pth"
    sound = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, []]
    for index in range(len(sound)):
        parts = [*sound[:index], Payload(mark), *sound[index + 1 :]]
        path.write_bytes(b"".join(pickle.dumps(part, 2) for part in parts))
        assert "holds code" in refused(path)
        assert not mark.exists()


def zipped(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", content)
    return path


TENSOR = b"ctorch._utils\n_rebuild_sparse_tensor\n)R"  # one of ours


@pytest.mark.parametrize(
    "content",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n}X\x04\x00\x00\x00callcbuiltins\neval\nsb.",
        b"ctorch._utils\n_rebuild_tensor_v2\nN}X\x08\x00\x00\x00__code__Ks\x86b.",
        b"ccollections\nOrderedDict\nN}X\x03\x00\x00\x00getK\x01s\x86b.",
        b"ccollections\nOrderedDict\n)RX\x01\x00\x00\x00aK\x01s}X\x05\x00\x00\x00itemsK\x01sb.",
        b"ccollections\nOrderedDict\n)RN}X\x06\x00\x00\x00valuesK\x01s\x86b.",
        TENSOR + b"}X\x05\x00\x00\x00shapeK\x01sb.",
        TENSOR + b"N}X\x05\x00\x00\x00shapeK\x01s\x86b.",
        b"ctorch\nfloat32\n}b.",
        b"ctorch\nfloat32\n)R.",
        b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch\nload\nN)NtR.",
        b"cedge_deit.checkpoint.pickles\nload_pickle\n)R}X\x01\x00\x00\x00aK\x01sb.",
        b"\x82\x01.",
        b"(K\x01i__main__\nX\n.",
        b"Pmodule\n.",
        b"(X\x06\x00\x00\x00moduleK\x01tQ.",
    ],
)
def test_tricks_with_what_is_handed_out(content: bytes, tmp_path: Path) -> None:
    """They end in a refusal, and leave this process's functions and classes as they are."""
    before = {name: dict(vars(module)) for name, module in (("p", pickles), ("r", rebuild))}
    path = zipped(tmp_path / "a.pth", b"\x80\x02" + content)
    message = refused(path)
    assert path.name in message
    for name, module in (("p", pickles), ("r", rebuild)):
        assert vars(module) == before[name]


def test_unknown_names_become_inert_data(tmp_path: Path) -> None:
    thing = b"cno.such.module\nThing\n)\x81}X\x01\x00\x00\x00aK\x01sb"
    content = b"\x80\x02(" + thing + b"cnumpy\ndtype\nX\x02\x00\x00\x00f8\x85Rt."
    found = read_torch_file(zipped(tmp_path / "a.pth", content))
    assert isinstance(found, tuple)
    assert [type(one).__mro__[1] for one in found] == [pickles.Inert, pickles.Inert]
    assert [one.origin for one in found] == ["no.such.module.Thing", "numpy.dtype"]


def test_numbers_of_old_storages_are_held_against_the_file(tmp_path: Path) -> None:
    state, path = {"model": plain_state()}, tmp_path / "a.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    size = struct.pack("<q", 64)
    assert content.count(size) > 1
    path.write_bytes(content.replace(size, struct.pack("<q", 1 << 50)))
    assert "its tensors need others" in refused(path)
