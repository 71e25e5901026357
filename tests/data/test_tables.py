"""labels.csv in the dialects that users have, and what is refused in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.listing import Listing
from edge_deit.data.photos import list_photos

FILES = ("a.png", "b b.png", "sub/c.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    return root


def read(
    folder: Path, text: str | bytes, split: str | None = None, use: str | None = None
) -> Listing:
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "labels.csv").write_bytes(data)
    return list_photos(folder, split, use)


def pairs(found: Listing) -> list[tuple[str, str | None]]:
    return [(str(one.path.relative_to(found.root)), one.name) for one in found.photos]


ROWS = [("a.png", "1"), ("b b.png", "0"), ("sub/c.png", "1")]


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.png,1\nb b.png,0\nsub/c.png,1\n",
        "\ufefffile,label\na.png,1\nb b.png,0\nsub/c.png,1",
        "file;label\na.png;1\nb b.png;0\nsub/c.png;1\n",
        "file\tlabel\na.png\t1\nb b.png\t0\nsub/c.png\t1\n",
        "file|label\na.png|1\nb b.png|0\nsub/c.png|1\n",
        "sep=;\nfile;label\na.png;1\nb b.png;0\nsub/c.png;1\n",
        "File , Label\r\na.png, 1\r\n b b.png ,0\r\nsub/c.png ,1 \r\n",
        "file,label\ra.png,1\rb b.png,0\rsub/c.png,1\r",
        '"file","label"\n"a.png","1"\n"b b.png" , "0"\n"sub/c.png","1"\n',
        "'file','label'\n'a.png','1'\n'b b.png','0'\n'sub/c.png','1'\n",
        "label,file\n1,a.png\n0,b b.png\n1,sub/c.png\n",
        ",FILE_NAME,Class\n0,a.png,1\n1,b b.png,0\n2,sub/c.png,1\n",
        "image,note,class\na.png,,1\nb b.png,x,0\nsub/c.png,,1\n",
        "\n\nPath,label,\na.png,1,\n,,\nb b.png,0,\nsub/c.png,1,\n\n",
        "file,label\n./a.png,1\nb b.png,0\nsub\\c.png,1\n",
        "file,label\nsub/../a.png,1\nb b.png,0\nsub//c.png,1\n",
    ],
)
def test_dialects_say_the_same(text: str, folder: Path) -> None:
    found = read(folder, text)
    assert pairs(found) == ROWS
    assert (found.kind, found.classes, found.split) == ("table", ("0", "1"), None)


def test_absolute_paths_inside_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder, target_is_directory=True)
    lines = [f"{folder / 'a.png'},1", f"{link / 'b b.png'},0", f"{folder / 'sub' / 'c.png'},1"]
    text = "\n".join(["file,label", *lines])
    assert pairs(read(link, text)) == ROWS
    monkeypatch.chdir(folder.parent)
    assert pairs(list_photos(Path("link"))) == ROWS


def test_links_inside_the_folder_may_lead_out_of_it(folder: Path) -> None:
    place = folder.parent / "store.png"
    (folder / "a.png").rename(place)
    (folder / "a.png").symlink_to(place)
    assert pairs(read(folder, "file,label\na.png,cat\n")) == [("a.png", "cat")]


def test_quotes_hold_separators(folder: Path) -> None:
    found = read(folder, 'file,label\na.png,"goldfish, Carassius ""auratus"""\n')
    assert found.classes == ('goldfish, Carassius "auratus"',)


@pytest.mark.parametrize("name", ["labels.tsv", "Labels.CSV"])
def test_other_names_of_the_table(name: str, folder: Path) -> None:
    (folder / name).write_text("file\tlabel\na.png\t1\n")
    assert pairs(list_photos(folder)) == [("a.png", "1")]
    (folder / "labels.csv").write_text("file,label\na.png,0\n")
    with pytest.raises(EdgeDeitError, match="several tables of labels"):
        list_photos(folder)


