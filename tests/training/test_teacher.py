"""Teachers: batches of one, other outputs, other sizes; and that no file of one runs code."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conftest import ROOT, TINY, random_model
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Silent
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.training.teacher import Guide, checkpoint_teacher, file_teacher

SIDE, CLASSES = 16, 3
NUMBERS = tuple(map(str, range(10)))
PIXELS = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


class Line(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], Any] = lambda y: y) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line, self.wrap = nn.Linear(3 * SIDE * SIDE, CLASSES), wrap

    def forward(self, pixels: Tensor) -> Any:
        return self.wrap(self.line(pixels.flatten(1)))


def archive(path: Path, batch: int | None = None, model: nn.Module | None = None) -> Path:
    """A `.pt2` of a small model; batch None: any."""
    example = torch.zeros(batch or 2, 3, SIDE, SIDE)
    dims = None if batch else ({0: torch.export.Dim("b", min=1, max=64)},)
    program = torch.export.export((model or Line()).eval(), (example,), dynamic_shapes=dims)
    torch.export.save(program, path)
    return path


def test_any_batch(tmp_path: Path) -> None:
    heard = Heard()
    guide = file_teacher(archive(tmp_path / "t.pt2"), trusted=False, progress=heard)
    guide.check(PIXELS, CLASSES)
    torch.testing.assert_close(guide(PIXELS), Line()(PIXELS))
    assert heard.lines == []


def test_the_projects_own_teacher_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolutional network of any batch and size: its file computes with products of sizes."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    tool = importlib.import_module("fashion_mnist")
    torch.manual_seed(0)
    model, path = tool.Teacher().eval(), tmp_path / "teacher.pt2"
    tool.save_teacher(model, path)
    guide = file_teacher(path, trusted=False)
    pixels = torch.randn(5, 3, 40, 56)
    with torch.no_grad():
        assert torch.allclose(guide(pixels), model(pixels), atol=1e-5)


def test_a_program_for_one_photo_gets_the_batch_in_pieces(tmp_path: Path) -> None:
    heard = Heard()
    guide = file_teacher(archive(tmp_path / "t.pt2", batch=1), trusted=False, progress=heard)
    guide.check(PIXELS, CLASSES)
    torch.testing.assert_close(guide(PIXELS), Line()(PIXELS))
    assert len(heard.lines) == 1
    assert "one photo at a time" in heard.lines[0]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: (y, 2 * y),
        lambda y: [y],
        lambda y: {"logits": y, "features": 3 * y},
        lambda y: {"features": 3 * y, "logits": y},
        lambda y: {"scores": y},
    ],
)
def test_the_first_of_several_outputs_is_taken_and_said(wrap: Callable[[Tensor], Any]) -> None:
    heard = Heard()
    guide = Guide("t", Line(wrap), heard)
    guide.check(PIXELS, CLASSES)
    torch.testing.assert_close(guide(PIXELS), Line()(PIXELS))
    assert len(heard.lines) == 1
    assert "several values" in heard.lines[0]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Line(lambda y: y[:, :2]), r"\(4, 2\) for 4 photos, the student has 3"),
        (Line(lambda y: y * float("nan")), "NaN"),
        (Line(lambda y: "no"), "does not take photos"),
        (Line(lambda y: ()), "does not take photos"),
        (nn.Linear(7, 3), "does not take photos"),
        (Line(lambda y: y.sum()), "does not take photos"),
    ],
)
def test_what_no_student_can_learn_from_is_refused_first(model: nn.Module, message: str) -> None:
    with pytest.raises(EdgeDeitError, match=message):
        Guide("t", model).check(PIXELS, CLASSES)


def test_a_program_for_another_size_is_refused_with_the_remedy(tmp_path: Path) -> None:
    guide = file_teacher(archive(tmp_path / "t.pt2"), trusted=False)
    with pytest.raises(EdgeDeitError, match="--image-size"):
        guide.check(torch.zeros(2, 3, 8, 8), CLASSES)


def test_a_checkpoint_gets_pixels_as_it_is_used_to(tmp_path: Path) -> None:
    model = random_model(TINY)
    spec = PreprocessSpec(resize_size=72, crop_size=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    save_checkpoint(tmp_path / "t.safetensors", model, spec, (), half=False)
    grey = torch.rand(2, 3, 64, 64)
    given = PreprocessSpec(resize_size=64, crop_size=64)

    def normalised(how: PreprocessSpec) -> Tensor:
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (how.mean, how.std))
        return (grey - mean) / std

    guide = checkpoint_teacher(str(tmp_path / "t.safetensors"), given, NUMBERS)
    with torch.inference_mode():
        found, wanted = guide(normalised(given)), model(normalised(spec))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_checkpoint_of_another_size_gets_scaled_photos(tmp_path: Path) -> None:
    model, spec = random_model(TINY), PreprocessSpec(resize_size=72, crop_size=64)
    save_checkpoint(tmp_path / "t.safetensors", model, spec, (), half=False)
    given, heard = replace(spec, resize_size=32, crop_size=32), Heard()
    guide = checkpoint_teacher(str(tmp_path / "t.safetensors"), given, NUMBERS, heard)
    flat = torch.tensor([0.3, -0.5, 1.0]).view(3, 1, 1)  # one colour stays that colour
    guide.check(flat.expand(2, 3, 32, 32), 10)
    with torch.inference_mode():
        found, wanted = guide(flat.expand(2, 3, 32, 32)), model(flat.expand(2, 3, 64, 64))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
    assert "scaled from 32 to 64 pixels a side (bicubic, antialiased)" in heard.lines[-1]


def test_a_checkpoint_with_names_is_matched_by_them(tmp_path: Path) -> None:
    names = tuple(f"class {letter}" for letter in "abcdefghij")
    model, spec = random_model(TINY), PreprocessSpec(resize_size=72, crop_size=64)
    save_checkpoint(tmp_path / "t.safetensors", model, spec, names, half=False)
    guide = checkpoint_teacher(str(tmp_path / "t.safetensors"), spec, ("class j", "class b"))
    pixels = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(guide(pixels), model(pixels)[:, [9, 1]], rtol=1e-4, atol=1e-4)
    with pytest.raises(EdgeDeitError, match="lacks 1 of the student's 2 classes: hen"):
        checkpoint_teacher(str(tmp_path / "t.safetensors"), spec, ("class j", "hen"))


# Files from strangers


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def changed(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive with its members, by name below the top folder, changed."""
    with zipfile.ZipFile(path) as source:
        members = {name.partition("/")[2]: source.read(name) for name in source.namelist()}
        top = source.namelist()[0].partition("/")[0]
    change(members)
    with zipfile.ZipFile(path, "w") as target:
        for name, content in members.items():
            target.writestr(f"{top}/{name}", content)
    return path


