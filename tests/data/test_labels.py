"""Which class a photo has: by name, by table, by ImageNet, and never by order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.imagenet import imagenet_classes, is_imagenet
from edge_deit.data.label_choice import LabelChoice, read_label_choice
from edge_deit.data.labels import match_labels, model_labels, training_classes
from edge_deit.data.listing import EMPTY, NESTED, LeftOut, ListedPhoto, Listing, class_order

IMAGENET = tuple(one.name for one in imagenet_classes())
NUMBERS = tuple(str(index) for index in range(1000))


def listing(*names: str, kind: str = "folders", left: tuple[LeftOut, ...] = ()) -> Listing:
    """One photo a class."""
    photos = tuple(ListedPhoto(Path("root", name, "1.png"), name) for name in names)
    return Listing(Path("root"), kind, photos, class_order(names), left_out=left)  # type: ignore[arg-type]


def matched(found: Listing, labels: tuple[str, ...], choice: str | None = None) -> list[int | None]:
    chosen = None if choice is None else read_label_choice(choice)
    return [photo.label for photo in match_labels(found, labels, chosen).photos]


@pytest.mark.parametrize(
    ("names", "labels", "indices", "how"),
    [
        (("cat", "dog"), ("dog", "bird", "cat"), [2, 0], "by exact name"),
        (("b", "a"), ("b", "a"), [0, 1], "by exact name"),
        (("Hot Dog", "cat"), ("cat", "hot_dog"), [1, 0], "by name, whatever"),
        (("T-shirt_top",), ("Bag", "T-shirt/top"), [1], "by name, whatever"),
        (("cafe\u0301",), ("x", "caf\xe9"), [1], "by name, whatever"),
        (("crane", "Crane"), ("Crane", "crane"), [1, 0], "by exact name"),
        (("0", "2"), ("0", "1", "2"), [0, 2], "by class number"),
        (("02", "10"), NUMBERS[:11], [2, 10], "by class number"),
        (("7", "3"), ("3", "7", "1"), [1, 0], "by exact name"),
        (("n01443537", "n01491361"), IMAGENET, [1, 3], "by ImageNet-1k synset"),
        (("N01443537", "n01491361"), IMAGENET, [1, 3], "by ImageNet-1k synset"),
        (("goldfish, Carassius auratus",), IMAGENET, [1], "by ImageNet-1k name"),
        (("goldfish",), tuple(f"{n}, x" for n in IMAGENET), [1], "by ImageNet-1k name"),
        (("1", "003"), IMAGENET, [1, 3], "by ImageNet-1k class number"),
    ],
)
def test_folders_are_matched_by_name(
    names: tuple[str, ...], labels: tuple[str, ...], indices: list[int], how: str
) -> None:
    found = match_labels(listing(*names), labels)
    assert [photo.label for photo in found.photos] == indices
    assert found.how.startswith(how)


@pytest.mark.parametrize(
    ("names", "labels", "message"),
    [
        (
            ("cat", "dog"),
            ("n01", "n02"),
            "2 of 2 class folders .* none of .*: cat, dog; .* n01, n02",
        ),
        (("cat", "wasp"), ("cat", "dog"), "1 of 2 class folders .*: wasp; .* cat, dog"),
        (("a", "b"), ("0", "1"), r"names no classes \(0 to 1\).*--labels FILE"),
        (("n01443537",), NUMBERS, "names no classes .*--labels imagenet-1k"),
        (("1", "2"), ("0", "1"), "names no classes"),
        (("0", "1"), ("cat", "dog"), "none of the model's classes: 0, 1"),
        (("-1", "0"), ("0", "1"), "names no classes"),
        (("Cat", "cat"), ("cat", "dog"), "'Cat' and 'cat' .* both the model's class 'cat'"),
        (("2", "02"), NUMBERS[:3], "both the model's class '2'"),
        (("crane",), IMAGENET, r"any of the model's classes 134 \(n02012849\), 517 \(n03126707\)"),
        (("hot dog",), ("Hot-dog", "hot_dog"), r"classes 0 \(Hot-dog\), 1 \(hot_dog\)"),
        (("n01443537", "goldfish bowl"), IMAGENET, "none of the model's classes: "),
        (("n01443537",), (*IMAGENET[1:], IMAGENET[0]), "none of the model's classes"),
    ],
)
def test_what_does_not_match_in_full_and_once_is_refused(
    names: tuple[str, ...], labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(EdgeDeitError, match=message):
        match_labels(listing(*names), labels)


def test_a_class_that_was_not_picked_is_matched_too() -> None:
    with pytest.raises(EdgeDeitError, match="wasp"):
        match_labels(listing("cat", "wasp").pick(1), ("cat", "dog"))


def test_photos_without_labels_stay_so() -> None:
    loose = Listing(Path("root"), "loose", (ListedPhoto(Path("a.png"), None),), ())
    found = match_labels(loose, ("cat", "dog"))
    assert ([photo.label for photo in found.photos], found.how) == ([None], "no labels")


# Tables


@pytest.mark.parametrize(
    ("cells", "labels", "indices", "how"),
    [
        (("2", "0"), ("cat", "dog", "cow"), [2, 0], "by class number"),
        (("2", "0"), ("0", "1", "2"), [2, 0], "by class number"),
        (("2.0", "0.0"), ("cat", "dog", "cow"), [2, 0], "by class number"),
        (("dog", "cow"), ("cat", "dog", "cow"), [1, 2], "by exact name"),
        (("1999", "2000"), ("2000", "1999"), [1, 0], "by exact name"),
    ],
)
def test_cells_are_numbers_or_names(
    cells: tuple[str, ...], labels: tuple[str, ...], indices: list[int], how: str
) -> None:
    found = match_labels(listing(*cells, kind="table"), labels)
    assert ([photo.label for photo in found.photos], found.how) == (indices, how)


@pytest.mark.parametrize(
    ("cells", "labels", "message"),
    [
        (("0", "2"), ("cat", "dog"), "has label 2, the model has classes 0 to 1; is this another"),
        (("-1",), ("cat", "dog"), "has label -1"),
        (
            ("1", "2"),
            ("2", "1", "0"),
            "'2' may be class number 2 or the class of that name, number 0",
        ),
        (("0", "cat"), ("cat", "dog"), "1 of 2 labels .*: 0"),
        (("1.5",), ("cat", "dog"), r"none of the model's classes: 1\.5"),
    ],
)
def test_cells_that_fit_no_way_or_two_are_refused(
    cells: tuple[str, ...], labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(EdgeDeitError, match=message):
        match_labels(listing(*cells, kind="table"), labels)


# --labels


def test_a_file_names_the_classes_of_a_model_without_names(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    found = listing("cat", "dog")
    for text, name in (
        ("dog\ncow\ncat\n", "names.txt"),
        ("\ufeffdog\r\ncow\r\ncat\r\n\r\n", "bom.txt"),
        ('["dog", "cow", "cat"]', "list.json"),
        ('{"2": "cat", "0": "dog", "1": "cow"}', "map.json"),
        ('{"id2label": {"0": "dog", "1": "cow", "2": "cat"}}', "config.json"),
    ):
        file = tmp_path / name
        file.write_bytes(text.encode())
        assert matched(found, ("0", "1", "2"), str(file)) == [2, 0]
    how = match_labels(found, ("0", "1", "2"), read_label_choice(str(file))).how
    assert how == f"by exact name, labels from {file}"


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "a.txt", "is empty"),
        (b"cat\n\ndog\n", "a.txt", "class 1 has no name"),
        (b"cat\ndog\ncat\n", "a.txt", "calls 2 classes 'cat' \\(0, 2\\)"),
        (b"caf\xe9\n", "a.txt", "not UTF-8"),
        ("cat\ndog".encode("utf-16"), "a.txt", "UTF-16"),
        (b"{", "a.json", "is no JSON"),
        (b'{"0": "cat", "2": "dog"}', "a.json", "keys are not the numbers 0 to 1"),
        (b'["cat", 3]', "a.json", "neither a list of names"),
        (b"cat\ndog\ncow\n", "a.txt", "names 3 classes, the model has 2"),
    ],
)
def test_files_of_names_that_are_none_are_refused(
    content: bytes, name: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EdgeDeitError, match=message):
        matched(listing("cat"), ("0", "1"), str(tmp_path / name))


def test_names_that_contradict_the_models_own_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("cat\ndog\n")
    with pytest.raises(EdgeDeitError, match=r"has 'cat' in place 0, the model's own .* place 1"):
        matched(listing("cat"), ("dog", "cat"), str(file))
    assert matched(listing("dog"), ("Cat", "chien"), str(file)) == [1]
    with pytest.raises(EdgeDeitError, match="no such file; give a file of names, or imagenet-1k"):
        read_label_choice("nowhere.txt")


def test_names_in_json(tmp_path: Path) -> None:
    """Known by its suffix or by how it looks; ImageNet's two names of two classes each are no mistake."""
    file = tmp_path / "names"
    file.write_text('{"id2label": {"0": "cat", "1": "dog"}}\n')
    assert read_label_choice(str(file)).names == ("cat", "dog")
    file.write_text("[cat]\n[dog\n")
    assert read_label_choice(str(file)).names == ("[cat]", "[dog")
    file.write_text('{"0": "cat", "0": "dog"}')
    with pytest.raises(EdgeDeitError, match="has the key '0' twice"):
        read_label_choice(str(file))
    file.write_text("\n".join(IMAGENET))
    choice = read_label_choice(str(file))
    assert IMAGENET.count("crane") == 2
    assert model_labels(IMAGENET, choice) == model_labels(NUMBERS, choice) == IMAGENET
    file.write_text("\n".join(("tench", "crane", *IMAGENET[2:])))
    with pytest.raises(EdgeDeitError, match=r"calls 3 classes 'crane' \(1, 134, 517\)"):
        read_label_choice(str(file))


