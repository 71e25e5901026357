"""Lookup tables of a second export come from the cache, and are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from condition_examples import grey_photos
from conftest import TINY
from edge_deit.checkpoint.load import load_model
from edge_deit.conversion.context import ExportContext
from edge_deit.conversion.tables import pack_tables
from edge_deit.model.deploy import deploy
from edge_deit.quantization.packed import TableWeight
from edge_deit.quantization.scheme import Scheme


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_DEIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "conditioning"


class Notes:
    """A progress that keeps its tasks and notes."""

    def __init__(self) -> None:
        self.tasks: list[str] = []
        self.lines: list[str] = []

    @contextmanager
    def task(self, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        self.tasks.append(what)
        yield lambda count: None

    def note(self, line: str) -> None:
        self.lines.append(line)


def made(
    weights: Path, scheme: Scheme, *, cached: bool = True, seed: int = 0
) -> tuple[dict[str, TableWeight], Notes]:
    """What an export of its own has as tables."""
    checkpoint, photos, notes = load_model(str(weights)), grey_photos(4), Notes()
    context = ExportContext(
        checkpoint, deploy(checkpoint.model), None, photos, photos.pixels,
        np.zeros((4, TINY.num_classes)), Path(), 1, notes, seed=seed, cached=cached,
    )  # fmt: skip
    form, packed = pack_tables(context, scheme)
    assert form.grey_levels is not None, "the form reads what the tables were made for"
    found = {name: one for name, one in packed.items() if isinstance(one, TableWeight)}
    assert found.keys() == packed.keys()
    return found, notes


def same(one: dict[str, TableWeight], other: dict[str, TableWeight]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(a.indices, other[name].indices)
        and torch.equal(a.tables, other[name].tables)
        and a.bits == other[name].bits
        for name, a in one.items()
    )


def test_a_later_export_takes_the_same_tables(cache: Path, tiny_weights: Path) -> None:
    first, notes = made(tiny_weights, Scheme("palettized-4"))
    assert notes.tasks == ["importance of weights", "tables"]
    second, notes = made(tiny_weights, Scheme("palettized-4"))
    assert same(first, second)
    assert notes.tasks == []
    (line,) = notes.lines
    assert line.startswith(f"lookup tables: taken from {cache}")


def test_what_makes_tables_has_entries_of_its_own(cache: Path, tiny_weights: Path) -> None:
    made(tiny_weights, Scheme("palettized-4"))
    for scheme, seed in (
        (Scheme("palettized-6"), 0),
        (Scheme("palettized-4", keep_float=("head",)), 0),
        (Scheme("palettized-4", eight=("head",)), 0),
        (Scheme("palettized-4"), 1),
    ):
        found, notes = made(tiny_weights, scheme, seed=seed)
        assert notes.lines == []
        assert ("head" in found) == ("head" not in scheme.keep_float)
    assert len(list(cache.glob("lookup-*.safetensors"))) == 5


def test_a_broken_entry_is_made_anew(cache: Path, tiny_weights: Path) -> None:
    first, _ = made(tiny_weights, Scheme("palettized-6"))
    (entry,) = cache.glob("lookup-*.safetensors")
    entry.write_bytes(entry.read_bytes()[:-3])
    second, notes = made(tiny_weights, Scheme("palettized-6"))
    assert same(first, second)
    assert any("lookup tables are made anew" in line for line in notes.lines)
    assert made(tiny_weights, Scheme("palettized-6"))[1].tasks == []


def test_nothing_is_kept_where_the_user_wants_none(cache: Path, tiny_weights: Path) -> None:
    made(tiny_weights, Scheme("palettized-6"), cached=False)
    assert not list(cache.glob("lookup-*"))
