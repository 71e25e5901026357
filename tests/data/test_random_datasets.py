"""Random datasets as users may have them: the answer is that of a short second reader, or a refusal."""

from __future__ import annotations

import csv
import itertools
import os
import re
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.imagenet import imagenet_classes
from edge_deit.data.label_choice import read_label_choice
from edge_deit.data.labels import match_labels
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import IMAGE_SUFFIXES

IMAGENET = [(one.synset, one.name) for one in imagenet_classes()]
WORDS = (
    "cat",
    "dog",
    "hot dog",
    "T-shirt/top",
    "Crane",
    "crane",
    "caf\xe9",
    "3D print",
    "7",
    "2000",
)
Answer = dict[str, int | None]


# The second reader


def same(name: str) -> str:
    """A name by its words."""
    if re.fullmatch(r"[+-]?\d+(\.0+)?", name):
        return name
    return " ".join(re.findall(r"[^\s_\-/\\:]+", unicodedata.normalize("NFC", name).casefold()))


def second_reader(root: Path, names: Sequence[str]) -> Answer | None:
    """File -> index of its class; None where that is not known for certain."""
    table, found = root / "labels.csv", {}
    if table.is_file():
        text = table.read_text(encoding="utf-8-sig").splitlines()
        between = max(",;\t|", key=text[0].count)
        head, *rows = csv.reader(text, delimiter=between, skipinitialspace=True)
        head = [cell.strip().lower() for cell in head]
        for row in rows:
            file = os.path.normpath(row[head.index("file")].strip())
            label = row[head.index("label")].strip()
            if found.setdefault(file, label) != label or not (root / file).is_file():
                return None
    else:
        photos = [p for p in root.rglob("*.*") if p.suffix.lower() in IMAGE_SUFFIXES]
        shown = [p.relative_to(root) for p in photos if not re.search(r"/(\.|@|__M)", str(p))]
        deep = [p for p in shown if len(p.parts) == 2]
        found = {str(p): p.parts[0] for p in deep} or {
            str(p): None for p in shown if len(p.parts) == 1
        }
    classes = {label for label in found.values() if label is not None}
    numbers = {c: int(float(c)) for c in classes if re.fullmatch(r"[+-]?\d+(\.0+)?", c)}
    numbers = {c: n for c, n in numbers.items() if 0 <= n < len(names)}
    exact = {c: [i for i, n in enumerate(names) if n == c] for c in classes}
    loose = {c: exact[c] or [i for i, n in enumerate(names) if same(n) == same(c)] for c in classes}
    ways = [{c: i[0] for c, i in loose.items() if len(i) == 1}]
    if table.is_file() and all(re.fullmatch(r"[+-]?\d+(\.0+)?", c) for c in classes):
        whole = [way for way in (ways[0], numbers) if way.keys() == classes]
        if len(whole) == 2 and whole[0] != whole[1]:
            return None
        return {file: whole[0][c] for file, c in found.items() if c} if whole else None
    if list(names) == [str(i) for i in range(len(names))] or names[0] == "tench":
        ways.append(numbers)
    if names[0] == "tench":
        firsts = [same(name) for _, name in IMAGENET]
        ways.append(
            {c: i for i, (synset, _) in enumerate(IMAGENET) for c in classes if c == synset}
        )
        ways.append(
            {c: firsts.index(s) for c in classes if firsts.count(s := same(c.split(",")[0])) == 1}
        )
    place = next((way for way in ways if way.keys() == classes), None)
    if not found or place is None or len(set(place.values())) < len(classes):
        return None
    return {file: None if c is None else place[c] for file, c in found.items()}


# Random datasets


@dataclass(frozen=True)
class Dataset:
    """Files of a folder, the model's labels, and what `--labels` names."""

    files: dict[str, bytes]
    labels: tuple[str, ...]
    choice: tuple[str, ...] | None


def spelled(draw: st.DrawFn, name: str) -> str:
    """A class's name as somebody may write it in a folder's name or a cell."""
    changed = draw(st.sampled_from((str, str, str.upper, str.title, lambda n: n.replace(" ", "_"))))
    return changed(name).replace("/", "_")