@pytest.mark.parametrize("end", ["\n", "\r", "\u2028", "\x85"])
def test_names_of_two_lines_are_refused(end: str, tmp_path: Path) -> None:
    """Files carry names one a line, so such a name would give all behind it to the class before."""
    name = f"hot{end}dog"
    with pytest.raises(EdgeDeitError, match=r"the weights call class 1 .*--labels FILE"):
        model_labels(("cat", name), None)
    file = tmp_path / "names.json"
    file.write_text(json.dumps(["cat", name]), encoding="utf-8")
    choice = read_label_choice(str(file))
    with pytest.raises(EdgeDeitError, match=r"names\.json calls class 1 .* more than one line"):
        model_labels(("0", "1"), choice)
    assert model_labels(("cat", name), LabelChoice("x", ("cat", "dog"))) == ("cat", "dog")


def test_imagenet_by_choice() -> None:
    assert matched(listing("n01443537", "n01491361"), NUMBERS, "imagenet-1k") == [1, 3]
    assert matched(listing("goldfish", "Tiger_Shark"), NUMBERS, "imagenet-1k") == [1, 3]
    with pytest.raises(EdgeDeitError, match="names 1000 classes, the model has 10"):
        matched(listing("goldfish"), NUMBERS[:10], "imagenet-1k")
    others = tuple(f"class {index}" for index in range(1000))
    with pytest.raises(EdgeDeitError, match="the model names its classes otherwise"):
        matched(listing("goldfish"), others, "imagenet-1k")


