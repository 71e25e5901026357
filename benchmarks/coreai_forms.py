#!/usr/bin/env python3
"""What `--form cpu` and `--form ane` cost and give in Core AI, and in Core ML, beside the stock conversion.

    EDGE_DEIT_REAL=FOLDER python benchmarks/coreai_forms.py --output DIR

So do both with whole norms, and with attention head by head (`apple_forms.variants`). Operators are counted
by Core AI's own summary of a file, and from the program of a Core ML package. Core AI's files are run by
Apple's runtime, on one thread and in turns, so that times are ratios; Core ML's by reference numerics.
Files that lie in DIR already are taken as they are. The tables are in docs/benchmarks.md, "Core AI".
"""

from __future__ import annotations

import fnmatch
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
import typer
from apple_forms.variants import changed

from edge_deit.checkpoint.load import Checkpoint, load_model
from edge_deit.common.console import new_app, progress, run
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import size_of, write_text
from edge_deit.common.quiet import quiet
from edge_deit.data.photos import list_photos
from edge_deit.data.preprocess import load_pixels
from edge_deit.exporters import ExportRequest, Form, Runner
from edge_deit.exporters import target as find_target
from edge_deit.metrics.outputs import closeness
from edge_deit.model.deploy import deploy
from edge_deit.quantization.scheme import Precision, Scheme
from harness.real import real_folder
from tables.grid import Grid, show, to_markdown
from toolchains.builders import Source, coreai_float32
from toolchains.runners import load_stock

__all__ = ["coreai_forms"]

app = new_app(__doc__)

_UNTIMED: Final = 2
_FORMS: Final[dict[str, tuple[Form, tuple[str, ...]]]] = {
    "cpu": ("cpu", ()),
    "cpu, whole norms": ("cpu", ("norms",)),
    "cpu, head by head": ("cpu", ("heads",)),
    "ane": ("ane", ()),
    "ane, whole norms": ("ane", ("norms",)),
    "ane, head by head": ("ane", ("heads",)),
    "ane, head by head, softmax over channels": ("ane", ("keys first",)),
    "ane, whole norms, head by head": ("ane", ("norms", "heads")),
}
_STOCK: Final = "stock, plain model"
_KINDS: Final = (
    *("conv2d", "conv", "linear", "batch_matmul", "matmul", "einsum", "softmax"),
    *("layer_norm", "invoke", "transpose", "reshape", "split", "concat", "cast"),
)


@app.command()
def coreai_forms(
    output: Annotated[Path, typer.Option(help="Folder for the files and forms.md.")],
    images: Annotated[int, typer.Option(help="Validation photos for the noise in fp32.")] = 20,
    half_images: Annotated[int, typer.Option(help="Of these, in fp16, which is emulated.")] = 2,
    runs: Annotated[int, typer.Option(help="Timed inferences of each fp32 file, in turns.")] = 20,
    only: Annotated[str, typer.Option(help="Shell pattern of the forms, such as 'ane*'.")] = "*",
) -> None:
    """Write every file, count its operators, run it on photos and time it."""
    checkpoint = load_model(str(real_folder() / "deit_tiny_patch16_224" / "model.safetensors"))
    photos = list_photos(real_folder() / "imagenet400", use="validation").pick(images).photos
    pixels = np.concatenate([load_pixels(one.path, checkpoint.preprocess) for one in photos])
    with torch.no_grad():
        parts = torch.from_numpy(pixels).split(1)
        reference = np.concatenate([checkpoint.model(x).numpy() for x in parts])
    output.mkdir(parents=True, exist_ok=True)
    if not (forms := fnmatch.filter(_FORMS, only)):
        raise EdgeDeitError(f"--only {only!r} fits nothing; there are: {'; '.join(_FORMS)}")
    single = {name: _write(checkpoint, "coreai", "fp32", name, output) for name in forms}
    single[_STOCK] = output / "stock.aimodel"
    if not single[_STOCK].exists():
        with quiet():
            coreai_float32(Source(checkpoint.model, parts, 0), single[_STOCK])
    half = {name: _write(checkpoint, "coreai", "fp16", name, output) for name in forms}
    packages = {name: _write(checkpoint, "coreml", "fp16", name, output) for name in forms}
    few = half_images
    grids: list[Grid] = []
    grids.append(_measured("coreai", single, pixels, reference, runs)[0])
    grids.append(_counted(single, _summary, "Core AI: operators in a file, fp32"))
    grids.append(_counted(packages, _program, "Core ML: operators in a package, fp16"))
    table, others = _measured("coreml", packages, pixels, reference, 0)
    grids.append(table)
    table, found = _measured("coreai", half, pixels[:few], reference[:few], 0)
    grids.append(table)
    grids.append(_compared(found, {name: logits[:few] for name, logits in others.items()}))
    write_text(output / "forms.md", to_markdown(grids) + "\n")
    for grid in grids:
        show(grid)