@st.composite
def models(draw: st.DrawFn) -> tuple[tuple[str, ...], tuple[str, ...] | None, list[str]]:
    """Labels of a model, the chosen ones, and names that photos may have."""
    words = tuple(draw(st.lists(st.sampled_from(WORDS), min_size=2, max_size=6, unique=True)))
    numbers = tuple(map(str, range(len(words))))
    kind = draw(st.sampled_from(("words", "words", "numbers", "chosen", "years", "imagenet")))
    if kind == "imagenet":
        some = draw(st.lists(st.integers(0, 999), min_size=1, max_size=4, unique=True))
        column = draw(st.sampled_from((0, 1)))
        names = [IMAGENET[i][column] for i in some] if draw(st.booleans()) else list(map(str, some))
        return tuple(map(str, range(1000))), tuple(name for _, name in IMAGENET), names
    if kind == "years":
        years = tuple(draw(st.permutations(("0", "1", "2", "1999"))))
        return years, None, list(years)
    if kind == "numbers":
        return numbers, None, [*numbers, *words[:1]]
    return (
        (numbers if kind == "chosen" else words),
        (words if kind == "chosen" else None),
        list(words),
    )


def number_cells(draw: st.DrawFn, count: int) -> list[str]:
    return draw(
        st.lists(st.integers(0, count), min_size=1, max_size=4).map(lambda x: list(map(str, x)))
    )


def table(draw: st.DrawFn, rows: list[tuple[str, str]]) -> bytes:
    """labels.csv in some dialect."""
    between = draw(st.sampled_from(",;\t|"))
    end = draw(st.sampled_from(("\n", "\r\n")))
    head = draw(st.sampled_from((("file", "label"), ("File", "LABEL"), ("label", "note", "file"))))
    quoted, space = draw(st.booleans()), draw(st.sampled_from(("", " ")))
    lines = []
    for file, label in [("file", "label"), *rows]:
        cells = {"file": file, "label": label, "note": "x"}
        row = [cells[name.lower()] for name in head] if lines else list(head)
        row = [f'"{cell}"' if quoted or between in cell else cell for cell in row]
        lines.append((between + space).join(row) + space)
    text = end.join(lines) + draw(st.sampled_from(("", end)))
    return text.encode("utf-8-sig" if draw(st.booleans()) else "utf-8")


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    labels, choice, names = draw(models())
    if draw(st.integers(0, 9)) == 0:
        names = [*names, "wasp"]
    layout = draw(st.sampled_from(("folders", "folders", "table", "loose")))
    cells = names
    if layout == "table" and draw(st.booleans()):
        cells = number_cells(draw, len(labels) - (draw(st.integers(0, 3)) > 0))
    picked = draw(st.lists(st.sampled_from(cells), min_size=1, max_size=5))
    number = itertools.count()
    suffix = st.sampled_from((".png", ".JPG", ".webp", ".png", ".heic", ".txt"))
    files: dict[str, bytes] = {}
    rows = []
    for name in picked:
        spelling = name if re.search(r"\d", name) else spelled(draw, name)
        top = f"{spelling}/" if layout == "folders" else draw(st.sampled_from(("", "sub/")))
        end = draw(suffix) if layout == "folders" else ".png"
        files[f"{'' if layout == 'loose' else top}{next(number)}{end}"] = b"x"
        rows.append((next(reversed(files)), name))
    if layout == "table":
        again = draw(st.integers(0, 5))
        rows += [rows[0]] if again == 1 else []
        rows += [(rows[0][0], draw(st.sampled_from(cells)))] if again == 2 else []
        rows += [("gone.png", rows[0][1])] if again == 3 else []
        files["labels.csv"] = table(draw, rows)
    junk = (
        "notes.txt",
        ".hidden.png",
        "@eaDir/a.png",
        "__MACOSX/a.png",
        ".cache/a.png",
        "cover.png",
    )
    for name in draw(st.lists(st.sampled_from(junk), max_size=3)):
        files[name] = b"x"
    return Dataset(files, labels, choice)


def read(root: Path, dataset: Dataset) -> Answer:
    """What the library says."""
    choice = None
    if dataset.choice is not None and dataset.choice[0] == "tench":
        choice = read_label_choice("imagenet-1k")
    elif dataset.choice is not None:
        file = root.parent / "names.txt"
        file.write_text("\n".join(dataset.choice) + "\n", encoding="utf-8")
        choice = read_label_choice(str(file))
    matched = match_labels(list_photos(root), dataset.labels, choice)
    return {str(one.path.relative_to(root)): one.label for one in matched.photos}


@pytest.mark.slow
@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(datasets())
def test_a_dataset_is_read_rightly_or_refused(dataset: Dataset) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "photos"
        root.mkdir()
        for name, content in dataset.files.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_bytes(content)
        right = second_reader(root, dataset.choice or dataset.labels)
        event("not known" if right is None else "known")
        if right is None:
            with pytest.raises(EdgeDeitError):
                read(root, dataset)
        else:
            assert read(root, dataset) == right