def test_imagenets_table() -> None:
    known = imagenet_classes()
    assert [one.index for one in known] == list(range(1000))
    assert len({one.synset for one in known}) == 1000
    assert (known[0].synset, known[0].name) == ("n01440764", "tench")
    assert is_imagenet(IMAGENET)
    assert is_imagenet(tuple(one.synset for one in known))
    assert not is_imagenet(NUMBERS)


# Training


def test_classes_that_photos_teach() -> None:
    assert training_classes(listing("dog", "cat")) == ("cat", "dog")
    assert training_classes(listing("10", *map(str, range(10)))) == tuple(map(str, range(11)))
    assert training_classes(listing("1", "0", kind="table")) == ("0", "1")
    assert training_classes(listing("dog", "cat", kind="table")) == ("cat", "dog")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (Listing(Path("root"), "loose", (ListedPhoto(Path("a"), None),), ()), "has no labels"),
        (listing("a", left=(LeftOut("c", EMPTY),)), "root/c is a class folder without a photo"),
        (listing("a", left=(LeftOut("c/x", NESTED),)), "root/c/x is a folder inside a class"),
        (listing("train", "val"), "they are sets of photos, not classes; give root/train"),
        (listing("0", "2", kind="table"), "from 0 to 2, but no photo has 1"),
        (listing("-1", "0", kind="table"), "has the label -1"),
    ],
)
def test_classes_that_cannot_be_taught_are_refused(found: Listing, message: str) -> None:
    with pytest.raises(EdgeDeitError, match=message):
        training_classes(found)