def saved(thing: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


MODEL = "models/model.json"


def edit(members: dict[str, bytes], change: Callable[[Any], None]) -> None:
    data = json.loads(members[MODEL])
    change(data)
    members[MODEL] = json.dumps(data).encode()


def sizes(data: Any) -> Any:
    return data["graph_module"]["graph"]["tensor_values"]["flatten"]["sizes"][0]["as_expr"]


ATTACKS: dict[str, Callable[[dict[str, bytes], Path], None]] = {
    "sample inputs": lambda m, mark: m.update(
        {"data/sample_inputs/model.pt": saved(((Payload(mark),), {}))}
    ),
    "raw pickle as sample inputs": lambda m, mark: m.update(
        {"data/sample_inputs/model.pt": pickle.dumps(Payload(mark))}
    ),
    "pickled constant": lambda m, mark: m.update(
        {"data/constants/custom_obj_0": pickle.dumps(Payload(mark))}
    ),
    "weight that is an archive": lambda m, mark: m.update(
        {"data/weights/weight_0": saved(Payload(mark))}
    ),
    "config that asks for pickle": lambda m, mark: m.update(
        {
            "data/weights/model_weights_config.json": m[
                "data/weights/model_weights_config.json"
            ].replace(b'"use_pickle": false', b'"use_pickle": true')
        }
    ),
    "expression": lambda m, mark: edit(
        m, lambda d: sizes(d).update(expr_str=f"__import__('os').mkdir({str(mark)!r})")
    ),
    "guard": lambda m, mark: edit(
        m, lambda d: d.update(guards_code=[f"__import__('os').mkdir({str(mark)!r}) is None"])
    ),
    "operator": lambda m, mark: edit(
        m, lambda d: d["graph_module"]["graph"]["nodes"][0].update(target="torch.hub.os.mkdir")
    ),
    "compiled library": lambda m, mark: m.update({"data/aotinductor/model/a.so": b"\x7fELF"}),
    "file outside": lambda m, mark: m.update({"../../mark": b""}),
    "brackets": lambda m, mark: m.update({MODEL: b"[" * 200_000}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_archive_that_could_run_code_is_not_read(attack: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = changed(archive(tmp_path / "t.pt2"), lambda members: ATTACKS[attack](members, mark))
    with pytest.raises(EdgeDeitError, match=r"teacher .*t\.pt2"):
        file_teacher(path, trusted=False)
    assert not mark.exists()


def test_the_attack_on_sample_inputs_is_real(tmp_path: Path) -> None:
    """torch itself runs the payload, so the test above shows something."""
    mark = tmp_path / "mark"
    attack = ATTACKS["sample inputs"]
    path = changed(archive(tmp_path / "t.pt2"), lambda members: attack(members, mark))
    with contextlib.suppress(Exception):  # how it ends does not matter
        torch.export.load(path)
    assert mark.exists()


def test_torchscript_needs_trust(tmp_path: Path) -> None:
    path = tmp_path / "t.pt"
    torch.jit.trace(Line(), PIXELS).save(path)
    with pytest.raises(EdgeDeitError, match="--trust-teacher"):
        file_teacher(path, trusted=False)
    guide = file_teacher(path, trusted=True)
    torch.testing.assert_close(guide(PIXELS), Line()(PIXELS))


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04", b"\x80\x04."])
@pytest.mark.parametrize("name", ["t.pt2", "t.pt"])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(EdgeDeitError, match=r"teacher .* is (no \.pt2 archive|neither)"):
        file_teacher(path, trusted=True)


def test_only_plain_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt2")
    for path in (tmp_path / "pipe.pt2", tmp_path, Path("/dev/zero")):
        with pytest.raises(EdgeDeitError, match="not a regular file"):
            file_teacher(path, trusted=True)
    with pytest.raises(EdgeDeitError, match="does not exist"):
        file_teacher(tmp_path / "none.pt2", trusted=True)
