"""Photo folders in each layout, what is left out of them, and calibration sets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.calibration import calibration_set
from edge_deit.data.image_files import UNREADABLE_SUFFIXES
from edge_deit.data.listing import EMPTY, NESTED, class_order, pick_evenly
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import PreprocessSpec

SPEC = PreprocessSpec(resize_size=36, crop_size=32)


def put(path: Path) -> Path:
    """A small photo, its folders too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 40), (9, 90, 200)).save(path)
    return path


def left_out(folder: Path) -> dict[str, str]:
    return {one.file: one.reason for one in list_photos(folder).left_out}


def test_class_folders(photos: Path) -> None:
    found = list_photos(photos)
    assert found.kind == "folders"
    assert [photo.name for photo in found.photos] == ["cat"] * 8 + ["dog"] * 8
    assert found.classes == ("cat", "dog")
    assert found.remarks() == []


def test_loose_photos(photos: Path) -> None:
    found = list_photos(photos / "cat")
    assert (found.kind, found.classes, len(found)) == ("loose", (), 8)
    assert {photo.name for photo in found.photos} == {None}


def test_numbers_are_ordered_by_value() -> None:
    assert class_order(["10", "2", "1", "2"]) == ("1", "2", "10")
    assert class_order(["10", "2", "b"]) == ("10", "2", "b")


def test_pick_takes_part_of_every_class_and_keeps_their_names(photos: Path) -> None:
    found = list_photos(photos)
    assert [photo.name for photo in found.pick(4).photos] == ["cat", "cat", "dog", "dog"]
    one = found.pick(1)
    assert (len(one), one.classes) == (1, ("cat", "dog"))
    assert found.pick(None) == found
    assert pick_evenly([1, 2], 5) == [1, 2]


def test_what_lies_beside_class_folders_is_left_out_by_name(tmp_path: Path) -> None:
    kept = {put(tmp_path / name / "1.png") for name in ("ant", "bee")}
    for name in ("cover.jpg", "__MACOSX/._a.jpg", "@eaDir/a.jpg", ".thumbnails/a.jpg"):
        put(tmp_path / name)
    for name in ("ant/Thumbs.db", "ant/.DS_Store", "notes.txt", "bee/list.csv"):
        (tmp_path / name).write_text("x")
    found = list_photos(tmp_path)
    assert {photo.path for photo in found.photos} == kept
    assert left_out(tmp_path) == {
        "cover.jpg": "a photo beside class folders",
        "__MACOSX": "made by the system",
        "@eaDir": "made by the system",
        ".thumbnails": "hidden",
        "ant/Thumbs.db": "made by the system",
        "ant/.DS_Store": "hidden",
        "notes.txt": "no photo by its name",
        "bee/list.csv": "a table that is not called labels.csv",
    }
    assert "left out: cover.jpg (a photo beside class folders)" in found.remarks()


