#!/usr/bin/env python3
"""What a validation costs against the number of photos, and against the size of the model.

    python benchmarks/scale.py --data DIR --output DIR [--photos 1000 --photos 4000] [--into FILE.md]

Photos are hard links to those of DIR (EDGE_DEIT_REAL's by default), as many as asked for. The models have
random weights, as what is computed costs the same whatever it is; they are exported in fp32. Each run is a
process of its own: one artefact beside its float model, with a journal, without latency. The first model
runs on every number of photos, each model on `--model-photos`. It writes scale.json and scale.md; `--into`
puts the tables between the marks `<!-- scale -->` and `<!-- /scale -->`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import torch
import typer

from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.console import new_app, progress, run, status_console
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import write_text
from edge_deit.common.host import describe_host
from edge_deit.conversion.run import export_model
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import default_spec
from edge_deit.evaluation.latency import JsonProcess
from edge_deit.exporters import tool_versions
from edge_deit.model.config import variant
from edge_deit.model.deit import DeiT
from harness.real import real_folder
from tables.grid import insert, show, to_markdown
from tables.results import grids, write_result

app = new_app(__doc__)

_FOLDER: Final = Path(__file__).parent


@app.command()
def scale(
    output: Annotated[Path, typer.Option(help="Folder for scale.json and scale.md.")],
    data: Annotated[Path | None, typer.Option(help="Photos; default: EDGE_DEIT_REAL's.")] = None,
    photos: Annotated[list[int], typer.Option(help="Numbers of photos.")] = [1000, 4000, 16000],  # noqa: B006
    models: Annotated[list[str], typer.Option("--model", help="The smallest first.")] = [  # noqa: B006
        *("deit_tiny", "deit_small", "deit_base"),
    ],
    model_photos: Annotated[int, typer.Option(help="Photos for each model.")] = 200,
    image_size: Annotated[
        int, typer.Option(help="Pixels a side of the models' input; fewer make all quicker.")
    ] = 224,
    target: Annotated[str, typer.Option()] = "onnx",
    threads: Annotated[int, typer.Option(help="Threads of the models.")] = 2,
    workers: Annotated[int, typer.Option(help="Processes that decode photos.")] = 2,
    into: Annotated[Path | None, typer.Option(help="Markdown file to put the tables into.")] = None,
) -> None:
    """Measure and write the tables."""
    source = list_photos(data or real_folder() / "imagenet400", use="validation")
    paths = [photo.path.absolute() for photo in source.photos]
    host = describe_host(tool_versions())
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        files = {name: _exported(name, image_size, target, paths, work / name) for name in models}
        asked = (threads, workers)
        result: dict[str, Any] = {
            "kind": "scale",
            "host": host,
            "settings": {
                "threads": threads,
                "workers": workers,
                "models": models,
                "image_size": image_size,
            },
            "photos": [_cost(files[models[0]], paths, count, asked) for count in photos],
            "models": [
                {"model": name, **_cost(files[name], paths, model_photos, asked)} for name in models
            ],
        }
    write_result(result, output / "scale.json")
    tables = grids(result)
    if into is not None:
        document = into.read_text(encoding="utf-8")
        write_text(into, insert(document, result["kind"], to_markdown(tables)))
    for table in tables:
        show(table)


def _exported(
    name: str, image_size: int, target: str, photos: Sequence[Path], folder: Path
) -> Path:
    """A file of the variant with random weights, fp32."""
    folder.mkdir()
    torch.manual_seed(0)
    config = replace(variant(name), image_size=image_size)
    model = DeiT(config).eval()
    labels = tuple(str(index) for index in range(config.num_classes))
    weights = folder / "weights.safetensors"
    save_checkpoint(weights, model, default_spec(config.image_size), labels, half=False)
    found = export_model(
        str(weights),
        targets=[target],
        precisions=["fp32"],
        output=folder,
        calibration=photos[0].parent,
        parity_images=2,
    )
    return found.artefacts[0].path


def _cost(
    artefact: Path, paths: Sequence[Path], count: int, asked: tuple[int, int]
) -> dict[str, Any]:
    """What one evaluation on so many photos cost."""
    if count < 1:
        raise EdgeDeitError(f"--photos is {count}, it must be at least 1")
    threads, workers = asked
    with tempfile.TemporaryDirectory() as folder, progress() as bar:
        data = Path(folder) / "photos"
        data.mkdir()
        for index in range(count):
            path = paths[index % len(paths)]
            _link(path, data / f"{index:06d}{path.suffix}")
        arguments = (
            "-m",
            "harness.many",
            artefact,
            data,
            threads,
            workers,
            Path(folder) / "journal",
        )
        with JsonProcess(artefact.name, threads, arguments, _FOLDER) as worker:
            for _ in bar.track(range(count), description=f"{artefact.name}: {count} photos"):
                worker.answer()
            found = worker.answer()
            worker.finish()
    status_console().print(f"{artefact.name}: {count} photos in {found['seconds']:.0f} s")
    return dict(found)


def _link(path: Path, place: Path) -> None:
    """A second name for the file, not one that leads to it: a photo that is there twice is taken once."""
    try:
        os.link(os.path.realpath(path), place)
    except OSError:  # another file system
        shutil.copyfile(path, place)


if __name__ == "__main__":
    run(app, "python benchmarks/scale.py")
