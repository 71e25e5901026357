#!/usr/bin/env python3
"""What other people's programs answer beside `predict`, and what a free batch costs: docs/clients.md.

    EDGE_DEIT_REAL=FOLDER python benchmarks/clients.py --output DIR [--table NAME]

The programs are those of `make test-clients`, in the same environments, which are made when first needed
(~/.cache/edge-deit-clients). `same five` counts photos with the same five classes in the same order,
`score` is the largest difference of a probability among classes that both name.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final, NoReturn

import numpy as np
import onnxruntime
import pytest
import typer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "clients"))

from hugging_face import DTYPES, in_chromium, in_node, in_optimum
from page import PAGE_FILES, make_page, visit
from sources import (
    Answers,
    export_files,
    export_page_files,
    named,
    reference,
    validation_photos,
    write_squares,
)

from edge_deit.artefacts.manifest import read_manifest
from edge_deit.common.console import new_app, run
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import write_text
from edge_deit.data.preprocess import load_pixels
from edge_deit.exporters.huggingface import FILE_NAMES
from tables.grid import Grid, show, to_markdown

__all__ = ["clients", "compared"]

app = new_app(__doc__)

_COLUMNS: Final = ("runner", "file", "same answer", "same five", "score")
_UNTIMED, _RUNS, _MANY, _THREADS = 5, 50, 32, 2


@app.command()
def clients(
    output: Annotated[Path, typer.Option(help="Folder for the files and clients.md.")],
    table: Annotated[
        list[str] | None, typer.Option(help="huggingface, photos, page or batch; default: all.")
    ] = None,
) -> None:
    """Export, ask every program, and print the tables."""
    if unknown := sorted({*(table or ())} - {*_TABLES}):
        raise EdgeDeitError(f"no table {unknown[0]!r}; choose one of: {', '.join(_TABLES)}")
    output.mkdir(parents=True, exist_ok=True)
    grids = []
    for name in table or _TABLES:
        try:
            grids.append(_TABLES[name](output))
        except pytest.skip.Exception as reason:  # how the environments say what is missing
            _missing(str(reason))
        show(grids[-1])
    write_text(output / "clients.md", to_markdown(grids) + "\n")


def _missing(reason: str) -> NoReturn:
    raise EdgeDeitError(f"a program is missing: {reason}")


def compared(found: Answers, wanted: Answers) -> tuple[str, str, str]:
    """The last three cells of a row, for answers to the same photos.

    >>> compared({"a": [("cat", 0.75), ("dog", 0.25)]}, {"a": [("cat", 0.5), ("hen", 0.25)]})
    ('1 of 1', '0 of 1', '0.25')
    """
    assert found.keys() == wanted.keys()
    pairs = [(found[photo], wanted[photo]) for photo in wanted]
    answers = sum(mine[0][0] == theirs[0][0] for mine, theirs in pairs)
    fives = sum([name for name, _ in a] == [name for name, _ in b] for a, b in pairs)
    scores = [abs(s - dict(b)[name]) for a, b in pairs for name, s in a if name in dict(b)]
    return f"{answers} of {len(pairs)}", f"{fives} of {len(pairs)}", f"{max(scores):.2g}"


def _folder(output: Path) -> Path:
    """The folder of `--layout huggingface`, made once."""
    return _once(output / "huggingface", lambda made: export_files(made, 8, layout="huggingface"))


def _once(folder: Path, make: Callable[[Path], object]) -> Path:
    """The folder, which `make` writes where there is none; it appears whole."""
    if not folder.is_dir():
        begun = folder.with_name(f".{folder.name}")
        shutil.rmtree(begun, ignore_errors=True)
        make(begun)
        begun.rename(folder)
    return folder


def _file(folder: Path, precision: str) -> Path:
    return folder / "onnx" / FILE_NAMES[precision]  # type: ignore[index]


def _squares(folder: Path, scratch: Path) -> list[Path]:
    write_squares(_file(folder, "fp32"), validation_photos(), scratch / "squares")
    return sorted((scratch / "squares").glob("*.png"))


def _hugging_face(output: Path) -> Grid:
    folder, photos, rows = _folder(output), validation_photos(), []
    with tempfile.TemporaryDirectory() as scratch:
        squares = _squares(folder, Path(scratch))
        for precision in DTYPES:
            file = _file(folder, precision)
            whole, cut = reference(file, photos), reference(file, squares)
            one, three = in_optimum(folder, precision, photos)
            browser = in_chromium(folder, precision, squares, Path(scratch) / precision)
            rows += [
                ("optimum", file.name, *compared(one, whole)),
                ("optimum, three at once", file.name, *compared(three, whole)),
                ("transformers.js in Node", file.name, *compared(in_node(folder, precision, squares), cut)),
                ("transformers.js in Chromium", file.name, *compared(browser, cut)),
            ]  # fmt: skip
    return Grid("The folder of --layout huggingface", _COLUMNS, tuple(sorted(rows, key=_program)))


def _program(row: tuple[str, ...]) -> str:
    return row[0]


def _photos_as_they_are(output: Path) -> Grid:
    folder, photos = _folder(output), validation_photos()
    wanted = reference(_file(folder, "fp32"), photos)
    with tempfile.TemporaryDirectory() as scratch:
        browser = in_chromium(folder, "fp32", photos, Path(scratch))
    rows = (
        ("transformers.js in Node", *compared(in_node(folder, "fp32", photos), wanted)),
        ("transformers.js in Chromium", *compared(browser, wanted)),
    )
    return Grid("Photos as they are, model.onnx", ("runner", *_COLUMNS[2:]), rows)


def _page(output: Path) -> Grid:
    folder, photos, rows = _once(output / "page", export_page_files), validation_photos(), []
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        make_page([named(folder, ending) for ending in PAGE_FILES], work / "page")
        for ending in PAGE_FILES:
            file = named(folder, ending)
            asked = {"model": file.name, "backend": "wasm", "photos": [str(one) for one in photos]}
            (said,) = visit(work / "page", {"step": "answers", **asked}, work=work)
            found = {Path(photo).stem: _shown(one["top"]) for photo, one in said.items()}
            rows.append((ending, *compared(found, reference(file, photos))))
    return Grid("web_demo in Chromium, WebAssembly", _COLUMNS[1:], tuple(rows))


def _shown(top: list[list[str]]) -> list[tuple[str, float]]:
    """What the page shows: names with tenths of a percent."""
    return [(name, float(percent.removesuffix(" %")) / 100) for name, percent in top]


def _free_batch(output: Path) -> Grid:
    folder, rows = _folder(output), []
    wanted = {"targets": ["onnx"], "precisions": ["fp32", "int8"]}
    single = _once(output / "single", lambda made: export_files(made, 8, **wanted))
    spec = read_manifest(_file(folder, "fp32")).preprocess_spec
    photo = load_pixels(validation_photos(1)[0], spec).reshape(1, 3, *[spec.crop_size] * 2)
    for precision in ("fp32", "int8"):
        runs = [
            _session(named(single, f"{precision}.onnx"), photo),
            _session(_file(folder, precision), photo),
            _session(_file(folder, precision), photo.repeat(_MANY, axis=0)),
        ]
        one, free, many = _medians_ms(runs)
        rows.append((precision, *(f"{ms:.1f} ms" for ms in (one, free, many / _MANY))))
    head = (
        "file",
        "one photo, file for one",
        "one photo, free batch",
        f"{_MANY} photos at once, each",
    )
    version = onnxruntime.__version__
    note = f"ONNX Runtime {version}, {_THREADS} threads, median of {_RUNS} runs in turns"
    return Grid("What a free batch costs", head, tuple(rows), (note,))


def _session(path: Path, pixels: np.ndarray) -> Callable[[], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _THREADS
    session = onnxruntime.InferenceSession(path, options)
    source = {session.get_inputs()[0].name: pixels}
    return lambda: session.run(None, source)


def _medians_ms(runs: list[Callable[[], object]]) -> Iterator[float]:
    """Of the runs in turns, the first few not counted."""
    times = np.zeros((_UNTIMED + _RUNS, len(runs)))
    for turn in times:
        for place, call in enumerate(runs):
            started = time.perf_counter()
            call()
            turn[place] = 1000 * (time.perf_counter() - started)
    yield from np.median(times[_UNTIMED:], axis=0)


_TABLES: Final[dict[str, Callable[[Path], Grid]]] = {
    "huggingface": _hugging_face,
    "photos": _photos_as_they_are,
    "page": _page,
    "batch": _free_batch,
}

if __name__ == "__main__":
    run(app, "python benchmarks/clients.py")