def test_long_lists_are_cut_in_the_remarks_only(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.png")
    for index in range(5):
        put(tmp_path / f"{index}.png")
    found = list_photos(tmp_path)
    assert len(found.left_out) == 5
    assert found.remarks() == [
        "left out: 0.png, 1.png, 2.png and 2 more (a photo beside class folders)"
    ]


def test_empty_and_nested_class_folders_are_named(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.png")
    put(tmp_path / "c" / "x" / "1.png")
    (tmp_path / "b").mkdir()
    assert left_out(tmp_path) == {"b": EMPTY, "c/x": NESTED, "c": EMPTY}
    assert list_photos(tmp_path).classes == ("a",)


def test_photos_of_other_kinds_are_named_with_the_remedy(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.png")
    for suffix in UNREADABLE_SUFFIXES:
        (tmp_path / "a" / f"x{suffix.upper()}").write_bytes(b"x")
    assert len(left_out(tmp_path)) == len(UNREADABLE_SUFFIXES)
    assert "heif-convert" in left_out(tmp_path)["a/x.HEIC"]
    for path in (tmp_path / "a").iterdir():
        if path.suffix != ".HEIC":
            path.unlink()
    with pytest.raises(EdgeDeitError, match=r"no image in .*left out \(\.heic cannot be read here"):
        list_photos(tmp_path)


# Links


def test_links_are_followed_and_loops_named(tmp_path: Path) -> None:
    store = put(tmp_path / "store" / "cat" / "1.png").parent
    root = tmp_path / "photos"
    put(root / "dog" / "1.png")
    (root / "cat").symlink_to(store, target_is_directory=True)
    (root / "dog" / "2.png").symlink_to(put(tmp_path / "store" / "2.png"))
    (root / "dog" / "up").symlink_to(root, target_is_directory=True)
    (root / "top").symlink_to(tmp_path, target_is_directory=True)
    (root / "dog" / "self").symlink_to(root / "dog" / "self")
    (root / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = list_photos(root)
    assert [str(one.path.relative_to(root)) for one in found.photos] == [
        "cat/1.png", "dog/1.png", "dog/2.png",
    ]  # fmt: skip
    back, nowhere = "a link that leads back to where it stands", "a link that leads nowhere"
    assert left_out(root) == {
        "dog/up": back, "top": back, "dog/self": nowhere, "dog/gone.png": nowhere,
    }  # fmt: skip


def test_a_photo_linked_twice_counts_once_and_never_in_two_classes(tmp_path: Path) -> None:
    first = put(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "2.png").symlink_to(first)
    assert len(list_photos(tmp_path)) == 1
    assert left_out(tmp_path) == {"a/2.png": "a link to a photo beside it"}
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.png").symlink_to(first)
    with pytest.raises(EdgeDeitError, match="same file in two classes"):
        list_photos(tmp_path)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = put(tmp_path / "a" / "1.png").parent
    os.rename(os.fsencode(folder / "1.png"), os.fsencode(folder) + b"/caf\xe9.png")
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    found = list_photos(tmp_path)
    assert [os.fsencode(photo.path.name) for photo in found.photos] == [b"caf\xe9.png"]
    assert found.remarks() == [r"left out: \xff (a class folder without a photo)"]


# What is no folder of photos


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("d4.zip", "is an archive, which is not taken; unpack it"),
        ("d4.tar.gz", "is an archive"),
        ("d4.TGZ", "is an archive"),
        (
            "https://example.org/d4",
            "https://example.org/d4 is an address, which is not taken; download it",
        ),
        ("s3://bucket/d4", "is an address"),
        ("nowhere", "does not exist"),
    ],
)
def test_what_is_no_folder_is_refused_by_what_it_is(name: str, message: str) -> None:
    with pytest.raises(EdgeDeitError, match=message):
        list_photos(Path(name))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(EdgeDeitError, match="is a file, which is not taken"):
        list_photos(put(tmp_path / "a.png"))


def test_empty_folders_and_folders_one_level_too_high(tmp_path: Path) -> None:
    with pytest.raises(EdgeDeitError, match="no image in"):
        list_photos(tmp_path)
    put(tmp_path / "data" / "cat" / "1.png")
    with pytest.raises(EdgeDeitError, match=r"classes may lie deeper: give .*/data"):
        list_photos(tmp_path)


def test_a_split_of_what_has_none_is_refused(photos: Path) -> None:
    with pytest.raises(EdgeDeitError, match="no split 'validation'; leave --split out"):
        list_photos(photos, "validation")
    assert len(list_photos(photos, use="validation")) == 16


# Calibration


def test_calibration_hash_covers_photos_order_and_preprocessing(photos: Path) -> None:
    first = calibration_set(photos, SPEC, 6)
    assert first.pixels.shape == (6, 3, 32, 32)
    assert first.pixels.dtype == torch.float32
    assert [photo.shape for photo in first] == [(1, 3, 32, 32)] * 6
    assert calibration_set(photos, SPEC, 6).sha256 == first.sha256
    assert calibration_set(photos, SPEC, 5).sha256 != first.sha256
    other = PreprocessSpec(resize_size=37, crop_size=32)
    assert calibration_set(photos, other, 6).sha256 != first.sha256


def test_calibration_labels_are_matched_by_name_when_asked_for(photos: Path) -> None:
    found = calibration_set(photos, SPEC, 4)
    assert found.labels == ()
    assert found.with_labels(("dog", "bird", "cat"), None).labels == (2, 2, 0, 0)
    with pytest.raises(EdgeDeitError, match="none of the model's classes: cat"):
        found.with_labels(("dog", "bird"), None)
