"""Names that may be shared, and notes of where things lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_deit.common.whereabouts import recall, remember, shareable, shareable_names

KEY = "a" * 64


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        ("a.onnx", "a.onnx"),
        ("./out/a.onnx", "out/a.onnx"),
        ("out/../a.onnx", "a.onnx"),
        ("../a.onnx", "a.onnx"),
        ("../../home/ann/a.onnx", "a.onnx"),
        ("/home/ann/secret/a.onnx", "a.onnx"),
        ("/home/ann/secret/", "secret"),
    ],
)
def test_shareable(named: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shareable(named) == shown


def test_the_working_folder_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shareable(tmp_path / "out" / "a.onnx") == "out/a.onnx"
    assert shareable(tmp_path) == tmp_path.name
    assert shareable(".") == tmp_path.name


def test_as_many_folders_as_it_takes() -> None:
    assert shareable_names(["/x/ann/a/m.onnx", "/x/ann/b/m.onnx", "/x/c.onnx", "m.onnx"]) == [
        "a/m.onnx", "b/m.onnx", "x/c.onnx", "m.onnx",
    ]  # fmt: skip
    assert shareable_names(["/x/m.onnx", "/x/m.onnx"]) == ["m.onnx", "m.onnx"]
    assert shareable_names([]) == []


def test_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "wei\udcffghts"
    place.mkdir()
    remember(KEY, place)
    assert recall(KEY) is None  # there is no cache in tests
    monkeypatch.setenv("EDGE_DEIT_CACHE", str(tmp_path / "cache"))
    assert recall(KEY) is None
    monkeypatch.chdir(tmp_path)
    remember(KEY, place.name)
    assert recall(KEY) == place
    place.rmdir()
    assert recall(KEY) is None
    for broken in (b"", b"relative", b"\0", b"/" + b"a" * 5000):
        (tmp_path / "cache" / "places" / KEY).write_bytes(broken)
        assert recall(KEY) is None
    for odd in ("../../x", "A" * 64, ""):
        remember(odd, place)
        assert recall(odd) is None
    assert [path.name for path in (tmp_path / "cache" / "places").iterdir()] == [KEY]


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("EDGE_DEIT_CACHE", str(tmp_path / "file"))
    remember(KEY, tmp_path)
    assert recall(KEY) is None
