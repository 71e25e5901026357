"""Photo folders in each layout, and calibration sets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.calibration import calibration_set
from edge_deit.data.photos import Photo, class_names, list_photos, pick_evenly
from edge_deit.data.preprocess import PreprocessSpec

SPEC = PreprocessSpec(resize_size=36, crop_size=32)


def test_class_folders(photos: Path) -> None:
    found = list_photos(photos)
    assert [photo.label for photo in found] == [0] * 8 + [1] * 8
    assert class_names(photos) == ["cat", "dog"]


def test_table_with_splits(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "file,label,split\na.png,3,calibration\nb.png,1,validation\n", encoding="utf-8"
    )
    assert list_photos(tmp_path, "validation") == [Photo(tmp_path / "b.png", 1)]
    assert len(list_photos(tmp_path)) == 2
    with pytest.raises(EdgeDeitError, match="it has: calibration, validation"):
        list_photos(tmp_path, "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.png,1\n", "columns file,label"),
        ("file,label\na.png,cat\n", "columns file,label"),
        ("file,label\n", "lists no image"),
        ("file,label\n../../etc/passwd,1\n", "outside its folder"),
    ],
)
def test_broken_tables(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(EdgeDeitError, match=message):
        list_photos(tmp_path)


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(EdgeDeitError, match="no image in"):
        list_photos(tmp_path)
    with pytest.raises(EdgeDeitError, match="does not exist"):
        list_photos(tmp_path / "nowhere")


def test_spread_takes_part_of_every_class(photos: Path) -> None:
    labels = [photo.label for photo in pick_evenly(list_photos(photos), 4)]
    assert labels == [0, 0, 1, 1]


def test_calibration_hash_covers_photos_order_and_preprocessing(photos: Path) -> None:
    first = calibration_set(photos, SPEC, 6)
    assert first.pixels.shape == (6, 3, 32, 32)
    assert first.pixels.dtype == torch.float32
    assert [photo.shape for photo in first] == [(1, 3, 32, 32)] * 6
    assert calibration_set(photos, SPEC, 6).sha256 == first.sha256
    assert calibration_set(photos, SPEC, 5).sha256 != first.sha256
    other = PreprocessSpec(resize_size=37, crop_size=32)
    assert calibration_set(photos, other, 6).sha256 != first.sha256