def test_a_photo_that_is_listed_twice(folder: Path) -> None:
    found = read(folder, "file,label\na.png,1\n./a.png,1\nb b.png,0\n")
    assert pairs(found) == ROWS[:2]
    assert found.notes == (
        "labels.csv lists photos twice with the same label (1 line); counted once",
    )
    with pytest.raises(
        EdgeDeitError, match=r"lists \./a\.png twice, as '1' in line 2 and as '2' in line 4"
    ):
        read(folder, "file,label\na.png,1\nb b.png,0\n./a.png,2\n")
    (folder / "link.png").symlink_to("a.png")
    with pytest.raises(EdgeDeitError, match=r"lists link\.png twice"):
        read(folder, "file,label\na.png,1\nlink.png,2\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line is ''; it needs the columns file,label"),
        ("a.png,1\n", r"its first line is 'a\.png, 1'; it needs"),
        ("file label\na.png 1\n", "its first line is 'file label'"),
        ("file,label\n", "lists no image"),
        ("file,label,label\na.png,1,2\n", "several columns for the label: label, label"),
        ("image,path,label\na.png,a.png,2\n", "several columns for the file: image, path"),
        ("file,label\n../x.png,1\n", r"names '\.\./x\.png', which lies outside"),
        ("file,label\n/etc/passwd,1\n", "names '/etc/passwd', which lies outside"),
        (
            "file,label\na.png,1\ngone.png,1\nsub,1\n",
            r"2 of 3 photos that are not there: gone\.png, sub",
        ),
        (f"file,label\n{'x' * 300}.png,1\n", "1 of 1 photos that are not there"),
        ("file,label\na.png,\n", "line 2 has no label"),
        ("file,label\na.png,1\n,1\n", "line 3 has no file"),
        ("file,label\na.png\n", "line 2 has 1 cells, the first line 2"),
        ("file,label\na.png,tench, Tinca\n", "line 2 has 3 cells, the first line 2; quote"),
        ('file,label\na.png,"cat\nb b.png,dog\n', "a quote is not closed"),
        ('file,label\na.png,"cat', "a quote is not closed"),
        (b"file,label\na.png,caf\xe9\n", r"line 2 is not UTF-8 \(byte 0xe9\); save it as UTF-8"),
        ("file,label\na.png,1\n".encode("utf-16"), "is UTF-16 or damaged; save it as UTF-8"),
        ("file,label\na.png,1\n".encode("utf-16-le"), "is UTF-16 or damaged"),
        (b"file,label\na.png,1\0\n", "is UTF-16 or damaged"),
        ("file,label\na.png," + "x" * 140_000, "line 2 is not readable"),
    ],
)
def test_what_cannot_be_read_in_one_way_is_refused(
    text: str | bytes, message: str, folder: Path
) -> None:
    with pytest.raises(EdgeDeitError, match=message):
        read(folder, text)


# Splits

SPLITS = "file,label,split\na.png,1,train\nb b.png,0,val\nsub/c.png,1,val\n"


@pytest.mark.parametrize(
    ("split", "use", "files", "taken"),
    [
        (None, None, FILES, None),
        ("train", None, FILES[:1], "train"),
        ("train", "validation", FILES[:1], "train"),
        (None, "train", FILES[:1], "train"),
        (None, "validation", FILES[1:], "val"),
        (None, "calibration", FILES[:1], "train"),
    ],
)
def test_splits(
    split: str | None, use: str | None, files: tuple[str, ...], taken: str | None, folder: Path
) -> None:
    found = read(folder, SPLITS, split, use)
    assert (tuple(name for name, _ in pairs(found)), found.split) == (files, taken)
    said = f"of labels.csv, the rows of split {taken!r} are taken"
    assert (said in found.notes) == (split is None and taken is not None)


def test_splits_that_are_not_there_are_refused(folder: Path) -> None:
    with pytest.raises(EdgeDeitError, match="has no split 'test'; it has: train, val"):
        read(folder, SPLITS, "test")
    only = SPLITS.replace("val", "test")
    with pytest.raises(EdgeDeitError, match="has no split 'validation'; it has: test, train"):
        read(folder, only, use="validation")
    with pytest.raises(EdgeDeitError, match=r"has no column split.*leave --split out"):
        read(folder, "file,label\na.png,1\n", "validation")
    with pytest.raises(EdgeDeitError, match="it has: none"):
        read(folder, "file,label,split\na.png,1,\n", use="validation")


def test_a_split_need_not_have_the_photos_of_the_others(folder: Path) -> None:
    text = SPLITS + "gone.png,0,train\n"
    assert len(read(folder, text, "val")) == 2
    with pytest.raises(EdgeDeitError, match=r"not there: gone\.png"):
        read(folder, text, "train")


def test_a_photo_with_two_labels_in_two_splits_is_refused(folder: Path) -> None:
    with pytest.raises(EdgeDeitError, match="twice, as '1' in line 2 and as '0' in line 5"):
        read(folder, SPLITS + "a.png,0,val\n", "val")


def test_a_photo_in_two_splits_is_said(folder: Path) -> None:
    found = read(folder, SPLITS + "a.png,1,val\n", "val")
    assert len(found) == 3
    assert found.notes == ("labels.csv has photos in several splits: a.png",)
