"""The cache keeps whole files, forgets the longest unused, and several can use it at once."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_deit.common.cache import CacheFolder, user_cache


def keep(cache: CacheFolder, name: str, size: int) -> None:
    cache.keep(name, lambda place: place.write_bytes(b"x" * size), size)


def test_longest_unused_files_make_room(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path / "new" / "cache", 100)
    for age, name in enumerate(("c", "b", "a")):
        keep(cache, name, 30)
        os.utime(cache.path / name, (time.time() - 100 * age - 100,) * 2)
    assert cache.find("a") is not None  # the oldest is in use again
    keep(cache, "d", 60)
    assert sorted(os.listdir(cache.path)) == ["a", "d"]
    keep(cache, "too large", 101)
    assert sorted(os.listdir(cache.path)) == ["a", "d"]
    assert cache.find("b") is None


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 100)

    def fail(place: Path) -> None:
        place.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cache.keep("a", fail, 4)
    assert not os.listdir(tmp_path)


def test_left_overs_of_killed_processes_go_after_a_day(tmp_path: Path) -> None:
    for name, age in (("old", 2), ("new", 0)):
        (tmp_path / f".{name}.part").write_bytes(b"half")
        os.utime(tmp_path / f".{name}.part", (time.time() - age * 86400,) * 2)
    keep(CacheFolder(tmp_path, 100), "a", 1)
    assert sorted(os.listdir(tmp_path)) == [".new.part", "a"]


def test_several_at_once(tmp_path: Path) -> None:
    cache = CacheFolder(tmp_path, 50)

    def work(number: int) -> None:
        for step in range(30):
            keep(cache, f"{step % 4}", 20)
            if (found := cache.find(f"{number % 4}")) is not None:
                try:
                    content = found.read_bytes()
                except FileNotFoundError:
                    continue  # another has made room
                assert len(content) == 20

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert set(os.listdir(tmp_path)) <= {"0", "1", "2", "3"}


def test_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache() == tmp_path / ".cache" / "edge-deit"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert user_cache() == tmp_path / "xdg" / "edge-deit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert user_cache() is None


def test_a_folder_that_may_not_be_entered_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    assert CacheFolder(tmp_path, 100).find("a") is None
