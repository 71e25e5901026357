"""Processes decode photos as this process would, and a photo that ends one is a broken photo."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path
from edge_deit.data.preprocess import PreprocessSpec, load_pixels
from edge_deit.evaluation import decode, decoder
from edge_deit.evaluation.decode import DecoderDiedError, decoded_ahead

SPEC = PreprocessSpec(resize_size=36, crop_size=32)


def children() -> set[str]:
    """Processes that this one started."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {pid for task in tasks for pid in task.read_text(encoding="ascii").split()}


def test_many_photos_are_decoded_by_processes(photos: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no photo")
    paths = [*sorted(photos.glob("*/*.png")), broken]
    expected = [(load_pixels(path, SPEC), hash_path(path)) for path in paths[:-1]]
    before, threads, seen = children(), threading.active_count(), set[str]()
    with pytest.raises(EdgeDeitError) as here:
        load_pixels(broken, SPEC)
    with contextlib.closing(decoded_ahead(paths * 5, SPEC, 2)) as found:
        for place, one in enumerate(found):
            seen |= children() - before
            if place % len(paths) == len(paths) - 1:
                with pytest.raises(EdgeDeitError) as there:
                    one.result()
                assert str(there.value) == str(here.value)
                continue
            pixels, sha256 = one.result()
            wanted = expected[place % len(paths)]
            assert (pixels.dtype, sha256) == (wanted[0].dtype, wanted[1])
            assert np.array_equal(pixels, wanted[0])
            if place == 70:
                break
    assert len(seen) == 2
    assert (children(), threading.active_count()) == (before, threads), "closed in the middle"
    with contextlib.closing(decoded_ahead(paths, SPEC, 2)) as few:
        next(few).result()
        assert children() == before


def test_a_photo_that_crashes_the_decoder_is_a_broken_one_and_the_next_is_read(
    photos: Path,
) -> None:
    path = next(photos.glob("*/*.png"))
    decoder = decode._Decoder()
    try:
        _, sha256 = decoder(path, SPEC)
        for number in (signal.SIGSEGV, signal.SIGKILL):
            os.kill(decoder._process.pid, number)
            decoder._process.wait()
            with pytest.raises(EdgeDeitError, match=f"{path}.*{number.name}") as found:
                decoder(path, SPEC)
            assert isinstance(found.value, DecoderDiedError) == (number == signal.SIGKILL)
            assert decoder(path, SPEC)[1] == sha256
    finally:
        decoder.close()


def test_a_photo_that_goes_while_it_is_read_is_a_broken_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "photo.png"

    def read(path: Path, spec: PreprocessSpec) -> np.ndarray:
        path.write_bytes(next(photos.glob("*/*.png")).read_bytes())
        pixels = load_pixels(path, spec)
        path.unlink()
        return pixels

    monkeypatch.setattr(decode, "load_pixels", read)
    with contextlib.closing(decoded_ahead([path], SPEC, 1)) as found:
        (one,) = found
        with pytest.raises(
            EdgeDeitError, match=r"photo\.png cannot be read any more: No such file"
        ):
            one.result()
    answer, _ = decoder._decoded({"path": str(path), "spec": SPEC.to_json()})
    assert "photo.png cannot be read any more" in answer["error"]