def _write(
    checkpoint: Checkpoint, target: str, precision: Precision, name: str, output: Path
) -> Path:
    found, (layout, changes) = find_target(target), _FORMS[name]
    path = output / f"{name.replace(', ', '-').replace(' ', '_')}.{precision}{found.suffix}"
    form = deploy(checkpoint.model)
    request = ExportRequest(
        model=changed(form, layout, changes) if changes else form,
        example=torch.zeros(1, 3, checkpoint.config.image_size, checkpoint.config.image_size),
        scheme=Scheme(precision),
        calibration=None,
        output=path,
        backend=found.backends[0],
        form="cpu" if changes else layout,  # a changed form has its layout already
    )
    if not path.exists():
        with quiet():
            found.export(request)
    return path


def _measured(
    target: str, files: Mapping[str, Path], pixels: np.ndarray, reference: np.ndarray, runs: int
) -> tuple[Grid, dict[str, np.ndarray]]:
    """SNR, the answer, bytes; processor time of one photo, as ratio to the last file's; and the logits."""
    with quiet():
        runners = {name: load_stock(target, path, 1) for name, path in files.items()}
    logits: dict[str, list[np.ndarray]] = {name: [] for name in files}
    seconds: dict[str, list[float]] = {name: [] for name in files}
    with progress() as bar:
        task = bar.add_task("photos and rounds", total=len(pixels) + runs)
        for number in range(len(pixels) + runs):
            for name, runner in runners.items():
                took, found = _timed(runner, pixels[number % len(pixels)][None])
                seconds[name].append(took)
                logits[name] += [found] if number < len(pixels) else []
            bar.advance(task)
    rows, outputs = [], {name: np.concatenate(found) for name, found in logits.items()}
    for name, path in files.items():
        near = closeness(reference, outputs[name], classes=True)
        counted = np.array(seconds[name][_UNTIMED if runs else 0 :])
        last = np.array(seconds[list(files)[-1]][_UNTIMED if runs else 0 :])
        cells = (f"{near.snr_db:.1f}", f"{100 * (near.agreement or 0):.0f} %")
        size = f"{size_of(path) / 1e6:.2f}"
        rows.append(
            (name, *cells, size, f"{np.median(counted):.2f}", f"{np.median(counted / last):.2f}")
        )
    heading = f"{find_target(target).runtime.label} on {len(pixels)} photos"
    columns = ("file", "SNR, dB", "same answer", "MB", "processor s a photo", "of the last row's")
    note = "ratios are medians of files run in turns."
    return Grid(heading, columns, tuple(rows), (note,)), outputs


def _compared(found: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> Grid:
    """Core AI's runtime beside reference numerics of the same form as a Core ML package."""
    near = {name: closeness(others[name], one, classes=True) for name, one in found.items()}
    rows = tuple((name, f"{one.snr_db:.1f}") for name, one in near.items())
    heading = "fp16: Core AI's runtime against reference numerics for Core ML"
    return Grid(heading, ("file", "SNR, dB"), rows, ())


def _timed(runner: Runner, photo: np.ndarray) -> tuple[float, np.ndarray]:
    started = time.process_time()
    found = runner(photo)
    return time.process_time() - started, found


def _counted(files: Mapping[str, Path], count: Any, heading: str) -> Grid:
    counts = {name: count(path) for name, path in files.items()}
    kinds = [kind for kind in _KINDS if any(found[kind] for found in counts.values())]
    rows = [(kind, *(str(found[kind]) for found in counts.values())) for kind in kinds]
    total = ("all but constants", *(str(found.total()) for found in counts.values()))
    return Grid(heading, ("operator", *counts), (*rows, total), ())


def _summary(path: Path) -> Counter[str]:
    from coreai.authoring import AIModelAsset

    found = Counter(dict(AIModelAsset.load(path).summary().operation_distribution))
    del found["constant"]
    return found


def _program(path: Path) -> Counter[str]:
    from edge_deit.exporters.mlpackage import read_specification

    (function,) = read_specification(path).mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    return Counter(one.type for one in block.operations if one.type != "const")


if __name__ == "__main__":
    run(app, "python benchmarks/coreai_forms.py")
