"""What was conditioned once is taken from the cache exactly as it was, or made anew where it is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from condition_examples import SPEC, grey_photos, outliers
from edge_deit.common.cache import CacheFolder
from edge_deit.common.progress import Silent
from edge_deit.conversion.conditioning import conditioning_cache, find_conditioned
from edge_deit.conversion.run import export_model
from edge_deit.model.form import DeployDeiT
from edge_deit.quantization.condition import Conditioned


class Notes(Silent):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tasks: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)

    @contextmanager
    def task(self, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        self.tasks.append(what)
        yield lambda steps: None


@pytest.fixture
def cache(tmp_path: Path) -> CacheFolder:
    return CacheFolder(tmp_path / "cache", 1 << 30)


def find(cache: CacheFolder | None, photos: int = 3) -> tuple[Conditioned, Notes]:
    notes = Notes()
    return find_conditioned(outliers(), SPEC, grey_photos(photos), cache, notes), notes


def assert_same(one: Conditioned, other: Conditioned) -> None:
    for part in fields(Conditioned):
        first, second = getattr(one, part.name), getattr(other, part.name)
        if part.name == "paired":
            assert first
            assert first.keys() == second.keys()
            for name, layer in first.items():
                assert torch.equal(layer.integers, second[name].integers), name
                assert torch.equal(layer.bias, second[name].bias), name
            continue
        if not isinstance(first, DeployDeiT):
            assert first == second, part.name
            continue
        assert [n for n, _ in first.named_modules()] == [n for n, _ in second.named_modules()]
        assert first.training == second.training
        assert list(first.state_dict()) == list(second.state_dict())
        for name, value in first.state_dict().items():
            assert torch.equal(value, second.state_dict()[name]), name


def test_the_second_time_nothing_is_done(cache: CacheFolder) -> None:
    first, notes = find(cache)
    assert notes.tasks == ["conditioning"]
    assert not notes.lines
    second, notes = find(cache)
    assert not notes.tasks
    assert "--no-cache does it anew" in notes.lines[0]
    assert_same(first, second)
    assert first.token_scaled  # or the test says nothing about them
    assert_same(first, find(None)[0])


def test_other_photos_and_weights_are_other_entries(cache: CacheFolder) -> None:
    find(cache)
    assert find(cache, photos=2)[1].tasks
    changed = outliers()
    with torch.no_grad():
        changed.head.bias[0] += 1e-3
    notes = Notes()
    find_conditioned(changed, SPEC, grey_photos(3), cache, notes)
    assert notes.tasks
    assert len(list(cache.path.iterdir())) == 3


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_broken_entry_is_made_anew(damage: str, cache: CacheFolder) -> None:
    first, _ = find(cache)
    (entry,) = cache.path.iterdir()
    content = bytearray(entry.read_bytes())
    if damage == "flipped":
        content[-5] ^= 1
    broken = {"cut": bytes(content[:-100]), "empty": b"", "other": b"\x80\x04 pickle"}
    entry.write_bytes(broken.get(damage, bytes(content)))
    second, notes = find(cache)
    assert notes.tasks == ["conditioning"]
    assert notes.lines[0].startswith("conditioning is done anew: ")
    assert_same(first, second)
    assert not find(cache)[1].tasks


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found, notes = find(CacheFolder(tmp_path / "file" / "cache", 1 << 30))
    assert found.ranges
    assert notes.lines[0].startswith("conditioning was not kept")


def test_place_of_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGE_DEIT_CACHE", "")
    assert conditioning_cache() is None
    monkeypatch.setenv("EDGE_DEIT_CACHE", str(tmp_path))
    found = conditioning_cache()
    assert found is not None
    assert found.path == tmp_path / "conditioning"
    monkeypatch.delenv("EDGE_DEIT_CACHE")
    monkeypatch.setattr("edge_deit.common.cache.user_cache", lambda: None)
    assert conditioning_cache() is None


@pytest.mark.slow
def test_files_from_the_cache_are_the_same(
    monkeypatch: pytest.MonkeyPatch, tiny_weights: Path, photos: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGE_DEIT_CACHE", str(tmp_path / "cache"))
    made = {}
    for name, use in (("without", False), ("first", True), ("second", True)):
        notes = Notes()
        export_model(
            str(tiny_weights),
            targets=["onnx", "tflite"],
            calibration=photos,
            output=tmp_path / name,
            cache=use,
            progress=notes,
        )
        made[name] = {
            path.name: path.read_bytes() for path in (tmp_path / name).glob("*.*") if path.is_file()
        }
        assert ("conditioning" in notes.tasks) == (name != "second")
    assert len(made["first"]) == 4
    assert made["without"] == made["first"] == made["second"]
